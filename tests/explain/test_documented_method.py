"""The code of ``docs/how-to/add-an-explanation-method.md`` runs as it stands there, on a small run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch

from clinimm.config import PipelineConfig
from clinimm.core.prediction import PREDICTION_COLUMNS
from clinimm.explain.methods import METHODS
from clinimm.model import FusionModel
from clinimm.settings import write_settings
from clinimm.workspace import Workspace
from tests.toy import toy_modalities, toy_modality, toy_spec, toy_table

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "add-an-explanation-method.md"
SUBJECTS = [f"s{place}" for place in range(4)]


@pytest.fixture(autouse=True)
def _toy() -> Iterator[None]:
    find = lambda name, plugins=(): toy_modality(name)  # noqa: E731
    known = dict(METHODS)
    with toy_modalities(), mock.patch("clinimm.explain.subject.get_modality", find):
        yield
    METHODS.clear()
    METHODS.update(known)


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """``runs/demo`` below the working folder: one fit, two modalities, six tokens each."""
    monkeypatch.chdir(tmp_path)
    config = PipelineConfig.model_validate({"name": "demo", "runs_dir": Path("runs")})
    found = Workspace(config)
    for place, name in enumerate(("a", "b")):
        table = toy_table(SUBJECTS, np.linspace(-1, 1, len(SUBJECTS)), seed=place, tokens=6)
        folder = found.root / "encode" / name
        folder.mkdir(parents=True)
        table.tokens.to_parquet(folder / "tokens.parquet")
        np.save(folder / "values.npy", table.values)
    torch.manual_seed(0)
    model = FusionModel(toy_spec(("a", "b")))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    digest = model.save_pretrained(found.root / "train" / "fits" / "r0-f0")
    row = {"task": "toy", "class_name": "yes", "label": 1.0, "modalities_present": "a+b", "split": "held_out"}
    known = {
        "index_time": pd.Timestamp("2024-01-01T00:00:00Z"),
        "model_digest": digest,
        "repeat": 0,
        "fold": 0,
    }
    rows = [row | known | {"subject_id": one, "probability": 0.2 + 0.1 * i} for i, one in enumerate(SUBJECTS)]
    table = pd.DataFrame(rows, columns=list(PREDICTION_COLUMNS))
    table.to_parquet(found.stage("predict") / "predictions.parquet")
    write_settings(config, found.root)
    return found


def _run_the_page() -> dict[str, Any]:
    names: dict[str, Any] = {}
    for block in re.findall(
        r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    ):
        exec(compile(block, str(PAGE), "exec"), names)  # our own page
    return names


def test_the_page_runs_and_its_method_does_what_it_promises(demo: Workspace) -> None:
    names = _run_the_page()
    found, method = names["found"], METHODS["first_order"]
    assert (method.sums, method.unit, method.role) == (False, "logit", "attribution")
    summary = found.summary.iloc[0]
    assert summary["attribution_sum"] == pytest.approx(found.attributions["score"].sum())
    residual = summary["logit"] - summary["baseline_logit"] - summary["attribution_sum"]
    assert -summary["convergence_delta"] == pytest.approx(residual)
    assert {"deletion", "insertion", "infidelity"} <= set(found.checks["check"])
    assert "completeness" not in set(found.checks["check"]), "the page says that it is missing"
    assert set(found.standings["modality"]) == {"a", "b", "all"}
    assert len(names["deepest"]) == 6 * 3, "six shuffles of two maps and their sum"


def test_nothing_is_written_as_the_page_says(demo: Workspace) -> None:
    before = sorted(demo.root.rglob("*"))
    _run_the_page()
    assert sorted(demo.root.rglob("*")) == before
