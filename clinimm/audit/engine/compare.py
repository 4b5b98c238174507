"""A group against its reference: differences and ratios with intervals, and their joint law.

Simultaneous intervals are single intervals at a stricter level. How much stricter is found from the
joint law of everything that is judged (max-T): the influence of each row on each figure is summed
over 512 blocks of rows (of whole subjects), blocks get independent standard normal weights, and the
largest standardised sum of each draw is kept. Overlapping groups and related measures then cost less
than Bonferroni takes, and all of it comes from the same draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from scipy.stats import norm

from clinimm.audit.engine.figures import Figures
from clinimm.audit.engine.intervals import mover_difference, mover_ratio, z_of
from clinimm.audit.engine.rows import BLOCKS

_DRAWS_AT_ONCE = 500


@dataclass(frozen=True)
class Contrast:
    """One figure of one group, alone or against a reference.

    Attributes:
        value: the figure, the difference or the ratio; NaN where it does not exist.
        bounds: level -> both ends.
        influence: influence of each block of rows.
    """

    value: float
    bounds: Callable[[float], tuple[float, float]]
    influence: Callable[[], Float64[ndarray, " block"]]


def alone(figures: Figures, group: int) -> Contrast:
    """A group's own figure."""

    def bounds(level: float) -> tuple[float, float]:
        low, high = figures.bounds(level)
        return float(low[group]), float(high[group])

    return Contrast(float(figures.value[group]), bounds, lambda: figures.by_block[:, group])


def difference(figures: Figures, group: int, against: Figures, reference: int = 0) -> Contrast:
    """A group's figure less the reference's, by MOVER from the interval of each.

    Where the reference holds the group itself the interval is wider than needed, never narrower.
    """

    def bounds(level: float) -> tuple[float, float]:
        low, high = mover_difference(_at(figures, group, level), _at(against, reference, level))
        return float(low), float(high)

    def influence() -> Float64[ndarray, " block"]:
        return figures.by_block[:, group] - against.by_block[:, reference]

    return Contrast(float(figures.value[group] - against.value[reference]), bounds, influence)


def ratio(figures: Figures, group: int, against: Figures, reference: int = 0) -> Contrast:
    """A group's figure over the reference's, by MOVER; the influence is that of its logarithm."""

    def bounds(level: float) -> tuple[float, float]:
        low, high = mover_ratio(_at(figures, group, level), _at(against, reference, level))
        return float(low), float(high)

    def influence() -> Float64[ndarray, " block"]:
        with np.errstate(invalid="ignore", divide="ignore"):
            own = figures.by_block[:, group] / figures.value[group]
            return np.nan_to_num(own - against.by_block[:, reference] / against.value[reference])

    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.float64(figures.value[group]) / np.float64(against.value[reference])
    return Contrast(float(value), bounds, influence)


def joint_level(contrasts: Sequence[Contrast], level: float, draws: int, seed: int) -> float:
    """The level at which single intervals hold together at ``level``.

    Args:
        contrasts: everything that is judged together.
        level: wanted for all of them at once.
        draws: of the largest statistic.
        seed: of the draws.

    Returns:
        ``level`` for one contrast, more for many; rounded up to five decimals, so that machines agree.
    """
    columns = [contrast.influence() for contrast in contrasts if np.isfinite(contrast.value)]
    table = np.array([column for column in columns if np.any(column)]).reshape(-1, BLOCKS).T
    if table.shape[1] <= 1:
        return level
    table = table / np.sqrt(np.sum(table**2, axis=0))
    generator = np.random.default_rng([seed, 4])
    largest = np.concatenate(
        [
            np.max(
                np.abs(generator.standard_normal((min(_DRAWS_AT_ONCE, draws - done), BLOCKS)) @ table), axis=1
            )
            for done in range(0, draws, _DRAWS_AT_ONCE)
        ]
    )
    critical = max(float(np.quantile(largest, level)), z_of(level))
    return min(float(np.ceil((2 * norm.cdf(critical) - 1) * 1e5) / 1e5), 1 - 1e-6)


def _at(figures: Figures, group: int, level: float) -> tuple[ndarray, ndarray, ndarray]:
    value, low, high = figures.triple(level)
    return value[group], low[group], high[group]
