"""Platt's two numbers for many resamples of the same rows at once: the loss of ``calibrate.platt``.

Fisher scoring on the logarithm of the slope and the intercept, from the fit to all rows: a resample lies near
it, so a few steps do what a search from nothing does in a hundred, for all resamples together.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int
from numpy import ndarray
from scipy.special import expit

_SLOPE_SPREAD = 0.5  # as in calibrate.py
_FEWEST = 2
_STEPS = 50
_LARGEST_STEP = 1.0
_ENOUGH = 1e-9


def platt_draws(
    logits: Float64[ndarray, " row"],
    labels: Float64[ndarray, " row"],
    rows: Int[ndarray, "draw drawn"],
    start: tuple[float, float],
) -> Float64[ndarray, "draw 2"]:
    """Slope and intercept of each resample.

    Args:
        logits, labels: of all rows; no label is missing.
        rows: which rows each resample holds.
        start: slope and intercept of all rows.

    Returns:
        ``(1, 0)`` where a resample has fewer than two of either label, as ``platt`` does.
    """
    score, outcome = logits[rows], labels[rows]
    at = np.tile([np.log(start[0]), start[1]], (len(rows), 1))
    for _ in range(_STEPS):
        step = _step(score, outcome, at)
        at -= np.clip(step, -_LARGEST_STEP, _LARGEST_STEP)
        if np.abs(step).max() < _ENOUGH:
            break
    found = np.column_stack([np.exp(at[:, 0]), at[:, 1]])
    positives = outcome.sum(axis=1)
    found[np.minimum(positives, rows.shape[1] - positives) < _FEWEST] = (1.0, 0.0)
    return found


def _step(
    score: Float64[ndarray, "draw drawn"],
    outcome: Float64[ndarray, "draw drawn"],
    at: Float64[ndarray, "draw 2"],
) -> Float64[ndarray, "draw 2"]:
    """The gradient over the expected curvature, a two-by-two system a draw."""
    scaled = np.exp(at[:, :1]) * score
    risk = expit(scaled + at[:, 1:])
    error, weight = risk - outcome, risk * (1 - risk)
    slope = (error * scaled).sum(axis=1) + at[:, 0] / _SLOPE_SPREAD**2
    level = error.sum(axis=1)
    # The smallest curvature keeps a draw of sure and right predictions from dividing by nothing.
    a = (weight * scaled**2).sum(axis=1) + 1 / _SLOPE_SPREAD**2
    b = (weight * scaled).sum(axis=1)
    c = weight.sum(axis=1) + 1e-9
    whole = a * c - b * b
    return np.column_stack([(c * slope - b * level) / whole, (a * level - b * slope) / whole])
