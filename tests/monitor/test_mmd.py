from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist
from scipy.stats import binom

from clinimm.monitor.mmd import discrepancy


def _clouds(seed: int, n: int, apart: float = 0.0, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, 5)), generator.normal(apart, spread, size=(n, 5))


def test_the_estimate_is_the_unbiased_one_of_gretton() -> None:
    left, right = _clouds(0, 30, 0.5)
    both = np.concatenate([left, right])
    both = (both - both.mean(axis=0)) / both.std(axis=0)
    median = np.median(pdist(both, "sqeuclidean"))

    def kernel(one: np.ndarray, two: np.ndarray) -> np.ndarray:
        apart = cdist(one, two, "sqeuclidean")
        return np.mean([np.exp(-apart / (scale * median)) for scale in (0.25, 1.0, 4.0)], axis=0)

    off = ~np.eye(30, dtype=bool)
    expected = (
        kernel(both[:30], both[:30])[off].mean()
        + kernel(both[30:], both[30:])[off].mean()
        - 2 * kernel(both[:30], both[30:]).mean()
    )
    assert discrepancy(left, right, 99, 0).value == pytest.approx(expected)


def test_false_alarms_come_at_alpha() -> None:
    looks = 300
    alarms = sum(discrepancy(*_clouds(seed, 20), 49, seed).p_value <= 0.1 for seed in range(looks))
    assert binom.ppf(0.001, looks, 0.1) <= alarms <= binom.ppf(0.999, looks, 0.1)


@pytest.mark.parametrize(("apart", "spread"), [(0.8, 1.0), (0.0, 1.8)])
def test_a_shift_and_a_wider_spread_are_found(apart: float, spread: float) -> None:
    assert discrepancy(*_clouds(1, 100, apart, spread), 199, 0).p_value <= 0.01


def test_missing_values_lie_at_the_mean_and_large_samples_are_drawn_from() -> None:
    left, right = _clouds(2, 200)
    left[::3, 0], right[::3, 0] = np.nan, np.nan
    found = discrepancy(left, right, 99, 0, most=50)
    assert (found.n, found.reference_n) == (50, 50)
    assert found.p_value > 0.01
    assert found == discrepancy(left, right, 99, 0, most=50)
