"""Metrics of predicted probabilities: pure functions on arrays, one subject a row.

``label`` holds 0.0 and 1.0, ``probability`` values from 0 to 1. Where a metric does not exist (one
class only, nobody flagged) the answer is NaN, never 0 or 1; callers turn it into a reason.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import norm, rankdata

Array = NDArray[np.float64]

#: Probabilities are kept this far from 0 and 1 wherever their logarithm is taken.
EPSILON = 1e-6
_NEWTON_STEPS = 25
_STEEPEST = 50.0


def auroc(label: Array, score: Array) -> float:
    """Area under the ROC curve; a tie between a positive and a negative counts one half.

    The rank form of Mann and Whitney, exact with ties, without a grid of thresholds.

    >>> auroc(np.array([0.0, 1.0, 1.0]), np.array([0.2, 0.2, 0.9]))
    0.75
    """
    positives = int(np.sum(label == 1))
    negatives = len(label) - positives
    if positives == 0 or negatives == 0:
        return math.nan
    ranks = float(rankdata(score)[label == 1].sum())
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)


def placements(label: Array, score: Array) -> tuple[Array, Array]:
    """For each positive the share of negatives below it, for each negative the share of positives above.

    The structural components of DeLong et al. (Biometrics 1988); the mean of either is the AUROC.
    """
    positive, negative = score[label == 1], score[label == 0]
    return _share_below(positive, negative), 1.0 - _share_below(negative, positive)


def delong_variance(of_positives: Array, of_negatives: Array) -> float:
    """Variance of an AUROC from its placements; NaN with fewer than two of a class.

    Placements averaged over repeats give the variance of the AUROC averaged over repeats.
    """
    if min(len(of_positives), len(of_negatives)) < 2:
        return math.nan
    first = float(np.var(of_positives, ddof=1)) / len(of_positives)
    return first + float(np.var(of_negatives, ddof=1)) / len(of_negatives)


def auroc_interval(value: float, variance: float, smaller_class: int, level: float) -> tuple[float, float]:
    """Interval of an AUROC on the logit scale, which keeps it inside 0 and 1.

    Where the classes separate completely the variance is zero and says nothing; then the bound is
    Wilson's for the smaller class (Qin and Hotilovac, Stat Methods Med Res 2008, on the scale).
    """
    if math.isnan(value) or math.isnan(variance):
        return math.nan, math.nan
    if value in (0.0, 1.0) or variance == 0.0:
        low, high = wilson(value * smaller_class, smaller_class, level)
        return (low, 1.0) if value >= 0.5 else (0.0, high)
    half = _z(level) * math.sqrt(variance) / (value * (1 - value))
    centre = math.log(value / (1 - value))
    return float(expit(centre - half)), float(expit(centre + half))


def average_precision(label: Array, score: Array) -> float:
    """Area under the precision-recall curve as the step sum, without interpolation."""
    if not np.any(label == 1):
        return math.nan
    order = np.argsort(-score, kind="stable")
    hits, last = label[order], _last_of_tie(score[order])
    true = np.cumsum(hits)[last]
    gain = np.diff(true, prepend=0.0)
    return float(np.sum(gain * true / (last + 1)) / true[-1])


def brier(label: Array, probability: Array) -> float:
    """Mean squared distance of the probability from what happened."""
    return float(np.mean((probability - label) ** 2)) if len(label) else math.nan


def log_loss(label: Array, probability: Array) -> float:
    """Mean negative log likelihood, nats, with probabilities kept ``EPSILON`` from 0 and 1."""
    return float(np.mean(surprise(label, probability))) if len(label) else math.nan


def surprise(label: Array, probability: Array) -> Array:
    """Negative log likelihood of each subject, nats."""
    kept = np.clip(probability, EPSILON, 1 - EPSILON)
    return -(label * np.log(kept) + (1 - label) * np.log1p(-kept))


def equal_mass_bins(probability: Array, bins: int | None = None) -> NDArray[np.intp]:
    """The bin of each probability: about equally many subjects a bin, equal probabilities together.

    Without ``bins`` there are ten, or fewer so that a bin holds about ten subjects.
    """
    count = bins or int(np.clip(len(probability) // 10, 2, 10))
    edges = np.unique(np.quantile(probability, np.arange(1, count) / count))
    return np.searchsorted(edges, probability, side="right")


def calibration_error(label: Array, probability: Array, bins: int | None = None) -> float:
    """Expected calibration error over bins of equal mass: mean distance of observed from predicted."""
    if not len(label):
        return math.nan
    member = equal_mass_bins(probability, bins)
    return float(np.abs(np.bincount(member, probability - label)).sum() / len(label))


@dataclass(frozen=True)
class Calibration:
    """Logistic recalibration.

    Attributes:
        slope: of ``logit(observed)`` on ``logit(predicted)``; below 1 the predictions are too
            extreme. NaN where the classes separate or all predictions are equal.
        intercept: calibration in the large, with the slope held at 1 (Van Calster et al., BMC Med
            2019); above 0 the risk is underestimated.
    """

    slope: float
    intercept: float


def calibration(label: Array, probability: Array) -> Calibration:
    """Calibration slope and intercept by maximum likelihood."""
    ones = np.ones((1, len(label)))
    slope = calibration_slopes(label, probability, ones)
    return Calibration(float(slope[0]), float(calibration_intercepts(label, probability, ones)[0]))


def calibration_slopes(label: Array, probability: Array, weights: Array) -> Array:
    """Slope under each row of ``weights`` (draw, subject); NaN where the likelihood has no maximum."""
    x = _logit(probability)
    a, b = np.zeros(len(weights)), np.ones(len(weights))
    with np.errstate(all="ignore"):
        for _ in range(_NEWTON_STEPS):
            fitted = expit(a[:, None] + b[:, None] * x)
            residual, curve = weights * (label - fitted), weights * fitted * (1 - fitted)
            s0, s1, s2 = curve.sum(1), curve @ x, curve @ (x * x)
            g0, g1 = residual.sum(1), residual @ x
            determinant = s0 * s2 - s1 * s1
            step_a, step_b = (s2 * g0 - s1 * g1) / determinant, (s0 * g1 - s1 * g0) / determinant
            limit = np.maximum(1.0, np.maximum(np.abs(step_a), np.abs(step_b)) / 5.0)
            a, b = a + step_a / limit, b + step_b / limit
            if not np.any(np.abs(step_b) > 1e-8):
                break
        settled = (np.abs(step_b) < 1e-5) & (np.abs(b) < _STEEPEST) & (determinant > 1e-9)
    return np.where(settled, b, np.nan)


def calibration_intercepts(label: Array, probability: Array, weights: Array) -> Array:
    """Intercept with the slope held at 1 under each row of ``weights``; NaN with one class only."""
    x = _logit(probability)
    a = np.zeros(len(weights))
    with np.errstate(all="ignore"):
        for _ in range(_NEWTON_STEPS):
            fitted = expit(a[:, None] + x)
            step = (weights * (label - fitted)).sum(1) / (weights * fitted * (1 - fitted)).sum(1)
            a = a + np.clip(step, -2.0, 2.0)
            if not np.any(np.abs(step) > 1e-9):
                break
    return np.where(np.abs(step) < 1e-5, a, np.nan)


def wilson(successes: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion; NaN for ``n`` of 0.

    It stays honest at 0 or ``n`` successes, where a percentile bootstrap collapses to a point.
    ``successes`` may be fractional: counts averaged over repeats of the same subjects.
    """
    if n <= 0:
        return math.nan, math.nan
    z, share = _z(level), successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low = 0.0 if share == 0.0 else max(0.0, centre - half)
    return low, 1.0 if share == 1.0 else min(1.0, centre + half)


