"""Agreement of two measurements, with intervals by unit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from clinimm.staining import agreement


def test_the_interval_of_a_mean_is_students() -> None:
    values = np.random.default_rng(0).normal(size=9)
    found = agreement.by_unit(lambda rows: float(values[rows].mean()), list(range(9)))
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))
    plain = agreement.mean_figure(values)
    assert (plain.low, plain.high) == pytest.approx((theirs.low, theirs.high))


def test_a_mean_by_unit_counts_every_unit_alike() -> None:
    values = np.array([1.0, 1.0, 1.0, 5.0, np.nan])
    assert agreement.mean_by_unit(values, ["a", "a", "a", "b", "b"]).value == 3.0


def test_pearson_auroc_and_concordance_are_the_known_ones() -> None:
    generator = np.random.default_rng(1)
    first = generator.normal(size=50)
    second = first + generator.normal(size=50).round(1)
    assert agreement.pearson(first, second) == pytest.approx(stats.pearsonr(first, second).statistic)
    tied = second.round()
    assert agreement.auroc(first > 0, tied) == pytest.approx(roc_auc_score(first > 0, tied))
    assert agreement.concordance(first, first) == pytest.approx(1)
    assert agreement.concordance(first, first + 10) < 0.05


def test_a_partial_correlation_is_the_entry_of_the_inverted_correlation_matrix() -> None:
    generator = np.random.default_rng(2)
    given = generator.normal(size=(80, 2))
    first = given @ [1.0, -2.0] + generator.normal(size=80)
    second = given @ [3.0, 1.0] + 0.5 * first + generator.normal(size=80)
    inverse = np.linalg.inv(np.corrcoef(np.column_stack([first, second, given]), rowvar=False))
    expected = -inverse[0, 1] / math.sqrt(inverse[0, 0] * inverse[1, 1])
    assert agreement.partial_correlation(first, second, given) == pytest.approx(expected)


def test_a_constant_estimate_follows_nothing() -> None:
    values = np.arange(10.0)
    assert agreement.pearson(values, np.full(10, 0.1)) == 0
    assert math.isnan(agreement.pearson(np.full(10, 0.1), values))
    assert agreement.partial_correlation(values, np.full(10, 0.1), np.eye(10)[:, :2]) == 0


def test_too_few_units_give_a_value_and_a_reason_but_no_interval() -> None:
    found = agreement.correlation(np.arange(9.0), np.arange(9.0) ** 2, ["a", "b", "c"] * 3)
    assert found.value > 0.9
    assert math.isnan(found.low)
    assert not found.known
    assert "3 units are too few" in found.reason


def test_a_figure_that_hangs_on_one_unit_has_no_interval() -> None:
    flags = np.array([1, 0, 0, 0, 0, 0, 0, 0], dtype=bool)
    found = agreement.by_unit(
        lambda rows: agreement.auroc(flags[rows], np.arange(8.0)[rows]), list("aabbccdd")
    )
    assert "single unit" in found.reason


def test_limits_of_agreement_hold_their_level() -> None:
    generator = np.random.default_rng(3)
    true_upper, held = 1.959964, 0
    for _ in range(400):
        difference = generator.normal(size=10)
        upper = agreement.limits_of_agreement(np.zeros(10), difference, list(range(10))).upper
        held += upper.low <= true_upper <= upper.high
    assert 0.92 < held / 400 < 0.98


def test_limits_with_several_rows_a_unit_have_the_same_points() -> None:
    difference = np.random.default_rng(4).normal(size=24)
    exact = agreement.limits_of_agreement(np.zeros(24), difference, list(range(24)))
    grouped = agreement.limits_of_agreement(np.zeros(24), difference, [n // 4 for n in range(24)])
    for end in ("bias", "lower", "upper"):
        assert getattr(grouped, end).value == pytest.approx(getattr(exact, end).value)
    assert (exact.upper.n, grouped.upper.n) == (24, 6)


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_the_interval_of_a_correlation_covers_with_six_subjects(correlation: float) -> None:
    generator = np.random.default_rng(5)
    mix = np.linalg.cholesky([[1, correlation], [correlation, 1]]).T
    held, draws = 0, 200
    for _ in range(draws):
        raw = 0.5 * generator.normal(size=(6, 1, 2)) + generator.normal(size=(6, 12, 2))
        first, second = (raw @ mix).reshape(-1, 2).T
        found = agreement.correlation(first, second, list(np.repeat(range(6), 12)))
        held += found.low <= correlation <= found.high
    assert held / draws > 0.90


def test_the_interval_of_a_share_stays_between_zero_and_one() -> None:
    values = np.array([0.99, 0.97, 1.0, 0.7, 0.98])
    found = agreement.by_unit(lambda rows: float(values[rows].mean()), list("abcde"), "share")
    assert 0 < found.low < found.value < found.high < 1


def test_an_auroc_within_groups_ignores_what_differs_between_them() -> None:
    generator = np.random.default_rng(6)
    groups = np.repeat([0, 1], 40)
    positive = generator.random(80) < np.where(groups == 1, 0.8, 0.2)
    value = 10.0 * groups + generator.normal(size=80)
    assert agreement.auroc(positive, value) > 0.7
    parts = [roc_auc_score(positive[groups == group], value[groups == group]) for group in (0, 1)]
    pairs = [positive[groups == group].sum() * (~positive[groups == group]).sum() for group in (0, 1)]
    found = agreement.auroc_within(positive, value, groups)
    assert found == pytest.approx(np.average(parts, weights=pairs))
