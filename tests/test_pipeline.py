"""A run does what changed and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clinimm import perform, pipeline, stages
from clinimm.config import AuditConfig, ExplainConfig, MitigationConfig, PipelineConfig, SourceConfig
from clinimm.core.errors import BusyError, ConfigError, DataError, MissingStageError, StaleStageError
from clinimm.core.record import RunRecord
from clinimm.pipeline import run_pipeline, run_stage
from clinimm.progress import QUIET, Progress
from clinimm.settings import PIPELINE_COPY, resolve
from clinimm.stages import Stage
from clinimm.workspace import Workspace

Work = Callable[[Workspace, Progress], dict[str, Any]]


class Kitchen:
    """Three toy stages in place of the real table, and a list of those that ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.broken = False
        self.seen: dict[str, list[str]] = {}

    def read(self, workspace: Workspace, progress: Progress) -> dict[str, Any]:
        folder = self._enter("ingest", workspace)
        (folder / "state").mkdir(exist_ok=True)
        with (folder / "state" / "memory").open("a") as stream:
            stream.write("again\n")
        texts = [path.read_text() for path in sorted(workspace.config.sources[0].root.iterdir())]
        (folder / "events.parquet").write_text("".join(texts))
        return {"files": len(texts)}

    def choose(self, workspace: Workspace, progress: Progress) -> dict[str, Any]:
        folder = self._enter("cohort", workspace)
        events = workspace.need("ingest", "events.parquet").read_text()
        (folder / "cohort.parquet").write_text(events.upper()[:3])
        return {}

    def fit(self, workspace: Workspace, progress: Progress) -> dict[str, Any]:
        folder = self._enter("train", workspace)
        (folder / "half").write_text(str(workspace.config.train.epochs))
        if self.broken:
            raise DataError("the toy is broken")
        (folder / "model").write_text(workspace.need("cohort", "cohort.parquet").read_text())
        return {}

    def _enter(self, name: str, workspace: Workspace) -> Path:
        self.ran.append(name)
        folder = workspace.stage(name)
        self.seen[name] = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        return folder


TABLE = (
    Stage(
        "ingest",
        "toy:read",
        "Read.",
        sections=("sources", "ingest"),
        external=("sources",),
        memory=("state",),
    ),
    Stage("cohort", "toy:choose", "Choose.", sections=(), reads=("ingest/events.parquet",)),
    Stage("train", "toy:fit", "Fit.", sections=("train",), reads=("cohort/",)),
)


@pytest.fixture
def kitchen(monkeypatch: pytest.MonkeyPatch) -> Kitchen:
    cook = Kitchen()
    works: dict[str, Work] = {"ingest": cook.read, "cohort": cook.choose, "train": cook.fit}
    for module in (stages, pipeline):
        monkeypatch.setattr(module, "STAGES", TABLE)
    monkeypatch.setattr(stages, "STAGE_NAMES", tuple(stage.name for stage in TABLE))
    monkeypatch.setattr(perform, "_entry", lambda stage, workspace: works[stage.name])
    return cook


@pytest.fixture
def config(tmp_path: Path) -> PipelineConfig:
    export = tmp_path / "export"
    export.mkdir()
    (export / "a.txt").write_text("abc")
    return PipelineConfig(name="toy", runs_dir=tmp_path / "runs", sources=(SourceConfig(root=export),))


def _changed(config: PipelineConfig, **train: Any) -> PipelineConfig:
    return config.model_copy(update={"train": config.train.model_copy(update=train)})


def test_second_run_skips_everything(kitchen: Kitchen, config: PipelineConfig) -> None:
    first = run_pipeline(config, progress=QUIET)
    second = run_pipeline(config, progress=QUIET)
    assert kitchen.ran == ["ingest", "cohort", "train"]
    assert [outcome.skipped for outcome in first] == [False] * 3
    assert [outcome.skipped for outcome in second] == [True] * 3


def test_changed_setting_reruns_only_the_stages_that_depend_on_it(
    kitchen: Kitchen, config: PipelineConfig
) -> None:
    run_pipeline(config, progress=QUIET)
    kitchen.ran.clear()
    run_pipeline(_changed(config, epochs=3), progress=QUIET)
    assert kitchen.ran == ["train"]


