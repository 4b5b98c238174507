from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from clinimm.evaluate import bootstrap as b
from clinimm.evaluate.metrics import auroc
from clinimm.evaluate.panel import panel_of


@st.composite
def weighted(draw):
    """A sample with ties, and a weight of each subject that leaves both classes in."""
    n = draw(st.integers(4, 25))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    label = generator.integers(0, 2, n).astype(float)
    label[:2] = 0.0, 1.0
    weights = generator.integers(0, 4, n)
    weights[:2] = 1
    return label, generator.choice([0.1, 0.2, 0.5, 0.8], n), weights


@given(weighted())
def test_weights_are_the_same_as_drawing_subjects_that_often(sample):
    label, score, weights = sample
    repeated = np.repeat(label, weights), np.repeat(score, weights)
    one = weights[None].astype(float)
    assert b.weighted_auroc(label, score, one)[0] == pytest.approx(roc_auc_score(*repeated), abs=1e-12)
    precision = b.weighted_average_precision(label, score, one)[0]
    assert precision == pytest.approx(average_precision_score(*repeated), abs=1e-12)


def test_every_draw_keeps_the_size_of_every_stratum():
    strata = np.array([0] * 7 + [1] * 3 + [2])
    weights = b.draw_weights(strata, 50, seed=1)
    for value, size in ((0, 7), (1, 3), (2, 1)):
        assert (weights[:, strata == value].sum(axis=1) == size).all()


def test_draws_depend_on_the_seed_alone():
    strata = np.repeat([0, 1], 20)
    assert (b.draw_weights(strata, 10, 3) == b.draw_weights(strata, 10, 3)).all()
    assert (b.draw_weights(strata, 10, 3) != b.draw_weights(strata, 10, 4)).any()


def test_a_draw_counts_each_subject_as_often_as_theory_says():
    weights = b.draw_weights(np.zeros(10, int), 4000, 0)
    assert weights.mean() == 1.0
    assert weights.var() == pytest.approx(0.9, abs=0.03)


def test_statistic_is_the_mean_over_repeats_of_the_pooled_value(tables):
    generator = np.random.default_rng(0)
    label = (np.arange(60) < 25).astype(float)
    frame = tables.cross_validated(generator, label, 1.0, 3)
    each = [
        auroc(part["label"].to_numpy(), part["probability"].to_numpy()) for _, part in frame.groupby("repeat")
    ]
    assert b.point(panel_of(frame, ["severe"]), b.weighted_auroc) == pytest.approx(np.mean(each))


def test_repeats_of_the_same_subjects_do_not_narrow_the_interval(tables):
    label = (np.arange(80) < 30).astype(float)
    once = tables.frame(label, tables.scores(np.random.default_rng(0), label, 1.0))
    often = [once.assign(repeat=repeat) for repeat in range(5)]
    import pandas as pd

    one, five = panel_of(once, ["severe"]), panel_of(pd.concat(often), ["severe"])
    weights = b.draw_weights(one.strata, 300, 0)
    narrow = b.auroc_estimate(five, b.resampled(five, b.weighted_auroc, weights), 0.95, 1)
    wide = b.auroc_estimate(one, b.resampled(one, b.weighted_auroc, weights), 0.95, 1)
    assert (narrow.low, narrow.high) == pytest.approx((wide.low, wide.high))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 3))
def test_difference_of_a_model_with_itself_is_zero(tables, seed, repeats):
    label = (np.arange(30) < 12).astype(float)
    panel = panel_of(tables.cross_validated(np.random.default_rng(seed), label, 1.0, repeats), ["severe"])
    draws = b.resampled(panel, b.weighted_auroc, b.draw_weights(panel.strata, 50, seed))
    difference = b.paired_difference("itself", panel, panel, draws - draws, 0.95)
    assert (difference.value, difference.low, difference.high, difference.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_paired_interval_is_narrower_than_that_of_independent_models(tables):
    generator = np.random.default_rng(2)
    label = (np.arange(200) < 80).astype(float)
    shared = generator.normal(size=200)
    first = panel_of(tables.frame(label, tables.scores(generator, label, 1.5, 3 * shared)), ["severe"])
    second = panel_of(tables.frame(label, tables.scores(generator, label, 1.2, 3 * shared)), ["severe"])
    weights = b.draw_weights(first.strata, 400, 0)
    one, two = (b.resampled(panel, b.weighted_auroc, weights) for panel in (first, second))
    paired = b.paired_difference("second", first, second, one - two, 0.95)
    assert paired.standard_error < 0.7 * np.hypot(one.std(), two.std())


def test_bca_interval_is_scipys():
    from scipy.stats import bootstrap

    generator = np.random.default_rng(0)
    values = generator.exponential(size=60)
    weights = b.draw_weights(np.zeros(60, int), 20_000, 1)
    draws = weights @ values / 60
    mine = b.bootstrap_interval(draws, float(values.mean()), 0.95, values - values.mean())
    theirs = bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=3).confidence_interval
    assert mine == pytest.approx((theirs.low, theirs.high), abs=0.012)


def test_interval_is_missing_where_too_many_draws_have_no_value():
    draws = np.r_[np.full(6, np.nan), np.linspace(0, 1, 94)]
    assert np.isnan(b.bootstrap_interval(draws, 0.5, 0.95)).all()


def test_complete_separation_gets_an_interval_that_is_no_point(tables):
    label = np.repeat([0.0, 1.0], 12)
    panel = panel_of(tables.frame(label, np.linspace(0, 1, 24)), ["severe"])
    draws = b.resampled(panel, b.weighted_auroc, b.draw_weights(panel.strata, 100, 0))
    figure = b.auroc_estimate(panel, draws, 0.95, 10)
    assert figure.value == 1.0 and 0.6 < figure.low < 0.9 and "Wilson" in figure.method