#: Rate -> (label, decision) of the numerator's cell, and the axis that the denominator fixes.
_RATES: dict[str, tuple[int, int, str]] = {
    "sensitivity": (1, 1, "label"),
    "specificity": (0, 0, "label"),
    "fnr": (1, 0, "label"),
    "fpr": (0, 1, "label"),
    "ppv": (1, 1, "decision"),
    "npv": (0, 0, "decision"),
}
RATES = tuple(_RATES)


def rate_counts(name: str, label: Array, decision: Array) -> tuple[float, float]:
    """``(successes, n)`` of a rate; ``decision`` is the share of repeats in which a subject is flagged."""
    of_label, of_decision, fixed = _RATES[name]
    with_label = label == of_label
    with_decision = decision if of_decision else 1.0 - decision
    successes = float(with_decision[with_label].sum())
    return successes, float(with_label.sum()) if fixed == "label" else float(with_decision.sum())


def net_benefit(label: Array, decision: Array, threshold: float) -> float:
    """Net benefit a subject (Vickers and Elkin 2006): true flags less false flags at the threshold's odds."""
    if not len(label) or not 0 <= threshold < 1:
        return math.nan
    return float(np.mean(benefit(label, decision, threshold)))


def benefit(label: Array, decision: Array, threshold: float) -> Array:
    """Each subject's contribution to the net benefit."""
    return decision * (label - (1 - label) * threshold / (1 - threshold))


def treat_all(label: Array, threshold: float) -> float:
    """Net benefit of flagging everybody; flagging nobody has 0."""
    return net_benefit(label, np.ones_like(label), threshold)


def _share_below(score: Array, others: Array) -> Array:
    ordered = np.sort(others)
    left, right = np.searchsorted(ordered, score, "left"), np.searchsorted(ordered, score, "right")
    return (left + right) / (2.0 * max(len(others), 1))


def _last_of_tie(ordered: Array) -> NDArray[np.intp]:
    return np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)


def _logit(probability: Array) -> Array:
    kept = np.clip(probability, EPSILON, 1 - EPSILON)
    return np.log(kept) - np.log1p(-kept)


def _z(level: float) -> float:
    return float(norm.ppf(0.5 + level / 2))
