"""A whole run through the command line: killed at three stages, resumed, and then put to use."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from clinimm.cli import app as application
from clinimm.core.record import RunRecord
from clinimm.stages import STAGE_NAMES
from tests.small_export import write_export, write_project

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("whole run")]

#: Stage -> seconds after its first line at which the process is killed.
KILLED = {"ingest": 0.0, "encode": 1.0, "train": 0.5}
TRAINED = STAGE_NAMES[: STAGE_NAMES.index("predict") + 1]


def _start(file: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "clinimm.cli", "run", str(file), *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, env=environment, **pipes)


def _kill_in(stage: str, seconds: float, file: Path, run: Path) -> None:
    """Start the run and kill it with SIGKILL once it works on ``stage``."""
    process = _start(file)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(f"{stage} ") and "not finished yet" in line:
            break
    time.sleep(seconds)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert RunRecord.read(run / stage) is None, f"{stage} was finished before it was killed"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline file of a run that was killed three times and then went on to its end."""
    file = write_project(tmp_path_factory.mktemp("project"), epochs=60)
    run = file.parent / "runs" / "small"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "config"))
        for stage, seconds in KILLED.items():
            _kill_in(stage, seconds, file, run)
        process = _start(file, "--quiet")
        _, text = process.communicate(timeout=300)
        assert process.returncode == 0, text
    return file


@pytest.fixture
def run_folder(project: Path) -> Path:
    return project.parent / "runs" / "small"


def test_killed_run_ends_as_one_that_was_left_alone(project: Path, run_folder: Path, tmp_path: Path) -> None:
    process = _start(project, "--until", "predict", "--set", f"runs_dir={tmp_path}")
    _, text = process.communicate(timeout=300)
    assert process.returncode == 0, text
    for stage in TRAINED:
        killed, whole = (RunRecord.read(folder / stage) for folder in (run_folder, tmp_path / "small"))
        assert killed is not None
        assert whole is not None
        assert killed.outputs == whole.outputs, stage


def test_every_stage_left_its_record(run_folder: Path) -> None:
    for stage in STAGE_NAMES:
        record = RunRecord.read(run_folder / stage)
        assert record is not None, stage
        assert record.outputs, stage
        assert record.cost["peak_rss_mib"] > 0
    register = RunRecord.read(run_folder / "register")
    assert register is not None
    assert any(name.startswith("audit/") for name in register.inputs)


def test_second_run_does_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert application.run(["run", str(project)]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"{stage:<8}  skipped, nothing changed" for stage in STAGE_NAMES]


def test_run_ends_with_its_verdict_and_where_the_pages_are(
    project: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert application.run(["run", str(project), "--quiet"]) == 0
    text = capsys.readouterr().out
    sentence = json.loads((run_folder / "evaluate" / "metrics.json").read_text())["verdict"]["sentence"]
    assert sentence in text
    assert f"model card: {run_folder / 'report' / 'model_card.html'}" in text


def test_changed_report_setting_repeats_only_the_report(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert application.run(["run", str(project), "--set", "report.patients=0"]) == 0
    skipped = [line.split()[0] for line in capsys.readouterr().err.splitlines() if "skipped" in line]
    assert skipped == [stage for stage in STAGE_NAMES if stage != "report"]
    assert application.run(["run", str(project), "--quiet"]) == 0


def test_no_identifier_in_anything_written(run_folder: Path) -> None:
    tables = [path for path in run_folder.rglob("*") if path.is_file()]
    assert len(tables) > 30
    for path in tables:
        assert b"MRN-p0" not in path.read_bytes(), path


def test_validation_ends_with_one_line(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_export(tmp_path / "other_hospital", patients=30, seed=1)
    before = {path: path.stat().st_mtime_ns for path in (run_folder / "train").rglob("*")}
    assert (
        application.run(["validate", str(run_folder), "--data", str(tmp_path / "other_hospital"), "-q"]) == 0
    )
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("AUROC ")
    assert "n = 30 (15 positive)" in last
    (place,) = (run_folder / "validate").iterdir()
    table = pd.read_parquet(place / "predict" / "predictions.parquet")
    shipped = pd.read_parquet(run_folder / "predict" / "predictions.parquet")
    assert set(table["model_digest"]) == set(shipped["model_digest"])
    assert not set(table["subject_id"]) & set(shipped["subject_id"])
    assert {path: path.stat().st_mtime_ns for path in (run_folder / "train").rglob("*")} == before


def test_validation_gives_the_run_s_own_predictions_on_the_run_s_own_data(
    project: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export = project.parent / "export"
    assert application.run(["validate", str(run_folder), "--data", str(export), "-q"]) == 0
    (place,) = (path for path in (run_folder / "validate").iterdir() if path.name.startswith("export-"))
    again = pd.read_parquet(place / "predict" / "predictions.parquet").set_index("subject_id")["probability"]
    first = pd.read_parquet(run_folder / "predict" / "predictions.parquet").set_index("subject_id")
    assert (again[first.index] - first["probability"]).abs().max() < 1e-6


def test_report_and_explanation_of_a_patient_by_identifier(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from clinimm.core.pseudonym import load_pseudonymiser

    key = load_pseudonymiser()
    held_out = set(pd.read_parquet(run_folder / "predict" / "predictions.parquet")["subject_id"])
    table = pd.read_parquet(run_folder / "ingest" / "subjects.parquet").set_index("identifier_hash")
    names = (f"MRN-p0-{number}" for number in range(60))
    identifier = next(name for name in names if table.loc[key.identifier(name), "subject_id"] in held_out)
    page = tmp_path / "page.html"
    assert application.run(["report", str(run_folder), "--subject", identifier, "--out", str(page)]) == 0
    assert "<html" in page.read_text(encoding="utf-8")
    capsys.readouterr()
    assert application.run(["explain", str(run_folder), "--subject", identifier, "-q"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("worse = worse: logit ")
    assert "completeness error" in text


def test_signed_run_verifies(run_folder: Path) -> None:
    assert application.run(["verify", str(run_folder)]) == 0


def test_audit_verb_exits_with_the_verdict(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads((run_folder / "audit" / "audit.json").read_text())
    assert application.run(["audit", str(run_folder)]) == found["exit_status"]
    assert found["sentence"] in capsys.readouterr().out


def test_registered_model_scores_an_export(run_folder: Path, tmp_path: Path) -> None:
    import mlflow

    write_export(tmp_path / "export", patients=6, seed=2)
    mlflow.set_tracking_uri(f"sqlite:///{run_folder.parent / 'mlflow.db'}")
    try:
        model = mlflow.pyfunc.load_model("models:/small/1")
    finally:
        mlflow.set_tracking_uri(None)
    answer = model.predict(pd.DataFrame({"export": [str(tmp_path / "export")]}))
    assert len(answer) == 6
    assert answer["probability"].between(0, 1).all()
    assert set(answer["modalities_present"]) == {"ehr+notes"}
