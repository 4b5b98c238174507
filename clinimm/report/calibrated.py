"""The interval of a probability: what the outcomes of other held-out patients say about such a score.

The label is regressed on the logit of the probability (Cox 1958, Biometrika 45:562) over the other held-out
patients; the interval is that of the fitted share at this patient's probability (delta method).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import expit, logit

from clinimm.report.facts import RunFacts
from clinimm.report.subject import others

_NEWTON_STEPS = 50
_STEEPEST = 50.0
_EDGE = 1e-6


@dataclass(frozen=True)
class Calibrated:
    """How often patients with such a probability turned out to have the outcome.

    Attributes:
        share, low, high: the fitted share and its interval.
        n, positives: held-out patients behind it, and how many had the outcome.
    """

    share: float
    low: float
    high: float
    n: int
    positives: int

    def holds(self, probability: float) -> bool:
        """Whether the model's own figure lies in the interval, to a whole percent."""
        return round(self.low, 2) <= round(probability, 2) <= round(self.high, 2)


def calibrated(
    facts: RunFacts, prediction: Mapping[str, Any], minimum: int = 10, level: float = 0.95
) -> Calibrated | None:
    """The share at this patient's probability, this patient left out.

    None where fewer than ``minimum`` had the outcome or had not, or where they separate perfectly: then
    no interval is honest.
    """
    rows = others(facts, prediction)
    label = (rows["label"] == 1).to_numpy(float)
    positives = int(label.sum())
    if min(positives, len(label) - positives) < minimum:
        return None
    found = share_at(rows["probability"].to_numpy(float), label, float(prediction["probability"]), level)
    return None if found is None else Calibrated(*found, len(label), positives)


def share_at(
    probability: Float[np.ndarray, " subject"],
    label: Float[np.ndarray, " subject"],
    at: float,
    level: float = 0.95,
) -> tuple[float, float, float] | None:
    """Share with the outcome at probability ``at``, and its interval; None without a maximum likelihood."""
    x = logit(np.clip(probability, _EDGE, 1 - _EDGE))
    design = np.column_stack([np.ones_like(x), x])
    weights = np.array([0.0, 1.0])
    step, information = np.full(2, np.inf), np.eye(2)
    for _ in range(_NEWTON_STEPS):
        fitted = expit(design @ weights)
        information = design.T @ (design * (fitted * (1 - fitted))[:, None])
        if np.linalg.cond(information) > 1 / _EDGE**2:
            return None
        step = np.linalg.solve(information, design.T @ (label - fitted))
        weights = weights + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-9:
            break
    if np.abs(step).max() > 1e-6 or abs(weights[1]) > _STEEPEST:
        return None
    here = np.array([1.0, logit(np.clip(at, _EDGE, 1 - _EDGE))])
    error = float(np.sqrt(here @ np.linalg.solve(information, here)))
    centre, reach = float(here @ weights), NormalDist().inv_cdf((1 + level) / 2) * error
    return float(expit(centre)), float(expit(centre - reach)), float(expit(centre + reach))
