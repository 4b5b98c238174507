from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, chi2_contingency, ks_2samp

from clinimm.monitor.univariate import compare_fields


def _pair(seed: int, fields: int, n: int = 60) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Correlated numbers and levels of the same law on both sides."""
    generator = np.random.default_rng(seed)
    common = generator.normal(size=(2 * n, 1))
    numbers = common + generator.normal(size=(2 * n, fields))
    table = pd.DataFrame(numbers).rename(columns=lambda place: f"f{place}")
    table["level"] = np.where(common[:, 0] > 0, "high", "low")
    table.loc[generator.random(2 * n) < 0.2, "f0"] = np.nan
    return table[:n], table[n:]


def test_statistics_are_scipy_s() -> None:
    before, now = _pair(0, 2)
    found = {one.name: one for one in compare_fields(before, now, "fdr", 99, 0)}
    same = ks_2samp(before["f1"], now["f1"])
    assert found["f1"].distance == pytest.approx(same.statistic)
    assert found["f1"].p_value == pytest.approx(same.pvalue)
    table = pd.crosstab(pd.Series(["r"] * 60 + ["n"] * 60), pd.concat([before, now])["level"].to_numpy())
    assert found["level"].p_value == pytest.approx(chi2_contingency(table, correction=False).pvalue)
    assert found["f0"].n == now["f0"].notna().sum()


@pytest.mark.parametrize("adjust", ["max_t", "fdr"])
def test_the_chance_of_any_false_alarm_is_at_most_alpha(adjust: str) -> None:
    alpha, looks = 0.1, 120
    alarms = sum(
        min(one.adjusted for one in compare_fields(*_pair(seed, 6, 30), adjust, 99, seed)) <= alpha
        for seed in range(looks)
    )
    assert alarms <= binom.ppf(0.999, looks, alpha)
    if adjust == "max_t":
        assert alarms >= binom.ppf(0.001, looks, alpha)  # exact, not only a bound


def test_a_planted_shift_is_found_and_nothing_else() -> None:
    before, now = _pair(3, 6, 200)
    found = compare_fields(before, now.assign(f2=now["f2"] + 1.5), "max_t", 499, 0)
    assert [one.name for one in found if one.adjusted <= 0.01] == ["f2"]
    new = compare_fields(before, now.assign(level="other"), "max_t", 499, 0)
    assert next(one for one in new if one.name == "level").distance == pytest.approx(1.0)


def test_what_cannot_be_compared_is_passed_over() -> None:
    constant = pd.DataFrame({"a": np.ones(40), "b": [np.nan] * 39 + [1.0], "c": ["x"] * 40})
    assert compare_fields(constant, constant, "max_t", 99, 0) == []


@pytest.mark.parametrize("rounded", [8, 1])
def test_beyond_its_exact_range_the_distance_and_p_value_are_still_those_of_scipy(rounded: int) -> None:
    generator = np.random.default_rng(3)
    before = np.round(generator.normal(size=10_500), rounded)
    now = np.round(generator.normal(0.02, size=4_000), rounded)
    now[:50] = np.nan
    (found,) = compare_fields(pd.DataFrame({"x": before}), pd.DataFrame({"x": now}), "fdr", 99, 1)
    expected = ks_2samp(before, now[50:], method="asymp")
    assert found.distance == pytest.approx(expected.statistic, abs=1e-12)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert (found.n, found.reference_n) == (3950, 10_500)


def test_values_that_read_alike_are_one_level_and_a_missing_one_is_none() -> None:
    mixed = pd.Series([1, "1", 2, "2", None] * 20, dtype=object)
    (found,) = compare_fields(
        pd.DataFrame({"x": mixed}), pd.DataFrame({"x": mixed.astype("string")}), "fdr", 99, 1
    )
    assert (found.distance, found.n) == (0.0, 80)
