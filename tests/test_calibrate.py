from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression

from clinimm.calibrate import platt, platt_multiclass


def test_with_many_subjects_it_is_unpenalised_logistic_regression() -> None:
    draw = np.random.default_rng(0)
    logits = draw.normal(size=20_000)
    labels = (draw.random(20_000) < expit(0.5 * logits - 1)).astype(float)
    slope, intercept = platt(logits, labels)
    reference = LogisticRegression(C=np.inf).fit(logits[:, None], labels)
    assert abs(slope - reference.coef_[0, 0]) < 5e-3
    assert abs(intercept - reference.intercept_[0]) < 5e-3


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(-5, 5), st.booleans()), min_size=1, max_size=12))
def test_a_handful_of_subjects_cannot_turn_the_ranking_over(rows: list[tuple[float, bool]]) -> None:
    logits = np.array([row[0] for row in rows])
    slope, intercept = platt(logits, np.array([float(row[1]) for row in rows]))
    assert 0 < slope < 20
    assert np.isfinite(intercept)


def test_one_class_only_changes_nothing() -> None:
    assert platt(np.array([1.0, 2.0]), np.array([1.0, 1.0])) == (1.0, 0.0)


def test_multiclass_recovers_slope_and_prior() -> None:
    draw = np.random.default_rng(1)
    logits = draw.normal(size=(20_000, 3))
    chances = softmax(0.7 * logits + np.array([0.5, 0.0, -0.5]), axis=1)
    classes = (draw.random(20_000)[:, None] > chances.cumsum(1)).sum(1)
    slope, intercept = platt_multiclass(logits, classes)
    np.testing.assert_allclose(slope, 0.7, atol=0.04)
    np.testing.assert_allclose(intercept - intercept.mean(), [0.5, 0.0, -0.5], atol=0.06)
