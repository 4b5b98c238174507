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
from clinimm.register.registration import Registration
from clinimm.stages import STAGE_NAMES
from tests.nobody import assert_nobody_is_named
from tests.small_export import write_export, write_project

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("whole run")]

#: Stage -> seconds after its first line at which the process is killed.
KILLED = {"ingest": 0.0, "encode": 1.0, "train": 0.5}
TRAINED = STAGE_NAMES[: STAGE_NAMES.index("predict") + 1]


def _start(file: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "clinimm", "run", str(file), *options]
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


def test_no_identifier_in_anything_written(project: Path, run_folder: Path) -> None:
    """Over the whole of ``runs/``: the stages, the token cache, and MLflow's database and artifacts."""
    lines = (project.parent / "export" / "Patient.ndjson").read_text(encoding="utf-8").splitlines()
    patients = [json.loads(line) for line in lines]
    identifiers = {item["value"] for patient in patients for item in patient["identifier"]}
    names = {name["family"] for patient in patients for name in patient["name"]}
    runs = run_folder.parent
    assert len([path for path in runs.rglob("*") if path.is_file()]) > 30
    assert (runs / "mlflow.db").is_file()
    assert_nobody_is_named(runs, identifiers | names | {patient["birthDate"] for patient in patients})


@pytest.fixture(scope="module")
def other_hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of patients whom the run never saw."""
    folder = tmp_path_factory.mktemp("elsewhere") / "other_hospital"
    write_export(folder, patients=30, seed=1)
    return folder


def _validate(run_folder: Path, export: Path, capsys: pytest.CaptureFixture[str]) -> tuple[list[str], Path]:
    """What `clinimm validate` printed, and the folder it wrote."""
    capsys.readouterr()
    assert application.run(["validate", str(run_folder), "--data", str(export), "-q"]) == 0
    (place,) = (run_folder / "validate").glob(f"{export.name}-*")
    return capsys.readouterr().out.splitlines(), place


def test_validation_ends_with_one_line(
    run_folder: Path, other_hospital: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (run_folder / "train").rglob("*")}
    (*_, pool, last), place = _validate(run_folder, other_hospital, capsys)
    assert last.startswith("AUROC ")
    assert "n = 30 (15 positive)" in last
    assert pool == "training pool: none of 30 subjects was in the model's training or tuning pool"
    table = pd.read_parquet(place / "predict" / "predictions.parquet")
    shipped = pd.read_parquet(run_folder / "predict" / "predictions.parquet")
    assert set(table["model_digest"]) == set(shipped["model_digest"])
    assert not set(table["subject_id"]) & set(shipped["subject_id"])
    assert {path: path.stat().st_mtime_ns for path in (run_folder / "train").rglob("*")} == before


def test_validation_leaves_out_whom_the_model_was_fitted_to(
    project: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (*_, pool, last), place = _validate(run_folder, project.parent / "export", capsys)
    splits = pd.read_parquet(run_folder / "cohort" / "splits.parquet").set_index("subject_id")["split"]
    fitted = set(splits.index[splits.isin(["train", "tuning"])])
    table = pd.read_parquet(place / "predict" / "predictions.parquet").set_index("subject_id")
    assert set(table.index[table["split"] == "trained_on"]) == fitted
    assert (
        f"{len(fitted)} of 60 subjects were in the model's training or tuning pool and are left out" in pool
    )
    assert f"n = {60 - len(fitted)} " in last
    metrics = json.loads((place / "metrics.json").read_text())
    assert (metrics["overlap"]["subjects"], metrics["overlap"]["trained_on"]) == (60, len(fitted))
    # Whom it was not fitted to are the run's own held-out subjects, and get the run's own predictions.
    first = pd.read_parquet(run_folder / "predict" / "predictions.parquet").set_index("subject_id")
    assert set(first.index) == set(table.index) - fitted
    assert (table.loc[first.index, "probability"] - first["probability"]).abs().max() < 1e-6


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
    assert text.startswith("worse = worse by integrated gradients, films spread\n")
    assert "residual" in text


def test_signed_run_verifies(run_folder: Path) -> None:
    assert application.run(["verify", str(run_folder)]) == 0


def test_audit_verb_exits_with_the_verdict(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads((run_folder / "audit" / "audit.json").read_text())
    assert application.run(["audit", str(run_folder)]) == found["exit_status"]
    assert found["sentence"] in capsys.readouterr().out


def _tracked(run_folder: Path) -> str:
    """The model as MLflow names it before anybody approved a version of it."""
    found = Registration.read(run_folder / "register")
    assert found is not None and found.source == f"models:/{found.model_id}"
    return found.source


def test_tracked_model_says_of_an_export_what_the_run_says(
    run_folder: Path, other_hospital: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import mlflow

    _, place = _validate(run_folder, other_hospital, capsys)
    mlflow.set_tracking_uri(f"sqlite:///{run_folder.parent / 'mlflow.db'}")
    try:
        model = mlflow.pyfunc.load_model(_tracked(run_folder))
    finally:
        mlflow.set_tracking_uri(None)
    answer = model.predict(pd.DataFrame({"export": [str(other_hospital)]})).set_index("subject_id")
    assert len(answer) == 30
    assert set(answer["modalities_present"]) == {"ehr+notes"}
    assert set(answer["trained_on"]) == {"no"}
    table = pd.read_parquet(place / "predict" / "predictions.parquet").set_index("subject_id")
    assert (answer.loc[table.index, "probability"] - table["probability"]).abs().max() < 1e-6


def test_tracked_model_knows_whom_it_was_fitted_to(project: Path, run_folder: Path) -> None:
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{run_folder.parent / 'mlflow.db'}")
    try:
        model = mlflow.pyfunc.load_model(_tracked(run_folder))
    finally:
        mlflow.set_tracking_uri(None)
    answer = model.predict(pd.DataFrame({"export": [str(project.parent / "export")]}))
    held_out = set(pd.read_parquet(run_folder / "predict" / "predictions.parquet")["subject_id"])
    assert set(answer.loc[answer["trained_on"] == "no", "subject_id"]) == held_out
    assert (answer["trained_on"] == "yes").sum() == 60 - len(held_out)


@pytest.mark.parametrize("verb", [["evaluate"], ["run", "--from", "predict"]])
def test_verb_refuses_to_mix_a_changed_setting_with_an_old_training(
    project: Path, run_folder: Path, verb: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in run_folder.glob("*/record.json")}
    settings = (run_folder / "pipeline.yaml").read_bytes()
    name, *options = verb
    assert application.run([name, str(project), *options, "--set", "train.epochs=3"]) == 2
    text = capsys.readouterr().err
    assert f"stage train of {run_folder} is stale: train.epochs changed" in text
    assert "run `clinimm run PIPELINE" in text
    assert {path: path.read_bytes() for path in run_folder.glob("*/record.json")} == before
    assert (run_folder / "pipeline.yaml").read_bytes() == settings
