"""Digests of what a run reads from outside its own folder."""

from __future__ import annotations

from clinimm.core.record import digest_file, digest_json
from clinimm.workspace import Workspace


def external_inputs(workspace: Workspace, kinds: tuple[str, ...]) -> dict[str, str]:
    """Name of the outside thing -> SHA-256, for each of ``sources``, ``cohort``, ``policy``.

    A source is digested by its listing (path, size, modification time), not by its bytes, so
    that a large export is not read twice.
    """
    found: dict[str, str] = {}
    for kind in kinds:
        found |= _KINDS[kind](workspace)
    return found


def _sources(workspace: Workspace) -> dict[str, str]:
    from clinimm.core.pseudonym import load_pseudonymiser
    from clinimm.sources import build_sources

    # Another key gives other pseudonyms. The fingerprint is a keyed hash and does not tell the key.
    key = load_pseudonymiser(workspace.config.ingest.pseudonym_key_file)
    found = {"pseudonym key": key.hash("fingerprint", "")}
    return found | {
        f"source {number}": digest_json([[file.path, file.size, file.modified_ns] for file in source.files()])
        for number, source in enumerate(build_sources(workspace.config))
    }


def _cohort(workspace: Workspace) -> dict[str, str]:
    from clinimm.cohort.stage import outside_files

    return {f"cohort file {path.name}": digest_file(path) for path in outside_files(workspace)}


def _policy(workspace: Workspace) -> dict[str, str]:
    from clinimm.audit.policy import find_policy

    return {"policy file": digest_file(find_policy(workspace.config.audit.policy))}


_KINDS = {"sources": _sources, "cohort": _cohort, "policy": _policy}
