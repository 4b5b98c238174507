from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinimm.config import EvaluateConfig
from clinimm.evaluate.operating import (
    OperatingPoint,
    choose_operating_point,
    threshold_at_sensitivity,
    threshold_at_specificity,
)
from clinimm.evaluate.panel import panel_of, tuning_panel_of

ONE = ["severe"]
sample = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.1, 0.2, 0.4, 0.6, 0.9])),
    min_size=2,
    max_size=40,
).filter(lambda rows: {label for label, _ in rows} == {0.0, 1.0})


@given(sample, st.sampled_from([0.5, 0.8, 0.9, 1.0]))
def test_threshold_is_the_highest_that_reaches_the_sensitivity(rows, aim):
    label, probability = (np.array(column) for column in zip(*rows, strict=True))
    chosen = threshold_at_sensitivity(label, probability, aim)
    reached = [t for t in np.unique(probability) if np.mean(probability[label == 1] >= t) >= aim - 1e-12]
    assert chosen == max(reached)


@given(sample, st.sampled_from([0.5, 0.8, 0.9, 1.0]))
def test_threshold_reaches_the_specificity_and_no_lower_score_does(rows, aim):
    label, probability = (np.array(column) for column in zip(*rows, strict=True))
    chosen = threshold_at_specificity(label, probability, aim)
    alone = lambda t: np.mean(probability[label == 0] < t) >= aim - 1e-12  # noqa: E731
    assert alone(chosen)
    assert not any(alone(t) for t in np.unique(probability) if t < chosen)


def test_a_single_split_has_one_threshold(tables):
    run = tables.run_tables(n=100)
    held_out = panel_of(run.predictions.assign(fold=0), ONE)
    chosen = choose_operating_point(tuning_panel_of(run.tuning, ONE), held_out, EvaluateConfig())
    assert chosen.fits == {} and chosen.note is None and chosen.positives == 40


def test_a_folds_threshold_does_not_see_its_held_out_subjects(tables):
    label = (np.arange(40) < 20).astype(float)
    fold = np.arange(40) % 2
    held_out = tables.frame(label, np.full(40, 0.5), fold=fold)
    # Each subject tunes the fold that does not hold it out; fold 0's subjects score ten times higher.
    tuning = tables.frame(label, np.where(fold == 0, 0.9, 0.09), fold=1 - fold, split="tuning")
    chosen = choose_operating_point(tuning_panel_of(tuning, ONE), panel_of(held_out, ONE), EvaluateConfig())
    assert chosen.fits == {(0, 0): 0.09, (0, 1): 0.9}
    assert chosen.thresholds(panel_of(held_out, ONE))[:, 0] == pytest.approx(np.where(fold == 0, 0.09, 0.9))


def test_too_few_positives_fall_back_to_their_share_and_say_so(tables):
    tuning = tables.frame([1, 1, 0, 0, 0, 0, 0, 0], np.linspace(0, 1, 8))
    held_out = panel_of(tables.frame([1, 0], [0.5, 0.5]), ONE)
    chosen = choose_operating_point(tuning_panel_of(tuning, ONE), held_out, EvaluateConfig())
    assert chosen.threshold == 0.25
    assert "2 positives and 5 are needed" in chosen.note


def test_without_tuning_subjects_it_is_one_half_and_says_so(tables):
    chosen = choose_operating_point(None, panel_of(tables.frame([1, 0], [0.5, 0.5]), ONE), EvaluateConfig())
    assert chosen.threshold == 0.5 and "no labelled tuning" in chosen.note


def test_a_stated_threshold_is_taken_as_it_is(tables):
    # 0.29 must not become 0.28 by way of int(0.29 * 100), a defect of another tool.
    config = EvaluateConfig(operating_point="threshold", operating_value=0.29)
    held_out = panel_of(tables.frame([1, 0, 1], [0.29, 0.285, 0.3]), ONE)
    chosen = choose_operating_point(None, held_out, config)
    assert chosen.decisions(held_out).tolist() == [1.0, 0.0, 1.0]


def test_a_decision_is_the_share_of_repeats(tables):
    frame = pd.concat([tables.frame([1, 0], [p, 0.1], repeat=r) for r, p in enumerate([0.9, 0.4])])
    assert OperatingPoint(0.5, "").decisions(panel_of(frame, ONE)).tolist() == [0.5, 0.0]


def test_json_round_trip():
    point = OperatingPoint(0.25, "how", "note", 10, 4, {(0, 1): 0.5, (1, 0): 0.125})
    assert OperatingPoint.from_json(point.as_json()) == point
