"""Metrics against scikit-learn, scipy and statsmodels-free independent computations."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import minimize
from scipy.special import expit
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from clinimm.evaluate import metrics as m


@st.composite
def ties(draw):
    n = draw(st.integers(4, 40))
    label = draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=n, max_size=n))
    score = draw(st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9]), min_size=n, max_size=n))
    label[0], label[1] = 0.0, 1.0
    return np.array(label), np.array(score)


@pytest.fixture
def sample():
    generator = np.random.default_rng(5)
    label = (generator.random(300) < 0.3).astype(float)
    return label, np.round(expit(1.5 * label - 1 + generator.normal(size=300)), 2)


@given(ties())
def test_auroc_with_ties_is_scikit_learns(pair):
    assert m.auroc(*pair) == pytest.approx(sk.roc_auc_score(*pair), abs=1e-12)


@given(ties())
def test_mean_of_either_placement_is_the_auroc(pair):
    of_positives, of_negatives = m.placements(*pair)
    assert of_positives.mean() == pytest.approx(m.auroc(*pair), abs=1e-12)
    assert of_negatives.mean() == pytest.approx(m.auroc(*pair), abs=1e-12)


@given(ties())
def test_average_precision_with_ties_is_scikit_learns(pair):
    assert m.average_precision(*pair) == pytest.approx(sk.average_precision_score(*pair), abs=1e-12)


def test_auroc_of_one_class_does_not_exist():
    assert math.isnan(m.auroc(np.ones(3), np.array([0.1, 0.2, 0.3])))


def test_auroc_of_a_rare_disease_scale_is_exact(sample):
    # A grid of whole percents reads 0.556 where the exact value is 0.718 (a defect of another tool).
    label, probability = sample
    assert m.auroc(label, probability * 0.02) == pytest.approx(
        sk.roc_auc_score(label, probability), abs=1e-12
    )


def test_delong_variance_is_the_double_sum_of_its_kernel(sample):
    label, score = sample
    x, y = score[label == 1], score[label == 0]
    kernel = (x[:, None] > y[None]) + 0.5 * (x[:, None] == y[None])
    expected = np.var(kernel.mean(1), ddof=1) / len(x) + np.var(kernel.mean(0), ddof=1) / len(y)
    assert m.delong_variance(*m.placements(label, score)) == pytest.approx(expected, rel=1e-12)


def test_auroc_interval_holds_the_truth_in_about_95_of_100_samples():
    generator = np.random.default_rng(1)
    truth, inside = 0.8, 0
    shift = math.sqrt(2) * stats.norm.ppf(truth)
    label = np.repeat([1.0, 0.0], [20, 40])
    for _ in range(600):
        score = generator.normal(size=60) + shift * label
        variance = m.delong_variance(*m.placements(label, score))
        low, high = m.auroc_interval(m.auroc(label, score), variance, 20, 0.95)
        inside += low <= truth <= high
    assert 0.925 < inside / 600 < 0.98


def test_auroc_interval_of_a_perfect_separation_is_not_a_point():
    assert m.auroc_interval(1.0, 0.0, 10, 0.95)[0] == pytest.approx(m.wilson(10, 10)[0])


def test_brier_and_log_loss_are_scikit_learns(sample):
    assert m.brier(*sample) == pytest.approx(sk.brier_score_loss(*sample))
    label, probability = sample
    kept = np.clip(probability, 1e-6, 1 - 1e-6)
    assert m.log_loss(*sample) == pytest.approx(sk.log_loss(label, kept))


def test_calibration_error_by_hand():
    label = np.array([0, 0, 1, 0, 1, 1, 1, 1], float)
    probability = np.array([0.1, 0.1, 0.2, 0.2, 0.7, 0.7, 0.9, 0.9])
    low, high = abs(1 / 4 - 0.15), abs(1 - 0.8)
    assert m.calibration_error(label, probability, bins=2) == pytest.approx((low + high) / 2)


def test_calibration_bins_keep_equal_probabilities_together():
    probability = np.array([0.1] * 7 + [0.5] * 2 + [0.9] * 11)
    member = m.equal_mass_bins(probability, 5)
    assert len({(p, b) for p, b in zip(probability, member, strict=True)}) == 3


def test_calibration_slope_is_unpenalised_logistic_regression(sample):
    label, probability = sample
    probability = np.clip(probability, 0.01, 0.99)
    x = np.log(probability / (1 - probability))
    fit = LogisticRegression(C=np.inf, tol=1e-10).fit(x[:, None], label)
    assert m.calibration(label, probability).slope == pytest.approx(fit.coef_[0, 0], abs=1e-4)


def test_calibration_intercept_maximises_the_likelihood_with_the_slope_at_one(sample):
    label, probability = sample
    probability = np.clip(probability, 0.01, 0.99)
    x = np.log(probability / (1 - probability))
    loss = lambda a: float(np.sum(np.logaddexp(0, a[0] + x) - label * (a[0] + x)))  # noqa: E731
    best = minimize(loss, [0.0], tol=1e-12).x[0]
    assert m.calibration(label, probability).intercept == pytest.approx(best, abs=1e-5)


def test_calibration_slope_of_separated_classes_does_not_exist():
    label = np.repeat([0.0, 1.0], 10)
    assert math.isnan(m.calibration(label, np.linspace(0.1, 0.9, 20)).slope)


def test_calibration_slope_of_one_probability_does_not_exist():
    assert math.isnan(m.calibration(np.array([0.0, 1.0, 1.0, 0.0]), np.full(4, 0.3)).slope)


@given(st.integers(1, 400), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_is_scipys(n, share, level):
    successes = round(share * n)
    expected = stats.binomtest(successes, n).proportion_ci(level, "wilson")
    assert m.wilson(successes, n, level) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_of_nobody_does_not_exist():
    assert all(math.isnan(end) for end in m.wilson(0, 0))


def test_rates_are_scikit_learns(sample):
    label, probability = sample
    decision = (probability >= 0.4).astype(float)
    expected = {
        "sensitivity": sk.recall_score(label, decision),
        "specificity": sk.recall_score(label, decision, pos_label=0),
        "ppv": sk.precision_score(label, decision),
        "npv": sk.precision_score(label, decision, pos_label=0),
        "fnr": 1 - sk.recall_score(label, decision),
        "fpr": 1 - sk.recall_score(label, decision, pos_label=0),
    }
    for name, value in expected.items():
        successes, n = m.rate_counts(name, label, decision)
        assert successes / n == pytest.approx(value), name


def test_ppv_where_nobody_is_flagged_has_no_denominator():
    assert m.rate_counts("ppv", np.array([1.0, 0.0]), np.zeros(2)) == (0.0, 0.0)


def test_net_benefit_by_hand(sample):
    label, probability = sample
    flagged = probability >= 0.25
    true, false = np.sum(flagged & (label == 1)), np.sum(flagged & (label == 0))
    expected = true / 300 - false / 300 * (0.25 / 0.75)
    assert m.net_benefit(label, flagged.astype(float), 0.25) == pytest.approx(expected)


def test_flagging_everybody_is_worth_nothing_at_the_prevalence(sample):
    label, _ = sample
    assert m.treat_all(label, float(label.mean())) == pytest.approx(0.0, abs=1e-12)


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_no_metric_of_random_input_is_infinite(seed):
    generator = np.random.default_rng(seed)
    label = (generator.random(20) < 0.5).astype(float)
    probability = generator.choice([0.0, 0.5, 1.0], 20)
    values = [m.log_loss(label, probability), m.calibration(label, probability).slope]
    assert not any(math.isinf(value) for value in values)
    json.dumps([None if math.isnan(value) else value for value in values], allow_nan=False)
