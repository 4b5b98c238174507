"""Digests of what a run reads from outside its own folder."""

from __future__ import annotations

from datetime import date

from clinimm.core.record import digest_file, digest_json
from clinimm.workspace import Workspace


def external_inputs(
    workspace: Workspace, kinds: tuple[str, ...], without_sources: bool = False
) -> dict[str, str]:
    """Name of the outside thing -> SHA-256, for each of ``sources``, ``cohort``, ``policy``, ``waivers``,
    ``findings`` and ``before``, the run that a mitigation is compared with.

    A source is digested by its listing (path, size, modification time), not by its bytes, so
    that a large export is not read twice.

    Args:
        workspace: the run.
        kinds: which.
        without_sources: leave out what lies in the folders of the sources, which are not here.
    """
    found: dict[str, str] = {}
    for kind in kinds:
        found |= (_WITHOUT_SOURCES if without_sources else _KINDS)[kind](workspace)
    return found


def sources_are_here(workspace: Workspace) -> bool:
    """Whether the folders of the sources can be looked at: a finished run may lie elsewhere."""
    return all(source.root.expanduser().is_dir() for source in workspace.config.sources)


def _sources(workspace: Workspace) -> dict[str, str]:
    from clinimm.origin import KEY_INPUT, key_fingerprint
    from clinimm.sources import build_sources

    # Another key gives other pseudonyms.
    return {KEY_INPUT: key_fingerprint(workspace.config)} | {
        f"source {number}": digest_json([[file.path, file.size, file.modified_ns] for file in source.files()])
        for number, source in enumerate(build_sources(workspace.config))
    }


def _cohort(workspace: Workspace) -> dict[str, str]:
    from clinimm.cohort.stage import outside_files

    # Without the files' names: a run that was taken elsewhere reads its own copy.
    names = ("cohort file", "folds file")
    return {name: digest_file(path) for name, path in zip(names, outside_files(workspace), strict=False)}


def _policy(workspace: Workspace) -> dict[str, str]:
    from clinimm.audit.policy import find_policy

    return {"policy file": digest_file(find_policy(workspace.config.audit.policy))}


def _waivers(workspace: Workspace) -> dict[str, str]:
    """The file of waivers, and which hold today: an audit goes stale when one ends."""
    path = workspace.config.audit.waivers
    if path is None:
        return {}
    from clinimm.audit.waiver import load_waivers

    today = date.today()
    in_force = [waiver.signed <= today <= waiver.until for waiver in load_waivers(path)]
    return {"waivers file": digest_file(path), "waivers in force": digest_json(in_force)}


def _findings(workspace: Workspace) -> dict[str, str]:
    path = workspace.config.explain.findings
    return {"findings file": digest_file(path)} if path is not None and path.is_file() else {}


def _before(workspace: Workspace) -> dict[str, str]:
    mitigation = workspace.config.audit.mitigation
    if mitigation is None or mitigation.before is None:
        return {}
    read = {"run before, predictions": "predict/predictions.parquet", "run before": "evaluate/metrics.json"}
    paths = {name: mitigation.before / path for name, path in read.items()}
    return {name: digest_file(path) for name, path in paths.items() if path.is_file()}


def _cohort_alone(workspace: Workspace) -> dict[str, str]:
    from clinimm.cohort.stage import cohort_file

    return {"cohort file": digest_file(cohort_file(workspace))}


def _nothing(workspace: Workspace) -> dict[str, str]:
    return {}


_KINDS = {
    "sources": _sources,
    "cohort": _cohort,
    "policy": _policy,
    "waivers": _waivers,
    "findings": _findings,
    "before": _before,
}
_WITHOUT_SOURCES = _KINDS | {"sources": _nothing, "cohort": _cohort_alone}
