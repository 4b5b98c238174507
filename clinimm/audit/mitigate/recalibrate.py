"""Recalibration by group: the same risk should mean the same for everybody.

Each group gets a shift and a slope of its own on the logit scale, drawn towards those of everybody as
far as its size does not tell otherwise (a ridge on the difference), so a small group is not given a
curve of its own from a handful of cases. Every row is recalibrated by a fit without its subject.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int
from numpy import ndarray
from scipy.optimize import minimize
from scipy.special import expit

from clinimm.audit.detect.risk import logit_of
from clinimm.audit.engine.rows import Rows

_FOLDS = 5
#: Spread that shifts and log slopes of groups are expected to have around everybody's.
_PRIOR_SPREAD = 0.5


@dataclass(frozen=True)
class Recalibration:
    """Shift and slope of each group.

    Attributes:
        attribute: whose groups they are.
        levels: its levels.
        shift, slope: one a level: ``logit' = shift + slope x logit``.
    """

    attribute: str
    levels: tuple[str, ...]
    shift: Float64[ndarray, " level"]
    slope: Float64[ndarray, " level"]

    def apply(
        self, probability: Float64[ndarray, " row"], code: Int[ndarray, " row"]
    ) -> Float64[ndarray, " row"]:
        """Recalibrated risks of rows whose level is ``code``."""
        return np.asarray(expit(self.shift[code] + self.slope[code] * logit_of(probability)))


def recalibrate(rows: Rows, attribute: str) -> Recalibration:
    """Fit shift and slope of every group of an attribute by penalised maximum likelihood."""
    column = rows.attributes[attribute]
    count, logit = len(column.levels), logit_of(rows.probability)
    label, code = rows.label.astype(float), column.code

    def parts(values: ndarray) -> tuple[ndarray, ndarray]:
        return values[0] + values[2 : 2 + count], np.exp(values[1] + values[2 + count :])

    def loss(values: ndarray) -> tuple[float, ndarray]:
        shift, slope = parts(values)
        linear = shift[code] + slope[code] * logit
        left = expit(linear) - label
        of_shift = np.bincount(code, left, minlength=count)
        of_slope = np.bincount(code, left * logit, minlength=count) * slope
        own = values[2:]
        gradient = np.concatenate([[of_shift.sum(), of_slope.sum()], of_shift, of_slope])
        gradient[2:] += own / _PRIOR_SPREAD**2
        value = float(np.sum(np.logaddexp(0, linear) - label * linear))
        return value + float(own @ own) / (2 * _PRIOR_SPREAD**2), gradient

    found = minimize(loss, np.zeros(2 + 2 * count), jac=True, method="L-BFGS-B")
    shift, slope = parts(found.x)
    return Recalibration(attribute, column.levels, shift, slope)


def recalibrated(rows: Rows, attribute: str, seed: int = 0) -> Float64[ndarray, " row"]:
    """Every row's risk by a recalibration fitted without its subject."""
    cluster = np.arange(rows.n) if rows.cluster is None else rows.cluster
    fold = (np.random.default_rng([seed, 10]).permutation(int(cluster.max()) + 1) % _FOLDS)[cluster]
    found = np.zeros(rows.n)
    column = rows.attributes[attribute]
    for number in np.unique(fold):
        train, test = fold != number, fold == number
        own = type(column)(column.code[train], column.levels)
        fit = recalibrate(Rows(rows.label[train], rows.probability[train], {attribute: own}), attribute)
        found[test] = fit.apply(rows.probability[test], column.code[test])
    return found
