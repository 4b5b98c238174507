"""What is audited, and how its rows fall into groups and intersections of groups.

Scores are sorted once. Every attribute, and every combination of attributes, then only needs one
stable pass over that order (a radix sort of small integers), whatever the number of groups.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int, UInt8
from numpy import ndarray

from clinimm.evaluate.metrics import EPSILON

#: Blocks of rows over which influence is summed; see ``simultaneous``.
BLOCKS = 512


@dataclass(frozen=True)
class Coded:
    """One attribute of every row.

    Attributes:
        code: position in ``levels``.
        levels: the attribute's levels in the order in which they are shown.
    """

    code: Int[ndarray, " row"]
    levels: tuple[str, ...]


@dataclass(frozen=True)
class Grouping:
    """The groups of one attribute, or of a combination of attributes; only those that somebody is in.

    Attributes:
        attributes: names, one for a marginal grouping, none for everybody together.
        levels: the levels of each group, one an attribute.
        of_atom: the group of each atom (a combination of levels of all attributes).
    """

    attributes: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]
    of_atom: Int[ndarray, " atom"]

    @property
    def size(self) -> int:
        """How many groups there are."""
        return len(self.levels)


@dataclass(frozen=True)
class Segments:
    """Rows in order of group, and within a group in order of rising score.

    Attributes:
        label: 1 for the outcome.
        probability: predicted risk.
        logit: its logit, kept finite.
        tie: equal for equal scores, rising with the score.
        start: first row of each group, and the end.
        block: the block of each row, for simultaneous intervals.
        cluster: the subject of each row; None where each row is a subject.
        flagged: decision of each row; None where one threshold decides.
    """

    label: UInt8[ndarray, " row"]
    probability: Float64[ndarray, " row"]
    logit: Float64[ndarray, " row"]
    tie: Int[ndarray, " row"]
    start: Int[ndarray, " edge"]
    block: Int[ndarray, " row"]
    cluster: Int[ndarray, " row"] | None
    flagged: Bool[ndarray, " row"] | None = None

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return len(self.start) - 1

    @cached_property
    def size(self) -> Int[ndarray, " group"]:
        """Rows of each group."""
        return np.diff(self.start)

    @cached_property
    def group(self) -> Int[ndarray, " row"]:
        """The group of each row."""
        return np.repeat(np.arange(self.groups), self.size)

    @cached_property
    def steps(self) -> Int[ndarray, " step"]:
        """First row of each run of equal scores within a group."""
        new = np.empty(len(self.tie), dtype=bool)
        new[:1] = True
        np.not_equal(self.tie[1:], self.tie[:-1], out=new[1:])
        new[self.start[:-1]] = True
        return np.flatnonzero(new)

    @cached_property
    def positives(self) -> Int[ndarray, " group"]:
        """Rows of each group with the outcome."""
        return self.total(self.label).astype(np.int64)

    @cached_property
    def units(self) -> tuple[Int[ndarray, " row"], Int[ndarray, " unit"]]:
        """The unit (a subject within a group) of each row, and the group of each unit."""
        if self.cluster is None:
            return np.arange(len(self.label)), self.group
        wide = self.group.astype(np.int64) * (int(self.cluster.max(initial=0)) + 1) + self.cluster
        _, first, unit = np.unique(wide, return_index=True, return_inverse=True)
        return unit, self.group[first]

    def decision(self, threshold: float) -> Bool[ndarray, " row"]:
        """Whether each row is flagged."""
        return self.probability >= threshold if self.flagged is None else self.flagged

    def total(self, values: ndarray) -> Float64[ndarray, " group"]:
        """Sum of a value a row over each group; groups are never empty."""
        if len(values) == 0:
            return np.zeros(self.groups)
        return np.add.reduceat(values, self.start[:-1], dtype=np.float64)

    def spread(self, values: ndarray) -> ndarray:
        """A value a group, repeated for its rows."""
        return np.repeat(values, self.size)


@dataclass(frozen=True)
class Rows:
    """Everything that is audited: one row a prediction.

    Attributes:
        label: 1 for the outcome, else 0.
        probability: predicted risk, 0 to 1.
        attributes: attribute -> levels of the rows.
        cluster: a number for each subject; None where each row is a subject of its own.
        seed: of the partition into blocks.
        flagged: decision of each row, where folds have thresholds of their own; None where one
            threshold decides.
        repeat: number of the repeat of a cross-validation that made each row, from 0; None where
            there is one. A subject then has a row a repeat, and the AUROC is the mean over repeats.
    """

    label: UInt8[ndarray, " row"]
    probability: Float64[ndarray, " row"]
    attributes: Mapping[str, Coded]
    cluster: Int[ndarray, " row"] | None = None
    seed: int = 0
    flagged: Bool[ndarray, " row"] | None = None
    repeat: Int[ndarray, " row"] | None = None

    def decision(self, threshold: float) -> Bool[ndarray, " row"]:
        """Whether each row is flagged."""
        return self.probability >= threshold if self.flagged is None else self.flagged

    @property
    def repeats(self) -> int:
        """Rows that a cross-validation makes of each subject."""
        return 1 if self.repeat is None else int(self.repeat.max()) + 1

    @property
    def n(self) -> int:
        """How many rows there are."""
        return len(self.label)

    @cached_property
    def _atoms(self) -> tuple[Int[ndarray, " row"], Int[ndarray, "atom attribute"]]:
        """The atom of each row, and the code of each atom's levels."""
        columns = list(self.attributes.values())
        wide = np.zeros(self.n, dtype=np.int64)
        for column in columns:
            wide = wide * len(column.levels) + column.code
        combinations = int(np.prod([len(column.levels) for column in columns], dtype=np.float64)) or 1
        if combinations <= 1 << 20:
            present = np.flatnonzero(np.bincount(wide, minlength=1))
            number = np.zeros(combinations, dtype=np.int64)
            number[present] = np.arange(len(present))
            atom = number[wide]
        else:
            present, atom = np.unique(wide, return_inverse=True)
        codes = np.zeros((len(present), len(columns)), dtype=np.int64)
        rest = present.copy()
        for place in reversed(range(len(columns))):
            rest, codes[:, place] = np.divmod(rest, len(columns[place].levels))
        return atom, codes

    @cached_property
    def _sorted(self) -> tuple[ndarray, ...]:
        """Label, probability, logit, tie, atom, block and place of the rows in order of rising score."""
        order = np.argsort(self.probability)  # rows with equal scores are one step: their order is free
        score = self.probability[order]
        tie = np.zeros(self.n, dtype=np.int32)
        np.cumsum(score[1:] != score[:-1], out=tie[1:])
        kept = np.clip(score, EPSILON, 1 - EPSILON)
        logit = np.log(kept / (1 - kept))
        return self.label[order], score, logit, tie, self._atoms[0][order], self._blocks[order], order

    @cached_property
    def _blocks(self) -> Int[ndarray, " row"]:
        generator = np.random.default_rng([self.seed, 1])
        units = self.n if self.cluster is None else int(self.cluster.max(initial=0)) + 1
        number = (generator.permutation(units) % BLOCKS).astype(np.int32)
        return number if self.cluster is None else number[self.cluster]

    def everybody(self) -> Grouping:
        """All rows as one group."""
        return Grouping((), ((),), np.zeros(len(self._atoms[1]), dtype=np.int64))

    def grouping(self, attributes: Sequence[str]) -> Grouping:
        """The groups of one attribute or of a combination."""
        names = list(self.attributes)
        codes = self._atoms[1]
        wide = np.zeros(len(codes), dtype=np.int64)
        for name in attributes:
            wide = wide * len(self.attributes[name].levels) + codes[:, names.index(name)]
        _, first, of_atom = np.unique(wide, return_index=True, return_inverse=True)
        levels = tuple(
            tuple(self.attributes[name].levels[codes[atom, names.index(name)]] for name in attributes)
            for atom in first
        )
        return Grouping(tuple(attributes), levels, of_atom.astype(np.int64))

    def combinations(self, names: Sequence[str], order: int) -> list[tuple[str, ...]]:
        """So many attributes at a time, those that are there, in their order."""
        known = [name for name in self.attributes if name in names]
        return list(itertools.combinations(known, order))

    def groupings(self, orders: Sequence[int]) -> list[Grouping]:
        """Every combination of so many attributes."""
        names = list(self.attributes)
        return [self.grouping(one) for order in orders for one in self.combinations(names, order)]

    def segments(self, grouping: Grouping) -> Segments:
        """The rows in order of the grouping's groups."""
        if grouping.size == 1:
            return self._taken(None, np.array([0, self.n]))
        group = grouping.of_atom.astype(_smallest_kind(grouping.size))[self._sorted[4]]
        return self._taken(np.argsort(group, kind="stable"), _edges(group, grouping.size))

    def stacked(self, groupings: Sequence[Grouping]) -> Segments:
        """The groups of several groupings one after the other; each row stands there once a grouping."""
        parts, starts, done = [], [np.zeros(1, dtype=np.int64)], 0
        for grouping in groupings:
            group = grouping.of_atom.astype(_smallest_kind(grouping.size))[self._sorted[4]]
            parts.append(np.argsort(group, kind="stable"))
            starts.append(done + _edges(group, grouping.size)[1:])
            done += self.n
        return self._taken(np.concatenate(parts), np.concatenate(starts))

    def by_repeat(
        self, grouping: Grouping, member: Bool[ndarray, " group"] | None = None
    ) -> tuple[Segments, Int[ndarray, " segment"]]:
        """The rows of each group and repeat, and the group of each such segment; nobody is in an empty one.

        Args:
            grouping: the groups.
            member: where given, these groups together are the only group.
        """
        group = grouping.of_atom[self._sorted[4]]
        repeat = np.zeros(self.n, dtype=np.int64) if self.repeat is None else self.repeat[self._sorted[6]]
        inside = np.arange(self.n) if member is None else np.flatnonzero(member[group])
        owner = group if member is None else np.zeros(self.n, dtype=np.int64)
        present, dense = np.unique(owner[inside] * self.repeats + repeat[inside], return_inverse=True)
        take = inside[np.argsort(dense, kind="stable")]
        return self._taken(take, _edges(dense, len(present))), present // self.repeats

    def part(self, grouping: Grouping, member: Bool[ndarray, " group"]) -> Segments:
        """The rows of some groups together, as one group."""
        inside = np.flatnonzero(member[grouping.of_atom][self._sorted[4]])
        return self._taken(inside, np.array([0, len(inside)]))

    def _taken(self, take: Int[ndarray, " row"] | None, start: Int[ndarray, " edge"]) -> Segments:
        """Some rows of ``_sorted`` in an order; None takes all as they are."""
        label, score, logit, tie, _, block, order = self._sorted
        cluster, flagged = (
            None if column is None else column[order] for column in (self.cluster, self.flagged)
        )
        if take is None:
            return Segments(label, score, logit, tie, start, block, cluster, flagged)
        cluster, flagged = (None if column is None else column.take(take) for column in (cluster, flagged))
        label, score, logit, tie, block = (part.take(take) for part in (label, score, logit, tie, block))
        return Segments(label, score, logit, tie, start, block, cluster, flagged)

    def atom_counts(self, threshold: float) -> Int[ndarray, "atom label decision"]:
        """The joint count table: rows of each atom by label and decision (flagged from the threshold on)."""
        atom, codes = self._atoms
        cell = atom.astype(np.int64) * 4 + self.label * 2 + self.decision(threshold)
        return np.bincount(cell, minlength=4 * len(codes)).reshape(-1, 2, 2)


def _smallest_kind(size: int) -> type[np.unsignedinteger]:
    """The smallest unsigned integer that numbers so many groups: a radix sort of it is fast."""
    return np.uint8 if size <= 256 else np.uint16 if size <= 65536 else np.uint64


def _edges(group: ndarray, size: int) -> Int[ndarray, " edge"]:
    return np.concatenate([[0], np.cumsum(np.bincount(group.astype(np.int64), minlength=size))])
