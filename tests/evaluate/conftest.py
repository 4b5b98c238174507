"""Fixtures: tiny prediction tables and a run's folder that holds them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from clinimm.config import PipelineConfig
from clinimm.evaluate.stage import run
from clinimm.progress import QUIET
from clinimm.workspace import Workspace

_spec = importlib.util.spec_from_file_location("prediction_tables", Path(__file__).with_name("tables.py"))
assert _spec is not None and _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)


@pytest.fixture(scope="session")
def tables() -> ModuleType:
    """Functions that make prediction tables."""
    return _module


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A run that got as far as predict."""
    return _predicted(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A run that was evaluated; read it only."""
    made = _predicted(tmp_path_factory.mktemp("finished"))
    run(made, QUIET)
    return made


def _predicted(folder: Path) -> Workspace:
    made = Workspace(PipelineConfig(name="toy", runs_dir=folder, evaluate={"bootstraps": 200}))
    task = {"name": "diagnosis", "kind": "binary", "classes": ["severe"]}
    (made.stage("cohort") / "task.json").write_text(json.dumps(task))
    _module.write(_module.run_tables(n=120), made.stage("predict"))
    _module.cohort(120).to_parquet(made.stage("cohort") / "cohort.parquet")
    return made
