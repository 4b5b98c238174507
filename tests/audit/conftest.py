"""Fixtures: tiny prediction tables and a run's folder that holds them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from clinimm.config import PipelineConfig
from clinimm.evaluate.assemble import Task, evaluate_tables
from clinimm.workspace import Workspace

_tables = Path(__file__).parents[1] / "evaluate" / "tables.py"
_spec = importlib.util.spec_from_file_location("prediction_tables", _tables)
assert _spec is not None and _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)


@pytest.fixture(scope="session")
def tables() -> ModuleType:
    """Functions that make prediction tables."""
    return _module


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A run that got as far as evaluate, without its figures."""
    return write_run(tmp_path)


def write_run(folder: Path, n: int = 120, repeats: int = 1) -> Workspace:
    """A run of two modalities; some subjects lack notes."""
    made = Workspace(PipelineConfig(name="toy", runs_dir=folder, evaluate={"bootstraps": 200}))
    task = {"name": "diagnosis", "kind": "binary", "classes": ["severe"]}
    (made.stage("cohort") / "task.json").write_text(json.dumps(task))
    tables = _module.run_tables(n=n, repeats=repeats)
    _module.write(tables, made.stage("predict"))
    path = made.stage("predict")
    lacks = tables.predictions["subject_id"].str[-1].isin(["1", "2"])
    tables.predictions.loc[lacks, "modalities_present"] = "ehr"
    tables.predictions.to_parquet(path / "predictions.parquet")
    tables.predictions.assign(probability=0.4).to_parquet(path / "nothing.parquet")
    gone = tables.subsets["subject_id"].str[-1].isin(["1", "2"]) & (tables.subsets["subset"] == "notes")
    tables.subsets[~gone].to_parquet(path / "subsets.parquet")
    _module.cohort(n).to_parquet(made.stage("cohort") / "cohort.parquet")
    evaluated = evaluate_tables(
        tables, Task("diagnosis", "binary", ("severe",)), made.config.evaluate, seed=0
    )
    (made.stage("evaluate") / "metrics.json").write_text(json.dumps(evaluated.metrics))
    return made
