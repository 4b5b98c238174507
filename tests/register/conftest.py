"""A finished run, small enough to be written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from clinimm.config import PipelineConfig
from clinimm.core.record import RunRecord, digest_file
from clinimm.origin import write_origin
from clinimm.settings import write_settings
from clinimm.workspace import Workspace

COHORT = {
    "name": "hand",
    "question": "Who?",
    "index": {"modality": "ehr"},
    "label": {"task": "t", "code": "outcome//t", "value": True, "window": ["0 d", "1 d"]},
    "inputs": {"ehr": {}},
}


def write_audit(workspace: Workspace, exit_status: int) -> None:
    """An audit of the predictions that lie there now."""
    folder = workspace.stage("audit")
    (folder / "audit.json").write_text(json.dumps({"exit_status": exit_status, "verdict": "?"}))
    judged = ("predict/predictions.parquet", "cohort/cohort.parquet")
    inputs = {name: digest_file(workspace.root / name) for name in judged}
    _record("audit", inputs | {"policy file": "p" * 64}).write(folder)


def _record(stage: str, inputs: dict[str, str]) -> RunRecord:
    times = {"started": "2026-01-01T00:00:00+00:00", "finished": "2026-01-01T00:00:01+00:00"}
    rest: dict[str, Any] = {"outputs": {}, "config": {}, "code_version": "0", "seed": 0, "cost": {}}
    return RunRecord(stage=stage, inputs=inputs, **times, **rest)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow store whose tables are made already, which takes seconds."""
    mlflow = pytest.importorskip("mlflow")
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "cohort.yaml").write_text("name: c\n")
    config = PipelineConfig(
        name="hand", runs_dir=tmp_path / "runs", cohort=tmp_path / "cohort.yaml", plugins=()
    )
    workspace = Workspace(config)
    write_settings(config, workspace.root)
    model = workspace.stage("train") / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"weights")
    cohort = pd.DataFrame({"subject_id": ["A", "B"], "label": [0.0, 1.0]})
    cohort.to_parquet(workspace.stage("cohort") / "cohort.parquet")
    (workspace.stage("cohort") / "spec.json").write_text(json.dumps(COHORT))
    write_origin(workspace, ["A", "B"], "d" * 64)
    cohort.assign(probability=[0.2, 0.9]).to_parquet(workspace.stage("predict") / "predictions.parquet")
    figures = workspace.stage("evaluate") / "figures"
    figures.mkdir()
    (figures / "roc.svg").write_text("<svg/>")
    metrics = {
        "n": 2,
        "fused": {"auroc": {"value": 0.9, "low": None}},
        "controls": [{"control": "single:ehr", "auroc": {"value": 0.7}}],
        "verdict": {"sentence": "Fusion helps."},
    }
    (workspace.stage("evaluate") / "metrics.json").write_text(json.dumps(metrics))
    write_audit(workspace, 0)
    return workspace
