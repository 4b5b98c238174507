"""The verbs of the stages, where they do more than run one."""

from __future__ import annotations

import json
from pathlib import Path
from unittest import mock

import pandas as pd
import pytest

from clinimm.cli.app import run
from clinimm.config import PipelineConfig
from clinimm.pipeline import Outcome
from clinimm.progress import Progress
from clinimm.workspace import Workspace
from tests.small_export import COHORT, write_export


@pytest.fixture
def smallest(tmp_path: Path) -> Path:
    """A pipeline file with a name and a source, and nothing else."""
    write_export(tmp_path / "export", patients=12)
    file = tmp_path / "p.yaml"
    file.write_text(f"name: first_look\nsources: [{{kind: local, root: {tmp_path / 'export'}}}]\n")
    return file


def test_smallest_pipeline_file_is_enough_to_ingest(smallest: Path, tmp_path: Path) -> None:
    runs = tmp_path / "elsewhere"
    assert run(["ingest", str(smallest), "--set", f"runs_dir={runs}", "--set", "ingest.workers=1"]) == 0
    folder = runs / "first_look" / "ingest"
    assert len(pd.read_parquet(folder / "events.parquet")) > 36
    assert pd.read_parquet(folder / "refusals.parquet").empty
    assert json.loads((folder / "record.json").read_text())["notes"]["subjects"] == 12


def test_cohort_explain_prints_the_flow(
    smallest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text(COHORT)
    options = [
        "--set",
        f"runs_dir={tmp_path / 'runs'}",
        "--set",
        "ingest.workers=1",
        "--set",
        "cohort=c.yaml",
    ]
    assert run(["ingest", str(smallest), *options]) == 0
    assert run(["cohort", str(smallest), "--explain", *options]) == 0
    assert "12" in capsys.readouterr().out


def test_cohort_that_is_refused_is_explained_as_well(
    smallest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text(COHORT.replace("LOINC//2160-0", "LOINC//9999-9"))
    options = [
        "--set",
        f"runs_dir={tmp_path / 'runs'}",
        "--set",
        "ingest.workers=1",
        "--set",
        "cohort=c.yaml",
    ]
    assert run(["ingest", str(smallest), *options]) == 0
    capsys.readouterr()
    assert run(["cohort", str(smallest), "--explain", *options]) == 2
    assert "LOINC//9999-9" in capsys.readouterr().out


def test_stage_before_its_time_names_the_verb_to_run_first(
    smallest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text(COHORT)
    options = ["--set", f"runs_dir={tmp_path / 'runs'}", "--set", "cohort=c.yaml"]
    assert run(["cohort", str(smallest), *options]) == 2
    assert "run `clinimm ingest PIPELINE` first" in capsys.readouterr().err


def test_audit_that_cannot_be_made_exits_three(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", "--set", f"runs_dir={tmp_path}"]) == 3
    assert "no run in" in capsys.readouterr().err


def test_out_without_subject_is_refused(smallest: Path) -> None:
    assert run(["report", str(smallest), "--out", "page.html"]) == 2


@pytest.mark.parametrize(
    "words", [["explain", "--subject", "S1"], ["report", "--subject", "S1"], ["validate"]]
)
def test_what_only_a_diagnosis_has_is_refused_by_name(
    words: list[str], smallest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs" / "stained"
    folder.mkdir(parents=True)
    (folder / "pipeline.yaml").write_text(f"name: stained\nruns_dir: {tmp_path / 'runs'}\nstaining: {{}}\n")
    verb, *options = words
    data = ["--data", str(tmp_path)] if verb == "validate" else []
    assert run([verb, str(folder), *options, *data]) == 2
    assert "run stained is for virtual staining" in capsys.readouterr().err


def test_training_patients_are_listed_for_one_patient_and_not_too_many(
    smallest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", str(smallest), "--nearest", "3"]) == 2
    assert "--nearest needs --subject" in capsys.readouterr().err
    assert run(["report", str(smallest), "--subject", "S", "--nearest", "21"]) == 2
    assert "20" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["explain", "report"])
def test_a_stage_that_went_on_without_a_subject_names_it_and_does_not_exit_as_done(
    verb: str, smallest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    refused = pd.DataFrame({"subject_id": ["S7"], "part": ["explanation"], "reason": ["no number"]})
    columns = list(refused) if verb == "explain" else ["subject_id", "reason"]

    def stage(config: PipelineConfig, name: str, progress: Progress) -> Outcome:
        refused[columns].to_parquet(Workspace(config).stage(name) / "refused.parquet")
        record = mock.Mock(notes={"refused": counted})
        return Outcome(name, skipped=False, record=record)

    monkeypatch.setattr("clinimm.pipeline.run_stage", stage)
    options = ["--set", f"runs_dir={tmp_path / 'runs'}"]
    counted = 1
    assert run([verb, str(smallest), *options]) == 2
    part = " (explanation)" if verb == "explain" else ""
    assert capsys.readouterr().out == f"refused S7{part}: no number\n"
    counted = 0
    assert run([verb, str(smallest), *options]) == 0