def test_new_file_reruns_ingest_and_stops_where_nothing_differs(
    kitchen: Kitchen, config: PipelineConfig
) -> None:
    run_pipeline(config, progress=QUIET)
    kitchen.ran.clear()
    (config.sources[0].root / "b.txt").write_text("def")
    run_pipeline(config, progress=QUIET)
    # The cohort's own output is as before, so training is not repeated.
    assert kitchen.ran == ["ingest", "cohort"]


def test_number_of_workers_is_no_reason_to_ingest_again(kitchen: Kitchen, config: PipelineConfig) -> None:
    run_pipeline(config, progress=QUIET)
    kitchen.ran.clear()
    ingest = config.ingest.model_copy(update={"workers": 7})
    run_pipeline(config.model_copy(update={"ingest": ingest}), progress=QUIET)
    assert kitchen.ran == []


def test_stages_depend_on_what_a_file_says_and_not_on_how_it_is_named(config: PipelineConfig) -> None:
    """A run that is taken up again from its own folder has the paths of its files in full."""
    named = config.model_copy(
        update={
            "audit": AuditConfig(
                policy=Path("strict.yaml"),
                waivers=Path("waivers.yaml"),
                mitigation=MitigationConfig(attribute="sex", before=Path("runs/plain")),
            ),
            "explain": ExplainConfig(findings=Path("boxes.csv")),
        }
    )
    again = resolve(named)
    assert again.audit != named.audit and again.explain != named.explain
    for stage in stages.STAGES:
        assert perform.settings_of(stage, Workspace(again)) == perform.settings_of(stage, Workspace(named))
    stricter = named.model_copy(update={"audit": named.audit.model_copy(update={"detectors": False})})
    audit = stages.get_stage("audit")
    assert perform.settings_of(audit, Workspace(stricter)) != perform.settings_of(audit, Workspace(named))


