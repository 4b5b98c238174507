"""Run one stage, say when it must run again, and leave its record."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from clinimm.core.record import RECORD_NAME, RunRecord, digest_file, digest_json, write_text
from clinimm.cost import measured
from clinimm.external import external_inputs
from clinimm.progress import Progress
from clinimm.provenance import code_version
from clinimm.stages import Stage, get_stage
from clinimm.workspace import Workspace

#: What a stage's function is: it writes files and returns notes for the record.
Work = Callable[[Workspace, Progress], dict[str, Any]]

#: Says what an unfinished stage was doing; lies in the stage's folder.
_ATTEMPT = ".attempt"

#: Settings that never change what a stage writes: how fast it is, and where a file lies whose content counts.
_WITHOUT_EFFECT: Any = {
    "ingest": {"workers"},
    "encode": {"cache_dir"},
    "audit": {"policy": True, "waivers": True, "mitigation": {"before"}},
    "explain": {"findings"},
}


def perform(
    stage: Stage,
    workspace: Workspace,
    progress: Progress,
    digests: Digests | None = None,
    work: Work | None = None,
) -> RunRecord:
    """Run a stage and write its record. Without a record, a stage counts as unfinished.

    What lies in its folder is removed first, so that nothing of an earlier result stays beside the
    new one. Only an attempt that was cut off while it did the very same thing is left as it is:
    the stage may go on from there.

    Args:
        stage: which.
        workspace: of which run.
        progress: says what happens.
        digests: shared by the stages of one run, so that a file is digested once.
        work: does the work instead of the stage's own function.

    Raises:
        CliniMMError: what the stage raised; its record is gone then.
    """
    digests = digests or Digests()
    folder = workspace.stage(stage.name)
    inputs = inputs_of(stage, workspace, digests)
    settings = settings_of(stage, workspace)
    version = code_version(workspace.config.plugins)
    _make_room(stage, folder, digest_json([inputs, settings, version, workspace.config.seed]))
    started = _now()
    with measured() as cost:
        notes = (work or _entry(stage, workspace))(workspace, progress)
    record = RunRecord(
        stage=stage.name,
        inputs=inputs,
        outputs=outputs_of(stage, folder, digests),
        config=settings,
        code_version=version,
        seed=workspace.config.seed,
        started=started,
        finished=_now(),
        cost=cost,
        notes=dict(notes or {}),
    )
    record.write(folder)
    return record


def why_stale(
    stage: Stage, workspace: Workspace, digests: Digests, without_sources: bool = False
) -> str | None:
    """The first reason to run ``stage`` again, in words; None where nothing changed.

    Args:
        stage: which.
        workspace: of which run.
        digests: shared by the stages of one run.
        without_sources: whether the folders of the sources are not here, so that nobody can tell
            whether they changed.
    """
    folder = workspace.stage(stage.name)
    record = RunRecord.read(folder)
    if record is None:
        return "not finished yet"
    if record.code_version != code_version(workspace.config.plugins):
        return "the code changed"
    if record.seed != workspace.config.seed:
        return "the seed changed"
    if changed := _first_difference(_flat(record.config), _flat(settings_of(stage, workspace))):
        return f"{changed} changed"
    inputs, before = inputs_of(stage, workspace, digests, without_sources), record.inputs
    if without_sources:  # what lies in the run has a slash in its name
        before = {name: digest for name, digest in before.items() if "/" in name or name in inputs}
    if changed := _first_difference(before, inputs):
        return f"{changed} changed"
    if changed := _first_difference(record.outputs, outputs_of(stage, folder, digests)):
        return f"its output {changed} is not as it was written"
    return None


def settings_of(stage: Stage, workspace: Workspace) -> dict[str, Any]:
    """The part of the pipeline file that ``stage`` depends on."""
    whole = workspace.config.model_dump(mode="json", by_alias=True, exclude=_WITHOUT_EFFECT)
    return {section: whole[section] for section in stage.sections}


def inputs_of(
    stage: Stage, workspace: Workspace, digests: Digests, without_sources: bool = False
) -> dict[str, str]:
    """Path relative to the run (or what lies outside it) -> SHA-256 of what ``stage`` reads."""
    found = external_inputs(workspace, stage.external, without_sources)
    for item in stage.reads_for(workspace.config.staining is not None):
        owner = item.partition("/")[0]
        memory = get_stage(owner).memory
        for path in _files(workspace.root / item):
            relative = path.relative_to(workspace.root)
            if relative.parts[1] not in memory:
                found[str(relative)] = digests.of(path)
    return found


def outputs_of(stage: Stage, folder: Path, digests: Digests) -> dict[str, str]:
    """Path relative to the stage -> SHA-256 of what lies in its folder as its result."""
    return {
        str(path.relative_to(folder)): digests.of(path)
        for path in _files(folder)
        if path.relative_to(folder).parts[0] not in stage.memory
    }


class Digests:
    """SHA-256 of files, each computed once as long as its size and modification time stay."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, int], str] = {}

    def of(self, path: Path) -> str:
        """The digest of one file."""
        status = path.stat()
        key = (str(path), status.st_size, status.st_mtime_ns)
        if key not in self._known:
            self._known[key] = digest_file(path)
        return self._known[key]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return [
        file
        for file in sorted(path.rglob("*"))
        if file.is_file()
        and file.name != RECORD_NAME
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    ]


def _make_room(stage: Stage, folder: Path, attempt: str) -> None:
    key = folder / _ATTEMPT
    cut_off = RunRecord.read(folder) is None and key.is_file() and key.read_text("utf-8") == attempt
    if not cut_off:
        for path in folder.iterdir():
            if path.name in stage.memory:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    write_text(key, attempt)


def _entry(stage: Stage, workspace: Workspace) -> Work:
    entry = stage.entry_for(workspace.config.staining is not None)
    module, _, function = entry.partition(":")
    work: Work = getattr(import_module(module), function)
    return work


def _flat(value: Any, at: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {at: value}
    return {
        key: leaf
        for name, item in value.items()
        for key, leaf in _flat(item, f"{at}.{name}" if at else str(name)).items()
    }


def _first_difference(before: dict[str, Any], now: dict[str, Any]) -> str | None:
    absent = object()
    for key in sorted(before.keys() | now.keys()):
        if before.get(key, absent) != now.get(key, absent):
            return key
    return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
