"""One run from data to report: every stage in order, and only what changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clinimm.config import PipelineConfig
from clinimm.core.errors import CliniMMError, ConfigError, MissingStageError, StaleStageError
from clinimm.core.record import RunRecord
from clinimm.external import sources_are_here
from clinimm.lock import locked
from clinimm.perform import Digests, outputs_of, perform, why_stale
from clinimm.progress import Progress
from clinimm.settings import write_settings
from clinimm.stages import STAGE_NAMES, STAGES, Stage, get_stage
from clinimm.workspace import Workspace

_MOST_COUNTS = 4
_NAME_WIDTH = max(len(name) for name in STAGE_NAMES)


@dataclass(frozen=True)
class Outcome:
    """What a run did with one stage.

    Attributes:
        stage: the stage's name.
        skipped: whether its earlier result was kept.
        record: the evidence of the result that lies there now.
    """

    stage: str
    skipped: bool
    record: RunRecord


def run_pipeline(
    config: PipelineConfig,
    from_stage: str | None = None,
    until_stage: str | None = None,
    progress: Progress | None = None,
) -> list[Outcome]:
    """Run the stages from ``from_stage`` to ``until_stage``, skipping those that are up to date.

    ``from_stage`` itself runs in any case; the stages before it must be up to date. A run that was
    killed goes on where it stopped: finished stages are skipped.

    Raises:
        BusyError: another process works on the same run.
        MissingStageError: a stage before ``from_stage`` was never finished.
        StaleStageError: a stage before ``from_stage`` is out of date.
    """
    progress = progress or Progress()
    workspace = Workspace(config)
    chosen = _between(from_stage, until_stage)
    with locked(workspace.root):
        digests = Digests()
        _check_earlier(workspace, chosen[0])
        _refuse_stale(workspace, chosen, progress, digests)
        write_settings(config, workspace.root)
        return [
            _step(stage, workspace, progress, digests, forced=stage.name == from_stage) for stage in chosen
        ]


def run_stage(config: PipelineConfig, name: str, progress: Progress | None = None) -> Outcome:
    """Run one stage unless it is up to date.

    Raises:
        BusyError: another process works on the same run.
        MissingStageError: it needs a stage that was not run yet.
        StaleStageError: a stage that it reads from, or one before that, is out of date.
    """
    workspace, progress, digests = Workspace(config), progress or Progress(), Digests()
    stage = get_stage(name)
    with locked(workspace.root):
        _refuse_stale(workspace, [stage], progress, digests)
        write_settings(config, workspace.root)
        return _step(stage, workspace, progress, digests, forced=False)


def _between(from_stage: str | None, until_stage: str | None) -> list[Stage]:
    first = STAGES.index(get_stage(from_stage)) if from_stage else 0
    last = STAGES.index(get_stage(until_stage)) if until_stage else len(STAGES) - 1
    if first > last:
        raise ConfigError(f"--from {from_stage} comes after --until {until_stage}; nothing would run.")
    return list(STAGES[first : last + 1])


def _check_earlier(workspace: Workspace, first: Stage) -> None:
    for stage in STAGES[: STAGES.index(first)]:
        if RunRecord.read(workspace.root / stage.name) is None:
            raise MissingStageError(
                f"--from {first.name}: stage {stage.name} of {workspace.root} is not finished; run "
                f"from {stage.name}, or without --from."
            )


def _refuse_stale(
    workspace: Workspace, chosen: Sequence[Stage], progress: Progress, digests: Digests
) -> None:
    """Refuse to build on a result that a whole run would make again.

    A stage that left nothing is passed over: whoever needs it asks for it, and some do without.
    """
    absent = not sources_are_here(workspace)
    for stage in _read_by(chosen, workspace.config.staining is not None):
        folder = workspace.root / stage.name
        if RunRecord.read(folder) is None and not outputs_of(stage, folder, digests):
            continue
        if absent and "sources" in stage.external:
            progress.say(f"{stage.name:<{_NAME_WIDTH}}  taken as it is: its sources are not here")
        if reason := why_stale(stage, workspace, digests, absent):
            until = "" if chosen[-1] is STAGES[-1] else f" --until {chosen[-1].name}"
            raise StaleStageError(
                f"stage {stage.name} of {workspace.root} is stale: {reason}. {chosen[0].name} would mix old "
                f"and new results: run `clinimm run PIPELINE{until}`, which repeats what is stale and keeps "
                "the rest, or take the settings and files that the run was made with."
            )


def _read_by(chosen: Sequence[Stage], staining: bool) -> list[Stage]:
    """The stages before ``chosen`` that they read from, directly or through others, in order."""
    found: set[str] = set()
    waiting = list(chosen)
    while waiting:
        names = {item.partition("/")[0] for item in waiting.pop().reads_for(staining)} - found
        found |= names
        waiting += [get_stage(name) for name in sorted(names)]
    return [stage for stage in STAGES[: STAGES.index(chosen[0])] if stage.name in found]


def _step(stage: Stage, workspace: Workspace, progress: Progress, digests: Digests, forced: bool) -> Outcome:
    reason = "asked for by --from" if forced else why_stale(stage, workspace, digests)
    if reason is None:
        record = RunRecord.read(workspace.root / stage.name)
        if record is not None:
            progress.say(f"{stage.name:<{_NAME_WIDTH}}  skipped, nothing changed")
            return Outcome(stage.name, skipped=True, record=record)
    purpose = stage.purpose_for(workspace.config.staining is not None)
    progress.say(f"{stage.name:<{_NAME_WIDTH}}  {reason}; {purpose[0].lower()}{purpose[1:]}")
    return Outcome(stage.name, skipped=False, record=_run(stage, workspace, progress, digests))


def _run(stage: Stage, workspace: Workspace, progress: Progress, digests: Digests) -> RunRecord:
    try:
        record = perform(stage, workspace, progress, digests)
    except CliniMMError as error:
        error.add_note(f"stage {stage.name} of {workspace.root}")
        raise
    if stage.name == "report":
        _attach_reports(workspace)
    progress.say(f"{stage.name:<{_NAME_WIDTH}}  done in {_duration(record)}{_summary(record.notes)}")
    return record


def _attach_reports(workspace: Workspace) -> None:
    from clinimm.register.mlflow import attach_reports

    attach_reports(workspace)


def _duration(record: RunRecord) -> str:
    seconds, memory = record.cost["wall_seconds"], record.cost["peak_rss_mib"]
    minutes, rest = divmod(round(seconds), 60)
    spent = f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
    return f"{spent}, peak {memory:.0f} MiB"


def _summary(notes: dict[str, Any]) -> str:
    """The first few counts among a stage's notes; the rest is in its record."""
    counts = {key: value for key, value in notes.items() if isinstance(value, int)}
    return "".join(f"; {key.replace('_', ' ')} {value}" for key, value in list(counts.items())[:_MOST_COUNTS])
