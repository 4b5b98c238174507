"""How well the model does, expected of its predictions alone: no label of now is used, so an estimate.

Confidence-based performance estimation (as NannyML's CBPE): a calibrated probability says how often a
decision is right. Probabilities are calibrated anew on the reference's labels, and the interval is a
bootstrap of that calibration, of the patients now and of the labels they would have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from numpy import ndarray
from scipy.special import expit

from clinimm.calibrate import platt
from clinimm.evaluate.metrics import EPSILON, auroc
from clinimm.monitor.platt_draws import platt_draws

ASSUMPTION = (
    "the same predicted risk means the same risk as in the reference. Where the link between findings and "
    "outcome changed (a new treatment, another way to label), this estimate is wrong and cannot know it"
)
#: Rows of a draw; with more the interval is that of so many, which is wider than need be.
_MOST_DRAWN = 5000
#: Resamples that are fitted together; more would only take memory.
_AT_ONCE = 50
MEASURES = ("auroc", "sensitivity", "specificity", "ppv")


@dataclass(frozen=True)
class Expected:
    """An expected measure: value, and interval by bootstrap."""

    measure: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Recalibration:
    """Platt's two numbers, fitted to the reference."""

    slope: float
    intercept: float

    @classmethod
    def fit(cls, label: Float64[ndarray, " row"], probability: Float64[ndarray, " row"]) -> Recalibration:
        """Fit to labelled rows."""
        return cls(*platt(logit(probability), label))

    def of(self, probability: Float64[ndarray, " row"]) -> Float64[ndarray, " row"]:
        """Probabilities as the reference's labels would have them."""
        return expit(self.slope * logit(probability) + self.intercept)


def logit(probability: ndarray) -> Float64[ndarray, " row"]:
    """The logit, kept finite."""
    kept = np.clip(probability, EPSILON, 1 - EPSILON)
    return np.log(kept / (1 - kept))


@dataclass(frozen=True)
class Calibrations:
    """The reference's calibration, and bootstrap draws of it.

    Attributes:
        best: fitted to all labelled rows.
        drawn: fitted to resampled ones.
    """

    best: Recalibration
    drawn: tuple[Recalibration, ...]

    @classmethod
    def fit(
        cls, label: Float64[ndarray, " row"], probability: Float64[ndarray, " row"], draws: int, seed: int
    ) -> Calibrations:
        """Fit to labelled rows."""
        generator = np.random.default_rng(seed)
        some = min(len(label), _MOST_DRAWN)
        rows = np.stack([generator.integers(0, len(label), some) for _ in range(draws)])
        best = Recalibration.fit(label, probability)
        again = [
            platt_draws(logit(probability), label, part, (best.slope, best.intercept))
            for part in np.array_split(rows, -(-draws // _AT_ONCE))
        ]
        return cls(best, tuple(Recalibration(*map(float, one)) for one in np.concatenate(again)))


def expected_performance(
    calibrations: Calibrations,
    probability: Float64[ndarray, " now"],
    threshold: float,
    level: float,
    seed: int,
) -> dict[str, Expected]:
    """Expected AUROC, sensitivity, specificity and PPV of unlabelled rows.

    Args:
        calibrations: of the reference.
        probability: predicted risk now.
        threshold: from which a row is flagged, on the scale of ``probability``.
        level: of the interval.
        seed: of the bootstrap.
    """
    flagged = probability >= threshold
    risk = calibrations.best.of(probability)
    values = {**_rates(risk, flagged), "auroc": _expected_auroc(risk, probability)}
    generator = np.random.default_rng(seed)
    few = min(len(probability), _MOST_DRAWN)
    drawn = []
    for one in calibrations.drawn:
        rows = generator.integers(0, len(probability), few)
        score = probability[rows]
        outcome = (generator.random(few) < one.of(score)).astype(float)
        rates = _rates(outcome, flagged[rows])
        drawn.append([*(rates[name] for name in MEASURES[1:]), auroc(outcome, score)])
    table = np.array(drawn)
    names = (*MEASURES[1:], "auroc")
    known = ~np.isnan(table).all(axis=0)
    ends = np.nanquantile(table[:, known], [0.5 - level / 2, 0.5 + level / 2], axis=0)
    kept = [name for name, there in zip(names, known, strict=True) if there]
    return {
        name: Expected(name, float(values[name]), float(ends[0, place]), float(ends[1, place]))
        for place, name in enumerate(kept)
    }


def _rates(risk: Float64[ndarray, " row"], flagged: Bool[ndarray, " row"]) -> dict[str, float]:
    """Rates of the flag where each row counts as ``risk`` of a positive."""
    caught, passed = risk[flagged].sum(), (1 - risk[~flagged]).sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "sensitivity": float(np.divide(caught, risk.sum())),
            "specificity": float(np.divide(passed, (1 - risk).sum())),
            "ppv": float(np.divide(caught, flagged.sum())),
        }


def _expected_auroc(risk: Float64[ndarray, " row"], score: Float64[ndarray, " row"]) -> float:
    """Weighted share of pairs in order: each row is a positive of weight risk and a negative of the rest."""
    order = np.argsort(score, kind="stable")
    risk, score = risk[order], score[order]
    step = np.cumsum(np.append(0, score[1:] != score[:-1]))
    positive, negative = np.bincount(step, risk), np.bincount(step, 1 - risk)
    below = np.cumsum(negative) - negative
    itself = (risk * (1 - risk)).sum()  # nobody makes a pair with himself
    whole = risk.sum() * (1 - risk).sum() - itself
    return float(((positive * (below + negative / 2)).sum() - itself / 2) / whole)
