"""Platt scaling: makes a logit mean what it says, fitted to subjects the network did not train on.

Platt (1999) with a weak prior that the slope is 1, so that a handful of tuning subjects cannot
turn a ranking over or blow it up. It also undoes the shift that balanced class weights cause.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

_SLOPE_SPREAD = 0.5  # prior standard deviation of log slope
_FEWEST = 2  # subjects of each class below which nothing can be fitted


def platt(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Slope and intercept under which ``sigmoid(slope * logit + intercept)`` is calibrated.

    Args:
        logits: (subject,).
        labels: (subject,) 0 or 1; NaN is left out.

    Returns:
        ``(1, 0)`` where there are fewer than two subjects of either class.
    """
    known = ~np.isnan(labels)
    logits, labels = logits[known].astype(float), labels[known]
    if min((labels == 1).sum(), (labels == 0).sum()) < _FEWEST:
        return 1.0, 0.0

    def loss(parameters: np.ndarray) -> float:
        score = np.exp(parameters[0]) * logits + parameters[1]
        likelihood = np.logaddexp(0, score).sum() - (labels * score).sum()
        return float(likelihood + 0.5 * (parameters[0] / _SLOPE_SPREAD) ** 2)

    found = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-8})
    return float(np.exp(found.x[0])), float(found.x[1])


def platt_multiclass(logits: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One slope and an intercept a class for softmax probabilities.

    Args:
        logits: (subject, class).
        classes: (subject,) class index.
    """
    count = logits.shape[1]
    if len(np.unique(classes)) < _FEWEST:
        return np.ones(count), np.zeros(count)
    rows = np.arange(len(classes))

    def loss(parameters: np.ndarray) -> float:
        score = np.exp(parameters[0]) * logits + parameters[1:]
        likelihood = (logsumexp(score, axis=1) - score[rows, classes]).sum()
        # The weak prior on the intercepts fixes their sum, which the softmax leaves open.
        return float(
            likelihood + 0.5 * (parameters[0] / _SLOPE_SPREAD) ** 2 + 0.005 * (parameters[1:] ** 2).sum()
        )

    found = minimize(loss, np.zeros(count + 1), method="L-BFGS-B")
    return np.full(count, np.exp(found.x[0])), found.x[1:]
