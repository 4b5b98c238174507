"""The bootstrap by subject, for all resamples at once.

A resample is a row of weights: how often each subject was drawn. Within a class as many subjects
are drawn as it has (the label is a stratum), so no resample lacks a class; the prevalence is
therefore held fixed. Under repeated cross-validation a subject's rows travel together: the
statistic is the mean over repeats of the value pooled over a repeat's folds. Intervals speak about
the held-out subjects; they do not hold the variation of training on other subjects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from clinimm.evaluate.estimate import Estimate, estimate, not_estimable
from clinimm.evaluate.metrics import Array, placements, wilson
from clinimm.evaluate.panel import Panel

#: ``(label, probability, weights (draw, subject)) -> (draw,)``
Statistic = Callable[[Array, Array, Array], Array]
METHOD = "BCa bootstrap by subject"
_CELLS_AT_ONCE = 4_000_000
_MOST_LOST = 0.05
_EQUAL = 1e-12


def draw_weights(strata: NDArray[np.int64], draws: int, seed: int) -> NDArray[np.int16]:
    """How often each subject is drawn, (draw, subject); each stratum keeps its size in every draw."""
    generator = np.random.default_rng(seed)
    weights = np.zeros((draws, len(strata)), dtype=np.int16)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        size = len(members)
        picked = generator.integers(0, size, size=(draws, size)) + size * np.arange(draws)[:, None]
        counts = np.bincount(picked.ravel(), minlength=draws * size).reshape(draws, size)
        weights[:, members] = counts.astype(np.int16)
    return weights


def weighted_auroc(label: Array, score: Array, weights: Array) -> Array:
    """AUROC under each row of weights: negatives sorted once, then cumulative sums; ties count half."""
    positive = label == 1
    negatives = np.sort(score[~positive])
    order = np.flatnonzero(~positive)[np.argsort(score[~positive], kind="stable")]
    below = np.zeros((len(weights), len(order) + 1))
    np.cumsum(weights[:, order], axis=1, out=below[:, 1:])
    left = np.searchsorted(negatives, score[positive], "left")
    right = np.searchsorted(negatives, score[positive], "right")
    of_positive = weights[:, positive]
    wins = np.einsum("dp,dp->d", of_positive, below[:, left])
    wins += np.einsum("dp,dp->d", of_positive, below[:, right])
    return _divide(wins, 2.0 * of_positive.sum(axis=1) * below[:, -1])


def weighted_average_precision(label: Array, score: Array, weights: Array) -> Array:
    """Average precision under each row of weights."""
    order = np.argsort(-score, kind="stable")
    ordered = weights[:, order]
    last = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    flagged = np.cumsum(ordered, axis=1)[:, last]
    true = np.cumsum(ordered * label[order], axis=1)[:, last]
    gain = np.diff(true, axis=1, prepend=0.0)
    return _divide((gain * _divide(true, flagged, 0.0)).sum(axis=1), true[:, -1])


def weighted_mean(values: Array) -> Statistic:
    """A statistic that is the mean of ``values`` (one a subject); label and score are not looked at."""
    return lambda label, score, weights: _divide(weights @ values, weights.sum(axis=1))


def resampled(panel: Panel, statistic: Statistic, weights: NDArray[np.int16]) -> Array:
    """The statistic under every draw, averaged over repeats and classes; NaN where one lacks a class."""
    columns = [
        (panel.label[:, c], panel.probability[:, r, c])
        for r in range(len(panel.repeats))
        for c in range(len(panel.classes))
    ]
    step = max(1, _CELLS_AT_ONCE // max(panel.n, 1))
    total = np.zeros(len(weights))
    for label, probability in columns:
        known = ~np.isnan(probability) & ~np.isnan(label)
        for start in range(0, len(weights), step):
            part = weights[start : start + step][:, known].astype(float)
            total[start : start + step] += statistic(label[known], probability[known], part)
    return total / len(columns)


def point(panel: Panel, statistic: Statistic) -> float:
    """The statistic on the subjects as they are."""
    return float(resampled(panel, statistic, np.ones((1, panel.n), dtype=np.int16))[0])


def bootstrap_interval(
    draws: Array, value: float, level: float, influence: Array | None = None
) -> tuple[float, float]:
    """The bias-corrected and accelerated interval (Efron 1987) of ``value`` from its draws.

    Plain percentiles were measured too narrow: with 10 positives, 40 negatives and an AUROC of 0.9
    they held the truth in 88 of 100 samples, this interval in 93, at 20 and 20 in 92 and 95.

    Args:
        draws: the statistic under each resample; NaN where it does not exist.
        value: the statistic on the subjects as they are.
        level: confidence level.
        influence: each subject's empirical influence, for the acceleration; without it only the
            bias is corrected.

    Returns:
        Both ends; NaN where more than one draw in twenty has no value.
    """
    kept = draws[~np.isnan(draws)]
    if len(kept) < (1 - _MOST_LOST) * len(draws) or np.isnan(value):
        return float("nan"), float("nan")
    share = (np.mean(kept < value - _EQUAL) + np.mean(kept <= value + _EQUAL)) / 2
    bias = norm.ppf(np.clip(share, 1 / len(kept), 1 - 1 / len(kept)))
    z = bias + norm.ppf([0.5 - level / 2, 0.5 + level / 2])
    low, high = np.quantile(kept, norm.cdf(bias + z / (1 - _acceleration(influence) * z)))
    return float(low), float(high)


def auroc_influence(panel: Panel) -> Array:
    """Each subject's influence on the AUROC averaged over repeats and classes, from placements."""
    total = np.zeros(panel.n)
    for c in range(len(panel.classes)):
        for r in range(len(panel.repeats)):
            known = ~np.isnan(panel.probability[:, r, c]) & ~np.isnan(panel.label[:, c])
            label = panel.label[known, c]
            share = np.zeros(len(label))
            for value, placed in zip((1, 0), placements(label, panel.probability[known, r, c]), strict=True):
                if len(placed):
                    share[label == value] = (placed - placed.mean()) / len(placed)
            total[known] += share
    return total / (len(panel.repeats) * len(panel.classes))


