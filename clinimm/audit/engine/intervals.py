"""Intervals in closed form, for many groups at once.

Rates have Clopper and Pearson's interval, which covers at least what it says at every n and every
rate; Wilson's falls to 0.91 where ten positives meet a rate of 5 %. Differences and ratios recover
their variance from the intervals of their parts (MOVER), so they inherit what those promise.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.special import betaincinv, expit
from scipy.stats import norm
from scipy.stats import t as student

#: Below so many of the smaller class an AUROC's interval is held against a second one.
_FEW = 100
_BISECTIONS = 40


def z_of(level: float) -> float:
    """The normal quantile of a two-sided level."""
    return float(norm.ppf(0.5 + level / 2))


def t_of(level: float, freedom: ndarray) -> ndarray:
    """Student's quantile of a two-sided level; the normal one for many degrees of freedom."""
    freedom = np.maximum(np.nan_to_num(freedom, nan=1.0), 1.0)
    quantile = np.full(np.shape(freedom), z_of(level))
    few = freedom < 1e6
    quantile[few] = student.ppf(0.5 + level / 2, freedom[few])
    return quantile


def clopper_pearson(
    successes: Float[ndarray, "*group"], n: Float[ndarray, "*group"], level: float
) -> tuple[Float[ndarray, "*group"], Float[ndarray, "*group"]]:
    """The exact interval of a rate (Clopper and Pearson, Biometrika 1934); NaN for an n of 0.

    Both may be fractional: an effective sample size of clustered rows (Korn and Graubard, Survey
    Methodology 1998).
    """
    tail = (1 - level) / 2
    successes, n = np.asarray(successes, dtype=float), np.asarray(n, dtype=float)
    misses = n - successes
    with np.errstate(invalid="ignore", divide="ignore"):
        low = np.where(successes <= 0, 0.0, betaincinv(np.maximum(successes, 1e-9), misses + 1, tail))
        high = np.where(misses <= 0, 1.0, betaincinv(successes + 1, np.maximum(misses, 1e-9), 1 - tail))
    return np.where(n > 0, low, np.nan), np.where(n > 0, high, np.nan)


def mover_difference(
    first: tuple[ndarray, ndarray, ndarray],
    second: tuple[ndarray, ndarray, ndarray],
    correlation: ndarray | float = 0.0,
) -> tuple[ndarray, ndarray]:
    """Interval of ``first - second`` from the ``(value, low, high)`` of each.

    Newcombe (Stat Med 1998, method 10) for independent rates; with a correlation, Zou and Donner
    (Stat Med 2008).
    """
    below, above = first[0] - first[1], second[2] - second[0]
    under, over = first[2] - first[0], second[0] - second[1]
    low = np.sqrt(np.maximum(below**2 + above**2 - 2 * correlation * below * above, 0.0))
    high = np.sqrt(np.maximum(under**2 + over**2 - 2 * correlation * under * over, 0.0))
    value = first[0] - second[0]
    return value - low, value + high


def mover_ratio(
    first: tuple[ndarray, ndarray, ndarray], second: tuple[ndarray, ndarray, ndarray]
) -> tuple[ndarray, ndarray]:
    """Interval of ``first / second`` (Donner and Zou, Stat Methods Med Res 2012).

    The upper end is infinite where the second may be zero; NaN where either is unknown.
    """
    (a, a_low, a_high), (b, b_low, b_high) = first, second
    with np.errstate(invalid="ignore", divide="ignore"):
        top = a * b
        under, over = b_high * (2 * b - b_high), b_low * (2 * b - b_low)
        low_root = np.sqrt(np.maximum(top**2 - a_low * (2 * a - a_low) * under, 0.0))
        high_root = np.sqrt(np.maximum(top**2 - a_high * (2 * a - a_high) * over, 0.0))
        low = np.where(np.abs(under) > 1e-12, (top - low_root) / under, a_low * (2 * a - a_low) / (2 * top))
        high = np.where(over > 1e-12, (top + high_root) / over, np.inf)
    unknown = np.isnan(a) | np.isnan(b)
    low = np.where(a <= 0, 0.0, np.maximum(low, 0.0))
    return np.where(unknown, np.nan, low), np.where(unknown, np.nan, high)


def logit_interval(
    value: ndarray, standard_error: ndarray, freedom: ndarray, level: float
) -> tuple[ndarray, ndarray]:
    """Interval of a value between 0 and 1 on the logit scale, with Student's quantile."""
    with np.errstate(invalid="ignore", divide="ignore"):
        half = t_of(level, freedom) * standard_error / (value * (1 - value))
        centre = np.log(value / (1 - value))
        return expit(centre - half), expit(centre + half)


def auroc_interval(  # the law of one AUROC has these parts
    value: ndarray,
    variance: ndarray,
    freedom: ndarray,
    positives: ndarray,
    negatives: ndarray,
    level: float,
) -> tuple[ndarray, ndarray]:
    """Interval of an AUROC: DeLong's variance, logit scale, Student's quantile.

    With few of a class DeLong's variance is too small where the AUROC is high: 20 positives and an
    AUROC of 0.95 were covered in 91 of 100 samples. Below a hundred of the smaller class the
    interval therefore never ends inside Newcombe's score interval (Stat Med 2006, method 5), and
    where the classes separate completely that interval stands alone.
    """
    low, high = logit_interval(value, np.sqrt(variance), freedom, level)
    score_low, score_high = _newcombe(value, positives, negatives, level)
    few = np.minimum(positives, negatives) < _FEW
    low, high = np.where(few, np.fmin(low, score_low), low), np.where(few, np.fmax(high, score_high), high)
    flat = (value <= 0) | (value >= 1) | ~(variance > 0)
    return np.where(flat, score_low, low), np.where(flat, score_high, high)


def _newcombe(
    value: ndarray, positives: ndarray, negatives: ndarray, level: float
) -> tuple[ndarray, ndarray]:
    z, half = z_of(level), (positives + negatives) / 2 - 1
    pairs = np.maximum(positives * negatives, 1)

    def inside(true: ndarray) -> ndarray:
        variance = true * (1 - true) * (1 + half * ((1 - true) / (2 - true) + true / (1 + true))) / pairs
        return (true - value) ** 2 <= z * z * variance

    return _last_inside(inside, value, np.zeros_like(value)), _last_inside(inside, value, np.ones_like(value))


def _last_inside(inside, start: ndarray, end: ndarray) -> ndarray:  # type: ignore[no-untyped-def]
    kept, beyond = start.copy(), end.copy()
    for _ in range(_BISECTIONS):
        middle = (kept + beyond) / 2
        accepted = inside(middle)
        kept, beyond = np.where(accepted, middle, kept), np.where(accepted, beyond, middle)
    return np.where(np.isnan(start), np.nan, beyond)
