"""A risk-adjusted CUSUM, with a limit set by simulation for a stated run length without a change.

Steiner et al. (Biostatistics 2000): each patient adds the log likelihood ratio of "the odds of the outcome
are multiplied by R" against "they are as predicted", and the sum never falls below zero. Between two false
alarms lie, on average, as many patients as the limit was set for, were the calibration known. It is
estimated: in simulations of ours a reference of 60 made alarms about five times as frequent (looking for
more outcomes), one of 200 about one and a half times, one of 1,000 hardly (Jones and Steiner, Int J Qual
Health Care 2012). It is also no bound on ever having one: for that see ``betting.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

_LONGEST = 4
_BISECTIONS = 40


@dataclass(frozen=True)
class Chart:
    """One CUSUM.

    Attributes:
        path: its value after each patient.
        limit: where it alarms.
        alarm: position of the first patient at whom it did, or None.
    """

    path: Float64[ndarray, " patient"]
    limit: float
    alarm: int | None


def weights(
    outcome: Float64[ndarray, "*patient"], risk: Float64[ndarray, "*patient"], odds_ratio: float
) -> Float64[ndarray, "*patient"]:
    """What each patient adds: an odds ratio above 1 looks for more outcomes, below 1 for fewer."""
    return outcome * np.log(odds_ratio) - np.log1p((odds_ratio - 1) * risk)


def chart(
    outcome: Float64[ndarray, " patient"],
    risk: Float64[ndarray, " patient"],
    odds_ratio: float,
    limit: float,
) -> Chart:
    """Run a CUSUM over patients in their order."""
    steps = weights(outcome, risk, odds_ratio)
    total = np.cumsum(steps)
    path = total - np.minimum(np.minimum.accumulate(total), 0.0)
    over = np.flatnonzero(path >= limit)
    return Chart(path, limit, int(over[0]) if len(over) else None)


def simulated_limit(
    risk: Float64[ndarray, " reference"], odds_ratio: float, run_length: int, streams: int, seed: int
) -> float:
    """The limit at which ``run_length`` patients pass, on average, between two false alarms.

    Streams of patients are drawn from ``risk`` with outcomes as predicted. A stream ends at four run
    lengths; the time at risk over the number of alarms is the mean run length, also of streams that had
    not alarmed by then (run lengths are close to geometric).

    Args:
        risk: predicted risks of the reference, calibrated.
        odds_ratio: as in ``weights``.
        run_length: patients.
        streams: how many are drawn.
        seed: of the draws.
    """
    highest = _running_maximum(risk, odds_ratio, _LONGEST * run_length, streams, seed)
    low, high = 0.0, float(highest[:, -1].max()) + 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if _mean_run(highest, middle) < run_length:
            low = middle
        else:
            high = middle
    return high


def _running_maximum(
    risk: Float64[ndarray, " reference"], odds_ratio: float, length: int, streams: int, seed: int
) -> Float64[ndarray, "stream patient"]:
    generator = np.random.default_rng(seed)
    highest = np.empty((streams, length))
    at, best = np.zeros(streams), np.zeros(streams)
    for patient in range(length):
        drawn = risk[generator.integers(0, len(risk), streams)]
        outcome = (generator.random(streams) < drawn).astype(float)
        at = np.maximum(at + weights(outcome, drawn, odds_ratio), 0.0)
        best = np.maximum(best, at)
        highest[:, patient] = best
    return highest


def _mean_run(highest: Float64[ndarray, "stream patient"], limit: float) -> float:
    over = highest >= limit
    alarmed = over[:, -1]
    ran = np.where(alarmed, over.argmax(axis=1) + 1, highest.shape[1])
    return float(ran.sum() / alarmed.sum()) if alarmed.any() else np.inf