def flat(draws: Array) -> bool:
    """Whether all draws that have a value have the same one."""
    kept = draws[~np.isnan(draws)]
    return len(kept) > 0 and float(np.ptp(kept)) < _EQUAL


def _acceleration(influence: Array | None) -> float:
    if influence is None:
        return 0.0
    spread = float(np.sum(influence**2))
    return float(np.sum(influence**3)) / (6 * spread**1.5) if spread > 0 else 0.0


def auroc_estimate(panel: Panel, draws: Array, level: float, minimum: int) -> Estimate:
    """The AUROC of a panel with its interval, or the reason why there is none."""
    if reason := too_small(panel, minimum):
        return not_estimable(panel.n, panel.positives, reason)
    value = point(panel, weighted_auroc)
    if flat(draws) and value in (0.0, 1.0):
        low, high = wilson(value * panel.smallest_class, panel.smallest_class, level)
        method = "Wilson on the smaller class, because the classes separate completely"
        return estimate(value, (low, high), panel.n, panel.positives, method)
    interval = bootstrap_interval(draws, value, level, auroc_influence(panel))
    return estimate(value, interval, panel.n, panel.positives, METHOD, _LOST)


_LOST = "more than one resample in twenty lacks a class"


def too_small(panel: Panel, minimum: int) -> str | None:
    """Why a panel carries no discrimination figure, or None."""
    if panel.n < minimum:
        return f"n = {panel.n} is below the minimum of {minimum}"
    if panel.smallest_class == 0:
        return "only one class is present, so nothing can be told apart"
    return None


@dataclass(frozen=True)
class Difference:
    """The fused model less another on the same subjects and the same draws.

    Attributes:
        against: the other predictor.
        value, low, high: difference in AUROC with its interval.
        p_value: two-sided, from the share of draws on the other side of zero.
        standard_error: spread of the draws.
        n, positives: subjects compared.
        filled: subjects whom the other predictor did not answer and who got its mean.
    """

    against: str
    value: float
    low: float
    high: float
    p_value: float
    standard_error: float
    n: int
    positives: int | None
    filled: int = 0


def paired_difference(
    against: str, panel: Panel, other: Panel, draws: Array, level: float, filled: int = 0
) -> Difference:
    """Compare two aligned panels; ``draws`` is the difference of their resampled AUROCs."""
    value = point(panel, weighted_auroc) - point(other, weighted_auroc)
    influence = auroc_influence(panel) - auroc_influence(other)
    low, high = bootstrap_interval(draws, value, level, influence)
    kept = draws[~np.isnan(draws)]
    lower, upper = (1 + np.sum(kept <= 0)) / (1 + len(kept)), (1 + np.sum(kept >= 0)) / (1 + len(kept))
    error = float(np.std(kept, ddof=1)) if len(kept) > 1 else float("nan")
    p_value = float(min(1.0, 2 * min(lower, upper)))
    return Difference(against, value, low, high, p_value, error, panel.n, panel.positives, filled)


def _divide(top: Array, bottom: Array, otherwise: float = np.nan) -> Array:
    return np.divide(top, bottom, out=np.full_like(top, otherwise, dtype=float), where=bottom > 0)
