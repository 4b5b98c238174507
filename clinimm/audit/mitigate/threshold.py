"""Choosing thresholds under a constraint: the most net benefit among those that keep what is asked.

One threshold for everybody, or one for each group. Treating people by group needs a reason that a
clinic and the law accept; it is never chosen here unless it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from numpy import ndarray

from clinimm.audit.engine.rows import Rows

_GRID = 99


@dataclass(frozen=True)
class Chosen:
    """Thresholds that keep a constraint.

    Attributes:
        thresholds: level -> probability from which its rows are flagged.
        net_benefit: a row, weighed at ``odds`` for every row alike.
        met: whether the constraint could be kept; else the nearest to it is given.
        worst: largest of what was constrained.
        sentence: the choice for people.
    """

    thresholds: dict[str, float]
    net_benefit: float
    met: bool
    worst: float
    sentence: str

    def flagged(self, rows: Rows, attribute: str) -> Bool[ndarray, " row"]:
        """The decisions."""
        column = rows.attributes[attribute]
        of_level = np.array([self.thresholds[level] for level in column.levels])
        return np.asarray(rows.probability >= of_level[column.code])


@dataclass(frozen=True)
class _Limits:
    """Largest false negative rate of a group, and largest gap between two; None where not limited."""

    missed: float | None
    gap: float | None

    def excess(self, rates: Float64[ndarray, "level choice"]) -> Float64[ndarray, " choice"]:
        """By how much each choice breaks the limits."""
        over = np.zeros(rates.shape[1])
        if self.missed is not None:
            over = np.maximum(over, np.nanmax(rates, axis=0) - self.missed)
        if self.gap is not None:
            over = np.maximum(over, np.nanmax(rates, axis=0) - np.nanmin(rates, axis=0) - self.gap)
        return np.asarray(over)


def choose_threshold(
    rows: Rows,
    attribute: str,
    at: float,
    *,
    most_missed: float | None = None,
    largest_gap: float | None = None,
    by_group: bool = False,
) -> Chosen:
    """The most net benefit under a limit on who is missed.

    Args:
        rows: with a known label; not those on which the model was trained.
        attribute: whose groups the constraint is about. Groups without positives have nothing to keep.
        at: threshold probability that weighs a false alarm against a miss (Vickers and Elkin 2006).
        most_missed: no group's false negative rate may be above this.
        largest_gap: no two groups' false negative rates may differ by more.
        by_group: whether groups may have different thresholds.

    Raises:
        ValueError: nothing is constrained.
    """
    if most_missed is None and largest_gap is None:
        raise ValueError("choose_threshold: give most_missed, largest_gap, or both.")
    grid = np.unique(np.append(np.linspace(0.01, 0.99, _GRID), at))
    column = rows.attributes[attribute]
    curves = [_curves(rows, column.code == place, grid, at / (1 - at)) for place in range(len(column.levels))]
    missed, benefit = (np.stack(part) for part in zip(*curves, strict=True))  # (level, threshold)

    limits = _Limits(most_missed, largest_gap)
    place = _by_group(missed, benefit, limits) if by_group else _shared(missed, benefit, limits)
    rates = missed[np.arange(len(place)), place]
    met = bool(limits.excess(rates[:, None])[0] <= 1e-12)
    thresholds = {level: float(grid[one]) for level, one in zip(column.levels, place, strict=True)}
    value = float(benefit[np.arange(len(place)), place].sum()) / rows.n
    worst = float(np.nanmax(rates) if most_missed is not None else np.nanmax(rates) - np.nanmin(rates))
    text = ", ".join(f"{level} {one:g}" for level, one in thresholds.items())
    shown = text if by_group else f"{grid[place[0]]:g} for everybody"
    said = "keeps the constraint" if met else "cannot keep the constraint, and comes nearest to it"
    return Chosen(thresholds, value, met, worst, f"Flagged from {shown}: {said} (net benefit {value:.4f}).")


def _curves(rows: Rows, member: ndarray, grid: ndarray, odds: float) -> tuple[ndarray, ndarray]:
    """False negative rate, and net benefit in rows, of one group at every threshold of the grid."""
    positive, negative = (np.sort(rows.probability[member & (rows.label == each)]) for each in (1, 0))
    missed = np.searchsorted(positive, grid, side="left")
    alarms = len(negative) - np.searchsorted(negative, grid, side="left")
    rate = missed / len(positive) if len(positive) else np.full(len(grid), np.nan)
    return rate, (len(positive) - missed) - odds * alarms


def _shared(missed: ndarray, benefit: ndarray, limits: _Limits) -> ndarray:
    return np.full(len(missed), _best(limits.excess(missed), benefit.sum(axis=0)))


def _by_group(missed: ndarray, benefit: ndarray, limits: _Limits) -> ndarray:
    """The best choice of every level, for every window of rates that the limits allow.

    Whatever keeps the limits lies in the window that begins at its smallest rate, so no combination
    has to be tried. Where no window holds a choice of every level, the nearest choices stand in.
    """
    levels = np.arange(len(missed))
    found, excess = [], []
    for low in np.unique(missed[~np.isnan(missed)]):
        high = min(
            low + (1.0 if limits.gap is None else limits.gap), 1.0 if limits.missed is None else limits.missed
        )
        away = np.nan_to_num(np.maximum(np.maximum(low - missed, missed - high), 0.0))
        nearest = away.min(axis=1, keepdims=True)
        place = np.argmax(np.where(away <= nearest + 1e-12, benefit, -np.inf), axis=1)
        found.append(place)
        excess.append(limits.excess(missed[levels, place][:, None])[0])
    total = np.array([benefit[levels, place].sum() for place in found])
    return np.asarray(found[_best(np.array(excess), total)])


def _best(excess: ndarray, benefit: ndarray) -> int:
    """Most benefit among those that keep the constraint; else the least excess."""
    kept = excess <= 1e-12
    if kept.any():
        return int(np.argmax(np.where(kept, benefit, -np.inf)))
    return int(np.lexsort((-benefit, excess))[0])
