from __future__ import annotations

import numpy as np
import pandas as pd

from clinimm.explain.select import explained_class, select_subjects


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
    assert select_subjects(table, 4) == ["s1", "s4", "s3", "s0"]


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
