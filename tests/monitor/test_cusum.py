from __future__ import annotations

import numpy as np
import pytest

from clinimm.monitor.cusum import chart, simulated_limit, weights

RISK = np.random.default_rng(0).beta(2, 5, 400)
RUN_LENGTH = 150


def _run_lengths(limit: float, odds_ratio: float, truth: float, streams: int, seed: int) -> np.ndarray:
    """Patients until the alarm, simulated one patient at a time by the textbook's recursion."""
    generator = np.random.default_rng(seed)
    lengths = np.zeros(streams)
    at, running = np.zeros(streams), np.ones(streams, dtype=bool)
    while running.any():
        risk = RISK[generator.integers(0, len(RISK), streams)]
        odds = truth * risk / (1 - risk)
        outcome = (generator.random(streams) < odds / (1 + odds)).astype(float)
        score = np.where(
            outcome > 0,
            np.log(odds_ratio / (1 - risk + odds_ratio * risk)),
            np.log(1 / (1 - risk + odds_ratio * risk)),
        )
        at = np.maximum(0, at + score)
        lengths += running
        running &= at < limit
    return lengths


def test_weights_are_the_log_likelihood_ratios_of_steiner() -> None:
    risk = np.array([0.1, 0.4])
    assert weights(np.array([1.0, 0.0]), risk, 2.0) == pytest.approx(
        [np.log(2 / (1 - 0.1 + 2 * 0.1)), np.log(1 / (1 - 0.4 + 2 * 0.4))]
    )


@pytest.mark.parametrize("odds_ratio", [2.0, 0.5])
def test_the_limit_gives_the_stated_run_length_and_finds_the_planted_change_soon(odds_ratio: float) -> None:
    limit = simulated_limit(RISK, odds_ratio, RUN_LENGTH, 1000, 1)
    quiet = _run_lengths(limit, odds_ratio, 1.0, 1000, 2)
    assert quiet.mean() == pytest.approx(RUN_LENGTH, rel=0.15)  # both sides simulated: four standard errors
    faulty = _run_lengths(limit, odds_ratio, odds_ratio, 500, 3)
    assert faulty.mean() < RUN_LENGTH / 3


def test_a_chart_is_the_recursion_and_alarms_at_its_first_crossing() -> None:
    generator = np.random.default_rng(4)
    outcome = (generator.random(300) < 0.5).astype(float)
    one = chart(outcome, RISK[:300], 2.0, 3.0)
    at, path = 0.0, []
    for step in weights(outcome, RISK[:300], 2.0):
        at = max(0.0, at + step)
        path.append(at)
    assert one.path == pytest.approx(path)
    assert one.alarm == next(place for place, value in enumerate(path) if value >= 3.0)
    assert chart(np.zeros(10), RISK[:10], 2.0, 3.0).alarm is None
