"""How common the outcome has become, from the model's decisions alone: black box shift estimation.

Lipton, Wang and Smola (ICML 2018): if patients with and without the outcome look as they did (label shift:
p(x | y) is as in the reference), then the decisions now are the reference's decisions given the label,
mixed in new proportions. The model need not be good or calibrated, only better than chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

_DRAWS = 2000
#: Below so much difference between the flagged shares of the two labels nothing can be solved for.
_LEAST_CONTRAST = 0.1
ASSUMPTION = "patients with the outcome, and those without, look as they did in the reference (label shift)"


@dataclass(frozen=True)
class Shift:
    """What the decisions say.

    Attributes:
        reference: prevalence of the reference.
        prevalence, low, high: estimated now.
        change, change_low, change_high: against the reference.
    """

    reference: float
    prevalence: float
    low: float
    high: float
    change: float
    change_low: float
    change_high: float


def estimate_shift(
    label: Bool[ndarray, " reference"],
    flagged: Bool[ndarray, " reference"],
    flagged_now: Bool[ndarray, " now"],
    level: float,
    seed: int,
) -> Shift | None:
    """Estimate the prevalence now; None where the decisions hardly depend on the label.

    Args:
        label, flagged: of the reference's labelled subjects.
        flagged_now: of everybody now, labelled or not.
        level: of the interval, by bootstrap of both samples.
        seed: of the bootstrap.
    """
    cell = 2 * label.astype(int) + flagged.astype(int)
    counts = np.bincount(cell, minlength=4).reshape(2, 2)
    total, now = int(counts.sum()), int(np.sum(flagged_now))
    if (counts.sum(axis=1) == 0).any() or not _contrast(counts[None])[0] > _LEAST_CONTRAST:
        return None
    value = _solve(counts[None], np.array([now / len(flagged_now)]))[0]
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(total, counts.ravel() / total, _DRAWS).reshape(-1, 2, 2)
    share = generator.binomial(len(flagged_now), now / len(flagged_now), _DRAWS) / len(flagged_now)
    solved = _solve(drawn, share)
    changed = solved - drawn[:, 1].sum(axis=1) / total
    ends = [0.5 - level / 2, 0.5 + level / 2]
    reference = float(counts[1].sum() / total)
    low, high = np.nanquantile(solved, ends)
    change_low, change_high = np.nanquantile(changed, ends)
    found = (value, low, high, value - reference, change_low, change_high)
    return Shift(reference, *(float(one) for one in found))


def _rates(counts: ndarray) -> tuple[ndarray, ndarray]:
    with np.errstate(invalid="ignore", divide="ignore"):
        share = counts[:, :, 1] / counts.sum(axis=2)
    return share[:, 1], share[:, 0]


def _contrast(counts: ndarray) -> ndarray:
    sensitivity, false_alarms = _rates(counts)
    return np.abs(sensitivity - false_alarms)


def _solve(counts: ndarray, share: ndarray) -> ndarray:
    """The two-class case of ``w = C^-1 mu``, kept between 0 and 1."""
    sensitivity, false_alarms = _rates(counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip((share - false_alarms) / (sensitivity - false_alarms), 0.0, 1.0)