def test_seed_and_code_rerun_everything(
    kitchen: Kitchen, config: PipelineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_pipeline(config, progress=QUIET)
    kitchen.ran.clear()
    run_pipeline(config.model_copy(update={"seed": 1}), progress=QUIET)
    monkeypatch.setattr(perform, "code_version", lambda plugins: "other")
    run_pipeline(config.model_copy(update={"seed": 1}), progress=QUIET)
    assert kitchen.ran == ["ingest", "cohort", "train"] * 2


@pytest.mark.parametrize("harm", ["changed", "deleted", "added"])
def test_output_that_is_not_as_written_is_made_again(
    kitchen: Kitchen, config: PipelineConfig, harm: str
) -> None:
    run_pipeline(config, progress=QUIET)
    kitchen.ran.clear()
    output = config.runs_dir / "toy" / "cohort" / "cohort.parquet"
    if harm == "changed":
        output.write_text("XYZ")
    elif harm == "deleted":
        output.unlink()
    else:
        output.with_name("stray").write_text("?")
    run_pipeline(config, progress=QUIET)
    assert kitchen.ran == ["cohort"]
    assert output.read_text() == "ABC"
    assert not output.with_name("stray").exists()


def test_memory_of_a_stage_survives_and_is_no_output(kitchen: Kitchen, config: PipelineConfig) -> None:
    run_pipeline(config, progress=QUIET)
    (config.sources[0].root / "b.txt").write_text("def")
    run_pipeline(config, progress=QUIET)
    folder = config.runs_dir / "toy" / "ingest"
    assert (folder / "state" / "memory").read_text() == "again\nagain\n"
    record = RunRecord.read(folder)
    assert record is not None
    assert sorted(record.outputs) == ["events.parquet"]


def test_attempt_that_was_cut_off_goes_on_from_what_it_left(kitchen: Kitchen, config: PipelineConfig) -> None:
    kitchen.broken = True
    with pytest.raises(DataError, match="broken"):
        run_pipeline(config, progress=QUIET)
    kitchen.broken = False
    run_pipeline(config, progress=QUIET)
    assert kitchen.ran == ["ingest", "cohort", "train", "train"]
    assert kitchen.seen["train"] == ["half"]


def test_attempt_with_other_settings_starts_from_nothing(kitchen: Kitchen, config: PipelineConfig) -> None:
    kitchen.broken = True
    with pytest.raises(DataError):
        run_pipeline(config, progress=QUIET)
    kitchen.broken = False
    run_pipeline(_changed(config, epochs=3), progress=QUIET)
    assert kitchen.seen["train"] == []


def test_failed_stage_leaves_no_record_and_says_which_it_was(
    kitchen: Kitchen, config: PipelineConfig
) -> None:
    run_pipeline(config, progress=QUIET)
    kitchen.broken = True
    with pytest.raises(DataError) as caught:
        run_pipeline(_changed(config, epochs=3), progress=QUIET)
    assert caught.value.__notes__ == [f"stage train of {config.runs_dir / 'toy'}"]
    assert RunRecord.read(config.runs_dir / "toy" / "train") is None


def test_from_runs_its_stage_in_any_case_and_until_stops(kitchen: Kitchen, config: PipelineConfig) -> None:
    run_pipeline(config, until_stage="cohort", progress=QUIET)
    assert kitchen.ran == ["ingest", "cohort"]
    run_pipeline(config, from_stage="cohort", until_stage="cohort", progress=QUIET)
    assert kitchen.ran == ["ingest", "cohort", "cohort"]


def test_from_needs_the_stages_before_it(kitchen: Kitchen, config: PipelineConfig) -> None:
    with pytest.raises(MissingStageError, match=r"stage ingest .* is not finished"):
        run_pipeline(config, from_stage="train", progress=QUIET)


def _from_train(config: PipelineConfig) -> None:
    run_pipeline(config, from_stage="train", progress=QUIET)


def _train(config: PipelineConfig) -> None:
    run_stage(config, "train", QUIET)


@pytest.mark.parametrize("work", [_from_train, _train])
@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        ("setting", r"stage ingest of .* is stale: ingest\.timezone changed"),
        ("seed", r"stage ingest of .* is stale: the seed changed"),
        ("code", r"stage ingest of .* is stale: the code changed"),
        ("source", r"stage ingest of .* is stale: source 0 changed"),
        ("output", r"stage cohort of .* is stale: its output cohort\.parquet is not as it was written"),
        ("input", r"stage cohort of .* is stale: ingest/events\.parquet changed"),
    ],
)
def test_nothing_is_built_on_a_stage_that_a_run_would_make_again(
    kitchen: Kitchen,
    config: PipelineConfig,
    monkeypatch: pytest.MonkeyPatch,
    work: Callable[[PipelineConfig], None],
    harm: str,
    reason: str,
) -> None:
    run_pipeline(config, progress=QUIET)
    kitchen.ran.clear()
    root = config.runs_dir / "toy"
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    if harm == "setting":
        ingest = config.ingest.model_copy(update={"timezone": "Asia/Tokyo"})
        config = config.model_copy(update={"ingest": ingest})
    elif harm == "seed":
        config = config.model_copy(update={"seed": 1})
    elif harm == "code":
        monkeypatch.setattr(perform, "code_version", lambda plugins: "other")
    elif harm == "source":
        (config.sources[0].root / "b.txt").write_text("def")
    elif harm == "output":
        before[root / "cohort" / "cohort.parquet"] = b"XYZ"
        (root / "cohort" / "cohort.parquet").write_bytes(b"XYZ")
    else:
        (config.sources[0].root / "a.txt").write_text("xyz")
        run_stage(config, "ingest", QUIET)
        kitchen.ran.clear()
        before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with pytest.raises(StaleStageError, match=reason + r"[\s\S]*run `clinimm run PIPELINE`"):
        work(config)
    assert kitchen.ran == []
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_settings_of_a_run_stay_where_a_verb_is_refused(kitchen: Kitchen, config: PipelineConfig) -> None:
    run_pipeline(config, progress=QUIET)
    copy = config.runs_dir / "toy" / PIPELINE_COPY
    before = copy.read_text()
    with pytest.raises(StaleStageError):
        run_stage(config.model_copy(update={"seed": 1}), "train", QUIET)
    assert copy.read_text() == before
    run_stage(_changed(config, epochs=3), "train", QUIET)
    assert "epochs: 3" in copy.read_text()


def test_refusal_names_how_far_to_run(kitchen: Kitchen, config: PipelineConfig) -> None:
    run_pipeline(config, progress=QUIET)
    with pytest.raises(StaleStageError, match="run `clinimm run PIPELINE --until cohort`"):
        run_stage(config.model_copy(update={"seed": 1}), "cohort", QUIET)


