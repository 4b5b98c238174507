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
    made = Workspace(PipelineConfig(name="toy", runs_dir=tmp_path, evaluate={"bootstraps": 200}))
    task = {"name": "diagnosis", "kind": "binary", "classes": ["severe"]}
    (made.stage("cohort") / "task.json").write_text(json.dumps(task))
    tables = _module.run_tables(n=120)
    _module.write(tables, made.stage("predict"))
    _module.cohort(120).to_parquet(made.stage("cohort") / "cohort.parquet")
    evaluated = evaluate_tables(
        tables, Task("diagnosis", "binary", ("severe",)), made.config.evaluate, seed=0
    )
    (made.stage("evaluate") / "metrics.json").write_text(json.dumps(evaluated.metrics))
    return made
