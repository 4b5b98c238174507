from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from clinimm.audit.engine.intervals import auroc_interval, clopper_pearson, mover_difference, mover_ratio


@pytest.mark.parametrize("n", [1, 7, 40])
def test_clopper_pearson_equals_scipy(n: int) -> None:
    k = np.arange(n + 1)
    low, high = clopper_pearson(k, np.full(n + 1, n), 0.95)
    for count in k:
        exact = binomtest(int(count), n).proportion_ci(0.95, method="exact")
        assert (low[count], high[count]) == pytest.approx((exact.low, exact.high), abs=1e-9)


@pytest.mark.parametrize(("n", "m", "p", "q"), [(5, 5, 0.05, 0.05), (10, 50, 0.01, 0.2), (20, 20, 0.5, 0.3)])
def test_differences_and_ratios_cover_by_exact_enumeration(n: int, m: int, p: float, q: float) -> None:
    k, j = np.arange(n + 1.0), np.arange(m + 1.0)
    low, high = clopper_pearson(k, np.full(n + 1, n), 0.95)
    least, most = clopper_pearson(j, np.full(m + 1, m), 0.95)
    first = (k[:, None] / n, low[:, None], high[:, None])
    second = (j[None] / m, least[None], most[None])
    weight = binom.pmf(k, n, p)[:, None] * binom.pmf(j, m, q)[None]
    for ends, truth in ((mover_difference(first, second), p - q), (mover_ratio(first, second), p / q)):
        assert weight[(ends[0] <= truth) & (truth <= ends[1])].sum() >= 0.94


def test_newcombes_published_example() -> None:
    # Newcombe, Stat Med 1998, table II, contrast (a): 56/70 against 48/80, method 10: 0.0524 to 0.3339.
    wilson = [np.array(ends) for ends in ((0.8, 0.6918, 0.8777), (0.6, 0.4906, 0.7000))]
    low, high = mover_difference(tuple(wilson[0]), tuple(wilson[1]))  # type: ignore[arg-type]
    assert (low, high) == pytest.approx((0.0524, 0.3339), abs=3e-4)


def test_an_auroc_of_one_keeps_room_below() -> None:
    one = np.array([1.0])
    low, high = auroc_interval(one, np.array([0.0]), np.array([4.0]), np.array([5.0]), np.array([20.0]), 0.95)
    assert 0.5 < low[0] < 0.9
    assert high[0] == pytest.approx(1.0)