def test_stage_that_is_not_read_may_be_stale(
    kitchen: Kitchen, config: PipelineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = (*TABLE[:2], Stage("train", "toy:fit", "Fit.", sections=("train",), reads=()))
    for module in (stages, pipeline):
        monkeypatch.setattr(module, "STAGES", table)
    run_pipeline(config, progress=QUIET)
    (config.sources[0].root / "b.txt").write_text("def")
    assert run_stage(config, "train", QUIET).skipped


def test_stage_that_was_cut_off_is_not_built_on(kitchen: Kitchen, config: PipelineConfig) -> None:
    run_pipeline(config, progress=QUIET)
    (config.runs_dir / "toy" / "cohort" / "record.json").unlink()
    with pytest.raises(StaleStageError, match=r"stage cohort of .* is stale: not finished yet"):
        run_stage(config, "train", QUIET)


def test_finished_run_is_worked_on_where_its_sources_are_not(
    kitchen: Kitchen, config: PipelineConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_pipeline(config, progress=QUIET)
    config.sources[0].root.rename(tmp_path / "elsewhere")
    assert not run_stage(_changed(config, epochs=3), "train").skipped
    assert "ingest    taken as it is: its sources are not here" in capsys.readouterr().err
    with pytest.raises(StaleStageError, match="the seed changed"):
        run_stage(config.model_copy(update={"seed": 1}), "train", QUIET)


def test_every_verb_refuses_what_a_whole_run_would_repeat() -> None:
    read = {
        stage.name: [one.name for one in pipeline._read_by([stage], staining=False)]
        for stage in stages.STAGES
    }
    assert read["ingest"] == []
    assert read["predict"] == ["ingest", "cohort", "encode", "train"]
    assert read["evaluate"] == ["ingest", "cohort", "encode", "train", "predict"]
    assert read["explain"] == [*read["evaluate"], "evaluate"]  # whose operating point says what an error is
    assert read["report"] == list(stages.STAGE_NAMES[:-1])


def test_from_after_until_and_unknown_names_are_refused(kitchen: Kitchen, config: PipelineConfig) -> None:
    with pytest.raises(ConfigError, match="nothing would run"):
        run_pipeline(config, from_stage="train", until_stage="ingest", progress=QUIET)
    with pytest.raises(ConfigError, match="the stages are ingest, cohort, train"):
        run_pipeline(config, from_stage="trane", progress=QUIET)


def test_record_holds_the_evidence(kitchen: Kitchen, config: PipelineConfig) -> None:
    run_pipeline(config, progress=QUIET)
    value = json.loads((config.runs_dir / "toy" / "train" / "record.json").read_text())
    assert set(value["inputs"]) == {"cohort/cohort.parquet"}
    assert set(value["outputs"]) == {"half", "model"}
    assert value["config"] == {"train": config.train.model_dump(mode="json")}
    assert set(value["cost"]) == {"wall_seconds", "cpu_seconds", "peak_rss_mib"}
    assert value["cost"]["peak_rss_mib"] > 1
    assert value["seed"] == 0


def test_verb_skips_as_a_run_does(kitchen: Kitchen, config: PipelineConfig) -> None:
    assert not run_stage(config, "ingest", QUIET).skipped
    assert run_stage(config, "ingest", QUIET).skipped
    assert RunRecord.read(config.runs_dir / "toy" / "ingest") is not None


def test_progress_says_one_line_for_what_is_skipped(
    kitchen: Kitchen, config: PipelineConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    run_pipeline(config)
    run_pipeline(_changed(config, epochs=3))
    lines = capsys.readouterr().err.splitlines()
    assert "ingest    skipped, nothing changed" in lines
    assert any(line.startswith("train     train.epochs changed; fit") for line in lines)


def test_two_runs_of_one_name_do_not_meet(config: PipelineConfig) -> None:
    import subprocess
    import sys

    folder = config.runs_dir / config.name
    code = (
        "import sys, time; from pathlib import Path; from clinimm.lock import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match=f"process {holder.pid}"):
            run_pipeline(config, progress=QUIET)
    finally:
        holder.kill()
        holder.wait()
    # kill -9 leaves the file and frees the lock.
    from clinimm.lock import locked

    with locked(folder):
        assert (folder / ".lock").exists()
