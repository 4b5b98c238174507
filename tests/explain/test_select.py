from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from clinimm.config import PipelineConfig
from clinimm.evaluate.operating import OperatingPoint
from clinimm.explain.select import explained_class, operating_points, select_subjects
from clinimm.workspace import Workspace


def _predictions(probabilities: list[float], labels: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "subject_id": [f"s{place}" for place in range(len(probabilities))],
            "class_name": "yes",
            "probability": probabilities,
            "label": labels,
            "split": "held_out",
            "repeat": 0,
        }
    )


def test_the_first_are_highest_lowest_and_the_surest_errors() -> None:
    table = _predictions([0.1, 0.95, 0.4, 0.9, 0.05, 0.6], [1.0, 1.0, 0.0, 0.0, 0.0, np.nan])
    assert select_subjects(table, 4, np.full(6, 0.5)) == ["s1", "s4", "s3", "s0"]


def test_what_an_error_is_depends_on_the_operating_point_of_each_subject() -> None:
    table = _predictions([0.05, 0.95, 0.30, 0.15, 0.90, 0.60], [0.0, 1.0, 0.0, 1.0, 1.0, 0.0])
    point = np.array([0.2, 0.2, 0.2, 0.2, 0.92, 0.7])
    assert select_subjects(table, 4, point) == ["s1", "s0", "s2", "s3"], "s2 is flagged at 0.2, s5 not at 0.7"
    assert select_subjects(table, 3, np.full(6, 0.5)) == ["s1", "s0", "s5"]


def test_without_an_operating_point_nothing_is_called_an_error() -> None:
    table = _predictions([0.1, 0.95, 0.4, 0.9, 0.05, 0.6], [1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    assert select_subjects(table, 3) == ["s1", "s4", "s2"], "the median follows the extremes"


def test_points_are_those_of_the_fit_that_answered(tmp_path: Path) -> None:
    workspace = Workspace(PipelineConfig.model_validate({"name": "toy", "runs_dir": tmp_path}))
    targets = pd.DataFrame({"class_name": ["yes", "yes", "no"], "repeat": 0, "fold": [0, 1, 0]})
    assert np.isnan(operating_points(workspace, targets)).all(), "not evaluated yet"
    chosen = OperatingPoint(0.3, "sensitivity", fits={(0, 1): 0.4})
    classes = [{"class_name": "yes", "operating_point": chosen.as_json()}]
    metrics = workspace.stage("evaluate") / "metrics.json"
    metrics.write_text(json.dumps({"classes": [*classes, {"class_name": "no", "operating_point": None}]}))
    np.testing.assert_array_equal(operating_points(workspace, targets), [0.3, 0.4, np.nan])


def test_as_many_as_asked_for_and_each_once() -> None:
    random = np.random.default_rng(0)
    table = _predictions(random.random(30).tolist(), (random.random(30) < 0.5).astype(float).tolist())
    for count in (0, 1, 8, 30, 99):
        chosen = select_subjects(table, count)
        assert len(chosen) == len(set(chosen)) == min(count, 30)


def test_the_order_of_the_rows_does_not_matter() -> None:
    table = _predictions([0.5] * 9, [0.0] * 9)
    assert select_subjects(table, 4) == select_subjects(table.iloc[::-1], 4)


def test_one_row_a_subject_of_the_first_repeat_and_the_likeliest_class() -> None:
    table = pd.DataFrame(
        {
            "subject_id": ["a", "a", "a", "b"],
            "class_name": ["x", "y", "x", "x"],
            "probability": [0.3, 0.7, 0.9, 0.2],
            "label": 0.0,
            "split": ["held_out", "held_out", "held_out", "tuning"],
            "repeat": [0, 0, 1, 0],
        }
    )
    found = explained_class(table)
    assert found[["subject_id", "class_name"]].to_numpy().tolist() == [["a", "y"]]
