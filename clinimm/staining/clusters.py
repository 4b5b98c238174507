"""Figures whose rows hang together: pixels and tiles of one subject are drawn together.

A thousand tiles of five people are five people. Every interval of the safety case therefore comes
from a bootstrap that draws subjects with all that belongs to them (Davison and Hinkley 1997,
section 3.8), and every figure keeps how many subjects stand behind it (law 4).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import norm

from clinimm.staining.agreement import FEWEST_UNITS, LEVEL, Figure, unknown

#: ``(draw, row) weights -> (draw,)`` values of a statistic.
Statistic = Callable[[np.ndarray], np.ndarray]
DRAWS = 1000
_CELLS_AT_ONCE = 8_000_000
_MOST_LOST = 0.05


def figure_json(figure: Figure) -> dict[str, Any]:
    """Plain values; NaN, which JSON lacks, becomes None."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in asdict(figure).items()
    }


def cluster_figure(
    statistic: Statistic,
    subjects: Sequence[str],
    unit: str = "",
    seed: int = 0,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> Figure:
    """A statistic of weighted rows with its interval over subjects; the figure's n is subjects.

    Bias-corrected and accelerated (Efron 1987); the acceleration comes from leaving out one subject
    after the other.

    Args:
        statistic: takes (draw, row) weights, how often each row counts, and gives (draw,) values.
        subjects: the subject of each row.
        unit: what the number is counted in.
        seed: of the resamples.
        draws: how many resamples.
        level: confidence level.
    """
    names, member = np.unique(np.asarray(subjects, dtype=str), return_inverse=True)
    count, rows = len(names), len(member)
    value = float(statistic(np.ones((1, rows)))[0]) if rows else math.nan
    if math.isnan(value):
        return unknown(count, "the figure does not exist for these values", unit)
    if count < FEWEST_UNITS:
        reason = f"{count} subjects are too few for an interval, which needs {FEWEST_UNITS}"
        return unknown(count, reason, unit, value)
    resampled = _of_clusters(statistic, member, _draw(count, draws, seed))
    without_one = _of_clusters(statistic, member, 1.0 - np.eye(count))
    kept = resampled[~np.isnan(resampled)]
    if len(kept) < (1 - _MOST_LOST) * draws:
        return unknown(count, "more than one resample in twenty has no value", unit, value)
    low, high = _bca(kept, value, without_one[~np.isnan(without_one)], level)
    return Figure(value, low, high, count, unit)


def auroc_figure(
    positive: Bool[np.ndarray, " row"],
    score: Float[np.ndarray, " row"],
    subjects: Sequence[str],
    seed: int = 0,
    draws: int = DRAWS,
) -> Figure:
    """AUROC with its interval over subjects.

    Where the classes separate completely a bootstrap has no spread; the nearer end is then
    Wilson's for as many subjects as the smaller class has.
    """
    found = cluster_figure(
        lambda weights: weighted_auroc(positive, score, weights), subjects, "AUROC", seed, draws
    )
    if found.value not in (0.0, 1.0) or not found.known:
        return found
    each = np.asarray(subjects, dtype=str)
    smaller = min(len(np.unique(each[positive])), len(np.unique(each[~positive])))
    z2 = float(norm.ppf(0.5 + LEVEL / 2)) ** 2
    near = smaller / (smaller + z2)
    ends = (near, 1.0) if found.value == 1.0 else (0.0, 1 - near)
    return Figure(found.value, *ends, found.n, found.unit)


def weighted_auroc(
    positive: Bool[np.ndarray, " row"],
    score: Float[np.ndarray, " row"],
    weights: Float[np.ndarray, "draw row"],
) -> Float[np.ndarray, " draw"]:
    """AUROC under each row of weights; a tie between the classes counts one half.

    >>> weighted_auroc(np.array([False, True, True]), np.array([0.2, 0.2, 0.9]), np.ones((1, 3)))
    array([0.75])
    """
    order = np.flatnonzero(~positive)[np.argsort(score[~positive], kind="stable")]
    negatives, positives = score[order], score[positive]
    below = np.zeros((len(weights), len(order) + 1))
    np.cumsum(weights[:, order], axis=1, out=below[:, 1:])
    left = below[:, np.searchsorted(negatives, positives, "left")]
    right = below[:, np.searchsorted(negatives, positives, "right")]
    of_positive = weights[:, positive]
    wins = (of_positive * (left + right)).sum(axis=1)
    return ratio(wins, 2.0 * of_positive.sum(axis=1) * below[:, -1])


def ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """``top / bottom``, NaN where there is nothing below."""
    return np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=bottom > 0)


def _draw(count: int, draws: int, seed: int) -> Float[np.ndarray, "draw cluster"]:
    """How often each subject is drawn."""
    picked = np.random.default_rng(seed).integers(0, count, size=(draws, count))
    flat = (picked + count * np.arange(draws)[:, None]).ravel()
    return np.bincount(flat, minlength=draws * count).reshape(draws, count).astype(float)


def _of_clusters(statistic: Statistic, member: np.ndarray, weights: np.ndarray) -> np.ndarray:
    step = max(1, _CELLS_AT_ONCE // max(len(member), 1))
    parts = [statistic(weights[start : start + step][:, member]) for start in range(0, len(weights), step)]
    return np.concatenate(parts)


def _bca(draws: np.ndarray, value: float, without_one: np.ndarray, level: float) -> tuple[float, float]:
    share = (np.mean(draws < value) + np.mean(draws <= value)) / 2
    bias = norm.ppf(np.clip(share, 1 / len(draws), 1 - 1 / len(draws)))
    pull = without_one.mean() - without_one
    spread = float((pull**2).sum())
    acceleration = float((pull**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    z = bias + norm.ppf([0.5 - level / 2, 0.5 + level / 2])
    low, high = np.quantile(draws, norm.cdf(bias + z / (1 - acceleration * z)))
    return float(low), float(high)
