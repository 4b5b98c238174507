"""Interval of a weighted sum of figures of the same rows, from the interval of each (MOVER).

Zou and Donner (Stat Med 2008) for any number of parts: each part gives the arm that points where the
sum's end lies, and the arms are combined with the parts' correlation. What the parts promise with few
events, the sum inherits; where two parts agree on every row their difference would have no width, so
a correlation is never taken for complete.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from clinimm.audit.engine.compare import Contrast

#: A correlation of k rows is shrunk by k / (k + this): twenty that all agree leave one twentieth open.
_SHRINK = 2.0


def linear_interval(
    parts: Sequence[Contrast], weights: Float64[ndarray, " part"], cases: float, level: float
) -> tuple[float, float, float]:
    """Value, low and high of the weighted sum of some contrasts; NaN where a part has none.

    Args:
        parts: contrasts of the same rows, in the same blocks.
        weights: of each.
        cases: what the measure counts in, of the smaller side.
        level: of the interval.
    """
    used = [(part, float(weight)) for part, weight in zip(parts, weights, strict=True) if weight]
    value = sum(weight * part.value for part, weight in used)
    if not used:
        return 0.0, 0.0, 0.0
    influence = np.stack([part.influence() for part, _ in used])
    ends = np.array([part.bounds(level) for part, _ in used])
    values = np.array([part.value for part, _ in used])
    scale = np.array([weight for _, weight in used])
    down = np.abs(scale) * np.where(scale > 0, values - ends[:, 0], ends[:, 1] - values)
    up = np.abs(scale) * np.where(scale > 0, ends[:, 1] - values, values - ends[:, 0])
    matrix = _correlation(influence, cases) * np.sign(scale)[:, None] * np.sign(scale)[None]
    low, high = (float(np.sqrt(max(0.0, arm @ matrix @ arm))) for arm in (down, up))
    return value, value - low, value + high


def fixed(contrast: Contrast) -> Contrast:
    """A contrast known without error: no row moves it, because every row got the same answer."""
    if np.any(contrast.influence()):
        return contrast
    return Contrast(contrast.value, lambda level: (contrast.value, contrast.value), contrast.influence)


def _correlation(influence: Float64[ndarray, "part block"], cases: float) -> Float64[ndarray, "part part"]:
    length = np.sqrt(np.sum(influence**2, axis=1))
    unit = influence / np.where(length > 0, length, 1.0)[:, None]
    matrix = unit @ unit.T * (cases / (cases + _SHRINK))
    np.fill_diagonal(matrix, 1.0)
    return matrix
