"""One measure of every group: value, spread, interval at any level, and influence by block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from jaxtyping import Float, Float64
from numpy import ndarray

from clinimm.audit.engine.rows import BLOCKS, Segments

Ends = tuple[Float[ndarray, " group"], Float[ndarray, " group"]]


@dataclass(frozen=True)
class Figures:
    """One measure of every group of a grouping.

    Attributes:
        measure: its name in ``measures.MEASURES``.
        value: NaN where it does not exist.
        standard_error: from the influence of the units (subjects), NaN where it does not exist.
        n: what the measure counts in: positives for sensitivity, flagged rows for PPV, ...
        bounds: level -> both ends of the interval.
        influence: the influence of all rows of a block on the value, summed.
        method: how the interval is made.
    """

    measure: str
    value: Float64[ndarray, " group"]
    standard_error: Float64[ndarray, " group"]
    n: Float64[ndarray, " group"]
    bounds: Callable[[float], Ends]
    influence: Callable[[], Float64[ndarray, "block group"]]
    method: str

    def __post_init__(self) -> None:
        """Many contrasts ask for the same ends: they are made once a level."""
        object.__setattr__(self, "bounds", cache(self.bounds))

    @cached_property
    def by_block(self) -> Float64[ndarray, "block group"]:
        """``influence``, made once."""
        return self.influence()

    def triple(self, level: float) -> tuple[ndarray, ndarray, ndarray]:
        """Value, low and high, as the methods for differences take them."""
        return (self.value, *self.bounds(level))


def by_block(segments: Segments, influence: Float64[ndarray, " row"]) -> Float64[ndarray, "block group"]:
    """Influence of the rows summed over blocks of rows (of whole subjects where they have several)."""
    cell = segments.block.astype(np.int64) * segments.groups + segments.group
    summed = np.bincount(cell, influence, minlength=BLOCKS * segments.groups)
    return np.nan_to_num(summed.reshape(BLOCKS, segments.groups))


def design_effect(
    segments: Segments, influence: Callable[[], Float64[ndarray, " row"]]
) -> Float64[ndarray, " group"]:
    """How much wider the variance is for rows of one subject telling the same; never below 1.

    The variance of sums over subjects over that of rows (Rao and Scott, Biometrics 1992); exactly 1
    where each row is a subject.
    """
    if segments.cluster is None:
        return np.ones(segments.groups)
    unit, group_of_unit = segments.units
    rows = np.nan_to_num(influence())
    summed = np.bincount(unit, rows, minlength=len(group_of_unit))
    of_units = np.bincount(group_of_unit, summed**2, minlength=segments.groups)
    of_rows = segments.total(rows**2)
    units = np.bincount(group_of_unit, minlength=segments.groups)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = of_units / of_rows * (units / np.maximum(units - 1, 1))
    return np.fmax(np.nan_to_num(ratio, nan=1.0, posinf=1.0), 1.0)
