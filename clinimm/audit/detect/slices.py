"""Slice discovery: is anybody served worse whom nobody thought of naming?

Every combination of up to three attribute levels is looked at, for three questions: is the outcome
missed more (or less) often, are false alarms, and does the outcome come more or less often than
for others *at the same predicted risk*? Looking at thousands of slices finds something in pure
noise. So the largest standardised excess is held against its law under permutation: what happened is
permuted within people who should be alike (the positives; the negatives; a stratum of predicted
risk), and each time the largest excess over all slices is kept (max-T, Westfall and Young 1993). A
slice is named where it exceeds that law; the chance of naming anything where nothing is there is at
most alpha, over all slices and questions together.

Permuting rows within strata only moves counts between cells of the joint table, so draws come from a
multivariate hypergeometric distribution and do not grow with the rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int
from numpy import ndarray
from scipy import sparse
from scipy.stats import norm

from clinimm.audit.detect.risk import risk_strata
from clinimm.audit.engine.intervals import clopper_pearson
from clinimm.audit.engine.rows import Coded, Rows

#: Question -> what happens, and to whom.
TARGETS: Mapping[str, tuple[str, str]] = {
    "missed": ("missed", "positives"),
    "false_alarm": ("falsely alarmed", "negatives"),
    "outcome_at_equal_risk": ("with the outcome", "rows"),
}
_FEWEST_EXPECTED = 5.0
_MOST_CELLS = 20_000


@dataclass(frozen=True)
class Slice:
    """One combination of levels that differs from everybody alike.

    Attributes:
        target: the question, a key of ``TARGETS``.
        attributes, levels: who they are.
        n: rows that the question is about (positives of the slice, ...).
        events: to how many of them it happened.
        rate: their share.
        expected: the share among people alike: all positives, all negatives, all at the same risk.
        low, high: interval of the excess, holding over all slices that were looked at.
        z: standardised excess.
        p: chance of an excess as large in any slice for any question, if there is nothing.
    """

    target: str
    attributes: tuple[str, ...]
    levels: tuple[str, ...]
    n: int
    events: int
    rate: float
    expected: float
    low: float
    high: float
    z: float
    p: float

    @property
    def name(self) -> str:
        """``race b × sex female``."""
        return " × ".join(f"{name} {level}" for name, level in zip(self.attributes, self.levels, strict=True))

    @property
    def sentence(self) -> str:
        """The finding for people."""
        what, whom = TARGETS[self.target]
        others = "everybody at the same predicted risk" if self.target.endswith("risk") else f"all {whom}"
        return (
            f"{self.name}: {self.rate:.3f} {what} among {self.n:,} {whom}, {self.expected:.3f} for {others}; "
            f"excess {self.rate - self.expected:+.3f} ({self.low:+.3f} to {self.high:+.3f}), p {self.p:.3f}."
        )


@dataclass(frozen=True)
class Slices:
    """What the search found.

    Attributes:
        found: distinct slices, the most surely different first.
        searched: slices and questions that were looked at.
        alpha: chance of naming anything where there is nothing.
        p: smallest p of any slice; 1 where none could be looked at.
    """

    found: tuple[Slice, ...]
    searched: int
    alpha: float
    p: float

    @property
    def raised(self) -> bool:
        """Whether a slice was named."""
        return bool(self.found)

    @property
    def sentences(self) -> list[str]:
        """The findings for people; what was looked at where there are none."""
        if self.found:
            return [one.sentence for one in self.found]
        return [
            f"Among {self.searched:,} slices and questions none differs more than chance alone would make "
            f"the largest differ (smallest p {self.p:.3f}). That does not show that all are alike."
        ]


@dataclass(frozen=True)
class _Cells:
    """The joint table's cells, and which slice holds which.

    Attributes:
        cell: of each row.
        members: 1 where a slice holds a cell.
        names: attributes and levels of each slice.
    """

    cell: Int[ndarray, " row"]
    members: sparse.csr_array
    names: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]


@dataclass(frozen=True)
class _Question:
    """Events in strata of people alike, counted by cell.

    Attributes:
        size: rows of each stratum in each cell.
        events: rows with the event.
        expected: sum of what is expected of the rows, up to a constant a row in each stratum.
    """

    size: Float64[ndarray, "stratum cell"]
    events: Float64[ndarray, "stratum cell"]
    expected: Float64[ndarray, "stratum cell"]

    def without(self, cells: Bool[ndarray, " cell"]) -> _Question:
        """The same question about everybody else."""
        left = (~cells)[None].astype(float)
        return _Question(self.size * left, self.events * left, self.expected * left)

    def share(self) -> Float64[ndarray, " stratum"]:
        """Events among the rows of each stratum."""
        size = self.size.sum(axis=1)
        return np.divide(self.events.sum(axis=1), size, out=np.zeros_like(size), where=size > 0)

    def excess(self) -> Float64[ndarray, " cell"]:
        """Events of each cell less what is expected; sums to zero in each stratum."""
        left, size = self.events - self.expected, self.size.sum(axis=1)
        shift = np.divide(left.sum(axis=1), size, out=np.zeros_like(size), where=size > 0)
        return np.asarray(np.sum(left - self.size * shift[:, None], axis=0))

    def standardised(
        self, members: sparse.csr_array, excess: Float64[ndarray, "draw cell"]
    ) -> Float64[ndarray, "draw slice"]:
        """Excess of each slice, either way, over its standard deviation under permutation."""
        total = np.asarray(members.T @ excess.T).T
        return np.asarray(np.abs(total) / np.sqrt(np.maximum(self.variance(members), 1e-12)))

    def variance(self, members: sparse.csr_array) -> Float64[ndarray, " slice"]:
        """Of the events of a slice, hypergeometric in each stratum."""
        everybody, share = self.size.sum(axis=1), self.share()
        own = np.asarray(members.T @ self.size.T).T
        spread = share * (1 - share) / np.maximum(everybody - 1, 1)
        return np.asarray(np.sum(own * (everybody[:, None] - own) * spread[:, None], axis=0))

    def draw(self, draws: int, generator: np.random.Generator) -> Float64[ndarray, "draw cell"]:
        """Excess of each cell where the events of each stratum fall on anybody in it."""
        found = np.zeros((draws, self.size.shape[1]))
        for size, events in zip(self.size, self.events.sum(axis=1), strict=True):
            if 0 < events < size.sum():
                here = np.flatnonzero(size)
                counts = size[here].astype(np.int64)
                drawn = generator.multivariate_hypergeometric(counts, int(events), draws, method="marginals")
                found[:, here] += drawn - events * counts / counts.sum()
        return found


def find_slices(
    rows: Rows,
    threshold: float,
    *,
    more: Mapping[str, Coded] | None = None,
    depth: int = 3,
    alpha: float = 0.05,
    draws: int = 1000,
    seed: int = 0,
) -> Slices:
    """Search every slice of up to ``depth`` attributes.

    Where subjects have several rows, one of each is drawn: rows of one subject cannot be permuted.

    Args:
        rows: what is audited.
        threshold: probability from which a row is flagged.
        more: further columns to slice by, such as features in bins.
        depth: attributes that a slice may combine, 1 to 3.
        alpha: chance of naming anything where there is nothing.
        draws: permutations.
        seed: of the draws.

    Raises:
        ValueError: the attributes have more than 20,000 combinations that somebody is in.
    """
    rows = one_row_a_subject(rows, more, seed)
    cells = _cells(rows, depth)
    questions = _questions(rows, cells, threshold)
    found: list[Slice] = []
    searched, smallest = 0, 1.0
    for place, (target, question) in enumerate(questions.items()):
        able = _able(question, cells)
        searched += len(able)
        if len(able) == 0:
            continue
        members = sparse.csr_array(cells.members[:, able])
        generator = np.random.default_rng([seed, 5, place])
        largest = np.sort(question.standardised(members, question.draw(draws, generator)).max(axis=1))
        z = question.standardised(members, question.excess()[None])[0]
        above = draws - np.searchsorted(largest, z - 1e-9)
        p = np.minimum(1.0, len(TARGETS) * (1 + above) / (1 + draws))
        smallest = min(smallest, float(p.min()))
        critical = float(np.quantile(largest, 1 - alpha / len(TARGETS), method="higher"))
        kept = _distinct(question, members, np.flatnonzero(p <= alpha), z, critical)
        found += [
            _slice(target, question, cells, int(able[one]), (float(z[one]), float(p[one])), critical)
            for one in kept
        ]
    found.sort(key=lambda one: (one.p, -one.z, one.name))
    return Slices(tuple(found), searched, alpha, smallest)


def one_row_a_subject(rows: Rows, more: Mapping[str, Coded] | None, seed: int) -> Rows:
    """Rows with further columns, one drawn for each subject."""
    attributes = {**rows.attributes, **(more or {})}
    if rows.cluster is None:
        return Rows(rows.label, rows.probability, attributes, None, rows.seed, rows.flagged)
    order = np.random.default_rng([seed, 6]).permutation(rows.n)
    _, first = np.unique(rows.cluster[order], return_index=True)
    take = np.sort(order[first])
    taken = {name: Coded(column.code[take], column.levels) for name, column in attributes.items()}
    flagged = None if rows.flagged is None else rows.flagged[take]
    return Rows(rows.label[take], rows.probability[take], taken, None, rows.seed, flagged)


def _cells(rows: Rows, depth: int) -> _Cells:
    columns = rows.attributes
    wide = np.zeros(rows.n, dtype=np.int64)
    for column in columns.values():
        wide = wide * len(column.levels) + column.code
    _, first, cell = np.unique(wide, return_index=True, return_inverse=True)
    if len(first) > _MOST_CELLS:
        raise ValueError(
            f"slices: {len(first):,} combinations of {', '.join(columns)}; name fewer columns, or use bins."
        )
    codes = {name: column.code[first].astype(np.int64) for name, column in columns.items()}
    places: list[ndarray] = []
    names: list[tuple[tuple[str, ...], tuple[str, ...]]] = []
    seen: set[bytes] = set()
    for order in range(1, min(depth, len(columns)) + 1):
        for chosen in itertools.combinations(columns, order):
            mixed = np.zeros(len(first), dtype=np.int64)
            for name in chosen:
                mixed = mixed * len(columns[name].levels) + codes[name]
            for value in np.unique(mixed):
                here = np.flatnonzero(mixed == value)
                if len(here) == len(first) or here.tobytes() in seen:
                    continue  # everybody, or the same people as a simpler slice
                seen.add(here.tobytes())
                places.append(here)
                names.append((chosen, tuple(columns[name].levels[codes[name][here[0]]] for name in chosen)))
    columns_of = np.repeat(np.arange(len(places)), [len(here) for here in places])
    inside = np.concatenate(places) if places else np.zeros(0, dtype=np.int64)
    members = sparse.csr_array(
        (np.ones(len(inside)), (inside, columns_of)), shape=(len(first), max(len(places), 1))
    )
    return _Cells(cell.astype(np.int64), members, tuple(names))


def _questions(rows: Rows, cells: _Cells, threshold: float) -> dict[str, _Question]:
    flagged, positive = rows.decision(threshold), rows.label == 1
    strata = risk_strata(rows)
    return {
        "missed": _of_group(cells, positive, ~flagged),
        "false_alarm": _of_group(cells, ~positive, flagged),
        "outcome_at_equal_risk": _of_strata(cells, strata.stratum, strata.count, positive, strata.expected),
    }


def _of_group(cells: _Cells, members: ndarray, event: ndarray) -> _Question:
    count = cells.members.shape[0]
    size = np.bincount(cells.cell[members], minlength=count).astype(float)
    events = np.bincount(cells.cell[members & event], minlength=count).astype(float)
    return _Question(size[None], events[None], np.zeros((1, count)))


def _of_strata(cells: _Cells, stratum: ndarray, count: int, event: ndarray, expected: ndarray) -> _Question:
    width = cells.members.shape[0]
    wide = stratum * width + cells.cell

    def table(place: ndarray, weights: ndarray | None = None) -> ndarray:
        found = np.bincount(place, weights, minlength=count * width)
        return found.astype(float).reshape(count, width)

    return _Question(table(wide), table(wide[event]), table(wide, expected))


def _able(question: _Question, cells: _Cells) -> Int[ndarray, " slice"]:
    """Slices with enough to see anything: five events and five others expected."""
    if not cells.names:
        return np.zeros(0, dtype=np.int64)
    own = np.asarray(cells.members.T @ question.size.T).T
    expected, rows = question.share() @ own, own.sum(axis=0)
    enough = (np.minimum(expected, rows - expected) >= _FEWEST_EXPECTED) & (rows < question.size.sum())
    return np.flatnonzero(enough)


def _distinct(
    question: _Question, members: sparse.csr_array, candidates: ndarray, z: ndarray, critical: float
) -> list[int]:
    """Without echoes: once a slice is named, its people are left out, and who follows must still differ.

    Else the parts of a slice, the attributes that it crosses, and everybody whom it makes look better
    than average would all be named after it.
    """
    kept: list[int] = []
    for one in candidates[np.argsort(-z[candidates], kind="stable")]:
        alone = sparse.csr_array(members[:, [one]])
        if question.standardised(alone, question.excess()[None])[0, 0] >= critical:
            kept.append(int(one))
            question = question.without(alone.toarray()[:, 0] > 0)
    return kept


def _slice(
    target: str, question: _Question, cells: _Cells, place: int, z_and_p: tuple[float, float], critical: float
) -> Slice:
    member = sparse.csr_array(cells.members[:, [place]])
    inside = member.toarray()[:, 0] > 0
    n, events = float(question.size[:, inside].sum()), float(question.events[:, inside].sum())
    expected = (events - float(question.excess()[inside].sum())) / n
    # The permutation's own variance beside that of a coin: people at one risk differ less than the slice.
    effect = float(question.variance(member)[0]) / max(n * expected * (1 - expected), 1e-12)
    level = float(1 - 2 * norm.sf(critical))
    low, high = clopper_pearson(np.array([events / effect]), np.array([n / effect]), level)
    attributes, levels = cells.names[place]
    return Slice(
        target,
        attributes,
        levels,
        round(n),
        round(events),
        events / n,
        expected,
        float(low[0]) - expected,
        float(high[0]) - expected,
        *z_and_p,
    )
