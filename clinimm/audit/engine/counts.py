"""Rates and net benefit: everything that follows from a two-by-two table of each group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int
from numpy import ndarray

from clinimm.audit.engine.figures import Ends, Figures, design_effect
from clinimm.audit.engine.intervals import clopper_pearson, mover_difference
from clinimm.audit.engine.rows import BLOCKS, Grouping, Rows, Segments

#: Rate -> the cells (label, decision) of its numerator and of its denominator.
RATES: dict[str, tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]] = {
    "sensitivity": (((1, 1),), ((1, 0), (1, 1))),
    "specificity": (((0, 0),), ((0, 0), (0, 1))),
    "fnr": (((1, 0),), ((1, 0), (1, 1))),
    "fpr": (((0, 1),), ((0, 0), (0, 1))),
    "ppv": (((1, 1),), ((0, 1), (1, 1))),
    "npv": (((0, 0),), ((0, 0), (1, 0))),
    "selection_rate": (((0, 1), (1, 1)), ((0, 0), (0, 1), (1, 0), (1, 1))),
    "prevalence": (((1, 0), (1, 1)), ((0, 0), (0, 1), (1, 0), (1, 1))),
}


@dataclass(frozen=True)
class Tables:
    """A two-by-two table of every group.

    Attributes:
        counts: rows by label and decision.
        threshold: probability from which a row is flagged.
        make_segments: the rows behind it, which only repeated subjects and blocks need.
        clustered: whether subjects have several rows.
        inverted: each table holds everybody *outside* the group.
    """

    counts: Int[ndarray, "group label decision"]
    threshold: float
    make_segments: Callable[[], Segments]
    clustered: bool
    inverted: bool = False

    @cached_property
    def segments(self) -> Segments:
        """The rows behind it, in order of group and score."""
        return self.make_segments()

    @classmethod
    def of_atoms(
        cls,
        rows: Rows,
        grouping: Grouping,
        counts: Int[ndarray, "atom label decision"],
        threshold: float,
        make_segments: Callable[[], Segments] | None = None,
    ) -> Tables:
        """The tables of a grouping from the joint count table; rows are only sorted if they are needed.

        Args:
            rows: what is audited.
            grouping: its groups.
            counts: ``rows.atom_counts(threshold)``.
            threshold: probability from which a row is flagged.
            make_segments: the rows in order of the groups, where somebody keeps them.
        """
        summed = np.zeros((grouping.size, 2, 2), dtype=np.int64)
        np.add.at(summed, grouping.of_atom, counts)
        make = make_segments or (lambda: rows.segments(grouping))
        return cls(summed, threshold, make, rows.cluster is not None)

    def outside(self) -> Tables:
        """For each group the table of everybody else; only where each row is a subject of its own."""
        counts = self.counts.sum(axis=0)[None] - self.counts
        return Tables(counts, self.threshold, lambda: self.segments, self.clustered, inverted=True)

    def pair(self, rate: str) -> tuple[Float64[ndarray, " group"], Float64[ndarray, " group"]]:
        """Numerator and denominator of a rate."""
        return tuple(self.cells(part) for part in RATES[rate])  # type: ignore[return-value]

    def cells(self, cells: tuple[tuple[int, int], ...]) -> Float64[ndarray, " group"]:
        """Rows in some cells together."""
        return np.sum([self.counts[:, label, decision] for label, decision in cells], axis=0).astype(float)

    @cached_property
    def by_block(self) -> Float64[ndarray, "block group cell"]:
        """The tables of each block of rows."""
        cell = (self.segments.block.astype(np.int64) * self.segments.groups + self.segments.group) * 4
        cell += self.row_cell()
        counts = np.bincount(cell, minlength=BLOCKS * self.segments.groups * 4).astype(float)
        tables = counts.reshape(BLOCKS, self.segments.groups, 4)
        return tables.sum(axis=1, keepdims=True) - tables if self.inverted else tables

    def row_cell(self) -> Int[ndarray, " row"]:
        """The cell of each row: twice the label plus the decision."""
        return self.segments.label * 2 + self.segments.decision(self.threshold)


def tables_of(segments: Segments, threshold: float) -> Tables:
    """Count every group's rows by label and decision."""
    flagged = segments.decision(threshold)
    true, all_flagged = segments.total(segments.label & flagged), segments.total(flagged)
    counts = np.zeros((segments.groups, 2, 2), dtype=np.int64)
    counts[:, 1, 1], counts[:, 0, 1] = true, all_flagged - true
    counts[:, 1, 0] = segments.positives - true
    counts[:, 0, 0] = segments.size - segments.positives - counts[:, 0, 1]
    return Tables(counts, threshold, lambda: segments, segments.cluster is not None)


