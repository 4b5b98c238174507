from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET

import pandas as pd
import pytest

from clinimm.core.errors import DataError, MissingStageError
from clinimm.evaluate.stage import run
from clinimm.progress import QUIET


def test_stage_writes_metrics_and_figures(finished):
    folder = finished.stage("evaluate")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (metrics["n"], metrics["run"]) == (120, "toy")
    names = sorted(path.name for path in (folder / "figures").iterdir())
    assert names == ["calibration.svg", "net_benefit.svg", "roc.svg", "subsets.svg"]


def test_another_run_on_the_same_input_writes_the_same_bytes(workspace, finished):
    notes = run(workspace, QUIET)
    first, second = (
        {path.name: path.read_bytes() for path in made.stage("evaluate").rglob("*") if path.is_file()}
        for made in (workspace, finished)
    )
    assert first == second and len(first) == 5
    assert notes["verdict"] == json.loads(first["metrics.json"])["verdict"]["key"]


def test_figures_are_plain_svg_without_a_date(finished):
    for path in (finished.stage("evaluate") / "figures").iterdir():
        text = path.read_text()
        assert ET.fromstring(text).tag.endswith("svg")
        assert "dc:date" not in text and "<script" not in text
    forest = (finished.stage("evaluate") / "figures" / "subsets.svg").read_text()
    for words in ("given ehr + notes", "late fusion", "missingness only", "ehr alone, network"):
        assert words in forest


def test_predict_must_have_run(workspace):
    (workspace.stage("predict") / "controls.parquet").unlink()
    with pytest.raises(MissingStageError, match="clinimm predict"):
        run(workspace, QUIET)


def test_no_held_out_row_is_a_data_error(workspace):
    path = workspace.stage("predict") / "predictions.parquet"
    pd.read_parquet(path).assign(split="tuning").to_parquet(path)
    with pytest.raises(DataError, match="no held-out rows"):
        run(workspace, QUIET)


def test_one_class_only_still_draws_figures(workspace):
    path = workspace.stage("predict") / "predictions.parquet"
    for name in ("predictions", "tuning", "subsets", "controls"):
        path = workspace.stage("predict") / f"{name}.parquet"
        pd.read_parquet(path).assign(label=0.0).to_parquet(path)
    assert run(workspace, QUIET)["verdict"] == "cannot_tell"


def test_evaluate_and_audit_do_not_import_torch_or_matplotlib():
    code = "import sys, clinimm.evaluate.stage, clinimm.audit.stage; "
    code += "print([m for m in ('torch', 'matplotlib', 'sklearn', 'mlflow') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
