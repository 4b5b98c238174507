"""What stands in for "people at the same predicted risk": strata, and a smooth curve within them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int
from numpy import ndarray
from scipy.special import expit

from clinimm.audit.engine.rows import Rows
from clinimm.evaluate.metrics import EPSILON

_MOST_STRATA, _ROWS_A_STRATUM = 50, 40
_KNOTS = 5


@dataclass(frozen=True)
class RiskStrata:
    """Rows with nearly the same predicted risk.

    Attributes:
        stratum: number of each row's stratum, 0 to ``count - 1``.
        count: how many there are.
        expected: chance of the outcome of each row, from the risk alone; in each stratum it sums to
            the outcomes seen, so that what is left of the risk inside a stratum is no finding.
    """

    stratum: Int[ndarray, " row"]
    count: int
    expected: Float64[ndarray, " row"]


def logit_of(probability: Float64[ndarray, " row"]) -> Float64[ndarray, " row"]:
    """Logit, kept finite."""
    kept = np.clip(probability, EPSILON, 1 - EPSILON)
    return np.asarray(np.log(kept / (1 - kept)))


def risk_strata(rows: Rows) -> RiskStrata:
    """Strata of equal mass by predicted risk; equal risks share one.

    The model may be miscalibrated for everybody: the curve from risk to outcome is fitted to all
    rows (logistic recalibration), then shifted in each stratum to the rate that was seen.
    """
    from sklearn.linear_model import LogisticRegression

    count = int(np.clip(rows.n // _ROWS_A_STRATUM, 1, _MOST_STRATA))
    edges = np.unique(np.quantile(rows.probability, np.linspace(0, 1, count + 1)[1:-1]))
    _, stratum = np.unique(np.searchsorted(edges, rows.probability, side="right"), return_inverse=True)
    count = int(stratum.max()) + 1
    logit = logit_of(rows.probability)
    fitted = np.full(rows.n, rows.label.mean())
    if np.ptp(logit) > 0 and 0 < rows.label.sum() < rows.n:
        curve = LogisticRegression(C=np.inf).fit(logit[:, None], rows.label)
        fitted = expit(curve.intercept_[0] + curve.coef_[0, 0] * logit)
    size = np.bincount(stratum, minlength=count)
    gap = np.bincount(stratum, rows.label - fitted, minlength=count) / size
    return RiskStrata(stratum.astype(np.int64), count, fitted + gap[stratum])


def risk_basis(probability: Float64[ndarray, " row"]) -> Float64[ndarray, "row term"]:
    """A smooth curve in the logit of the risk: cubic splines between quantiles, straight outside them.

    Columns are orthonormal, and the first ones hold the constant.
    """
    from sklearn.preprocessing import SplineTransformer

    logit = logit_of(probability)
    inner = np.unique(np.quantile(logit, np.linspace(0, 1, _KNOTS)))
    if len(inner) < _KNOTS:  # few different risks: each is its own
        values, code = np.unique(logit, return_inverse=True)
        if len(values) <= _KNOTS:
            basis = np.eye(len(values))[code]
            return np.asarray(basis / np.sqrt(basis.sum(axis=0)))
        inner = np.linspace(logit.min(), logit.max(), _KNOTS)
    made = SplineTransformer(knots=inner[:, None], degree=3, extrapolation="linear").fit_transform(
        logit[:, None]
    )
    left, size, _ = np.linalg.svd(made, full_matrices=False)
    return np.asarray(left[:, size > 1e-8 * size[0]])