def rate(tables: Tables, name: str) -> Figures:
    """One rate of every group, with Clopper and Pearson's interval.

    Where subjects have several rows the interval is that of the effective sample: the counts over
    the design effect.
    """
    successes, n = tables.pair(name)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = successes / n
    weights = _influence_of_cells(name, value, n)
    effect = _effect(tables, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.sqrt(value * (1 - value) / n * effect)

    def bounds(level: float) -> Ends:
        return clopper_pearson(successes / effect, n / effect, level)

    def influence() -> Float64[ndarray, "block group"]:
        return np.einsum("bgc,gc->bg", tables.by_block, np.nan_to_num(weights))

    return Figures(name, value, error, n, bounds, influence, "Clopper-Pearson")


def net_benefit(tables: Tables, against_treat_all: bool = False) -> Figures:
    """Net benefit a row at the threshold (Vickers and Elkin, Med Decis Making 2006).

    ``TP/n - FP/n w`` with the odds ``w = t / (1 - t)``; less that of flagging everybody it is
    ``TN/n w - FN/n``. Both are differences of two shares of the same n, whose correlation is that of
    a multinomial.
    """
    odds = tables.threshold / (1 - tables.threshold) if tables.threshold < 1 else np.nan
    gain, loss = (((0, 0),), ((1, 0),)) if against_treat_all else (((1, 1),), ((0, 1),))
    weight = (odds, 1.0) if against_treat_all else (1.0, odds)
    n = tables.counts.sum(axis=(1, 2)).astype(float)
    shares = [tables.cells(cells) / n for cells in (gain, loss)]
    value = weight[0] * shares[0] - weight[1] * shares[1]
    cells = np.zeros(4)
    cells[gain[0][0] * 2 + gain[0][1]], cells[loss[0][0] * 2 + loss[0][1]] = weight[0], -weight[1]
    weights = (cells[None, :] - value[:, None]) / n[:, None]
    effect = _effect(tables, weights)
    second = weight[0] ** 2 * shares[0] + weight[1] ** 2 * shares[1]
    error = np.sqrt(np.maximum(second - value**2, 0.0) / n * effect)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.sqrt((1 - shares[0]) * (1 - shares[1]))
        correlation = np.nan_to_num(-np.sqrt(shares[0] * shares[1]) / spread, nan=0.0, neginf=-1.0)

    def bounds(level: float) -> Ends:
        parts = [
            tuple(factor * part for part in (share, *clopper_pearson(share * n / effect, n / effect, level)))
            for share, factor in zip(shares, weight, strict=True)
        ]
        return mover_difference(parts[0], parts[1], np.maximum(correlation, -1.0))  # type: ignore[arg-type]

    def influence() -> Float64[ndarray, "block group"]:
        return np.einsum("bgc,gc->bg", tables.by_block, weights)

    name = "net_benefit_less_treat_all" if against_treat_all else "net_benefit"
    return Figures(name, value, error, n, bounds, influence, "MOVER of two shares, Clopper-Pearson")


def _influence_of_cells(name: str, value: ndarray, n: ndarray) -> Float64[ndarray, "group cell"]:
    """What one row of each cell adds to the rate."""
    weights = np.zeros((len(value), 4))
    top, bottom = RATES[name]
    with np.errstate(invalid="ignore", divide="ignore"):
        for label, decision in bottom:
            hit = 1.0 if (label, decision) in top else 0.0
            weights[:, label * 2 + decision] = (hit - value) / n
    return weights


def _effect(tables: Tables, weights: Float64[ndarray, "group cell"]) -> Float64[ndarray, " group"]:
    if not tables.clustered:
        return np.ones(len(tables.counts))
    return design_effect(tables.segments, lambda: weights[tables.segments.group, tables.row_cell()])
