"""What the slice search asks: events among people alike, counted by cell of the joint table.

Permuting rows within strata only moves counts between cells, so draws come from a multivariate
hypergeometric distribution and do not grow with the rows.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int
from numpy import ndarray
from scipy import sparse

from clinimm.audit.detect.risk import risk_strata
from clinimm.audit.engine.rows import Rows

_FEWEST_EXPECTED = 5.0
_FEWEST_ROWS_A_HALF = 10
_MOST_CELLS = 20_000


@dataclass(frozen=True)
class Cells:
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
class Question:
    """Events in strata of people alike, counted by cell.

    Attributes:
        size: rows of each stratum in each cell.
        events: rows with the event.
        expected: sum of what is expected of the rows, up to a constant a row in each stratum.
        trend: a weight of each stratum, where the question is how the excess goes with it; None where it is
            the excess itself.
    """

    size: Float64[ndarray, "stratum cell"]
    events: Float64[ndarray, "stratum cell"]
    expected: Float64[ndarray, "stratum cell"]
    trend: Float64[ndarray, " stratum"] | None = None

    def without(self, cells: Bool[ndarray, " cell"]) -> Question:
        """The same question about everybody else."""
        left = (~cells)[None].astype(float)
        return Question(self.size * left, self.events * left, self.expected * left, self.trend)

    def half(self, upper: bool) -> Question:
        """How often, in the strata of one half of the trend."""
        assert self.trend is not None
        inside = (self.trend >= 0) == upper
        return Question(self.size[inside], self.events[inside], self.expected[inside])

    @property
    def _weights(self) -> Float64[ndarray, "moment stratum"]:
        """One, and the trend where there is one."""
        plain = np.ones(len(self.size))
        return np.stack([plain] if self.trend is None else [plain, self.trend])

    def share(self) -> Float64[ndarray, " stratum"]:
        """Events among the rows of each stratum."""
        size = self.size.sum(axis=1)
        return np.divide(self.events.sum(axis=1), size, out=np.zeros_like(size), where=size > 0)

    def excess(self) -> Float64[ndarray, "moment cell"]:
        """Events of each cell less what is expected, then the same weighted by the trend."""
        left, size = self.events - self.expected, self.size.sum(axis=1)
        shift = np.divide(left.sum(axis=1), size, out=np.zeros_like(size), where=size > 0)
        return np.asarray(self._weights @ (left - self.size * shift[:, None]))

    def standardised(
        self, members: sparse.csr_array, excess: Float64[ndarray, "draw moment cell"]
    ) -> Float64[ndarray, "draw slice"]:
        """Excess of each slice, either way, over its standard deviation under permutation.

        With a trend: what is left of the weighted excess when as much as goes with the plain one is taken
        away, so that a risk that is too low everywhere is no finding about the trend.
        """
        draws, moments, width = excess.shape
        total = np.asarray(members.T @ excess.reshape(-1, width).T).T.reshape(draws, moments, -1)
        spread = self.covariance(members)
        value, variance = total[:, 0], spread[0, 0]
        if moments == 2:
            lean = spread[0, 1] / np.maximum(variance, 1e-12)
            value, variance = total[:, 1] - lean * value, spread[1, 1] - lean * spread[0, 1]
        return np.asarray(np.abs(value) / np.sqrt(np.maximum(variance, 1e-12)))

    def covariance(self, members: sparse.csr_array) -> Float64[ndarray, "moment moment slice"]:
        """Of the excess of a slice and the weighted one, hypergeometric in each stratum."""
        everybody, share = self.size.sum(axis=1), self.share()
        own = np.asarray(members.T @ self.size.T).T
        spread = share * (1 - share) / np.maximum(everybody - 1, 1)
        each = own * (everybody[:, None] - own) * spread[:, None]
        return np.einsum("as,bs,sk->abk", self._weights, self._weights, each)

    def draw(self, draws: int, generator: np.random.Generator) -> Float64[ndarray, "draw moment cell"]:
        """Excess of each cell where the events of each stratum fall on anybody in it."""
        weights = self._weights
        found = np.zeros((draws, len(weights), self.size.shape[1]))
        for weight, size, events in zip(weights.T, self.size, self.events.sum(axis=1), strict=True):
            if 0 < events < size.sum():
                here = np.flatnonzero(size)
                counts = size[here].astype(np.int64)
                drawn = generator.multivariate_hypergeometric(counts, int(events), draws, method="marginals")
                found[:, :, here] += weight[:, None] * (drawn - events * counts / counts.sum())[:, None]
        return found


def cells_of(rows: Rows, depth: int) -> Cells:
    """The joint table of the attributes, and every slice of up to ``depth`` of them.

    Raises:
        ValueError: more than 20,000 combinations that somebody is in.
    """
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
    return Cells(cell.astype(np.int64), members, tuple(names))


def questions_of(rows: Rows, cells: Cells, threshold: float) -> dict[str, Question]:
    """Every question, by its name; ``steepness`` last."""
    flagged, positive = rows.decision(threshold), rows.label == 1
    strata = risk_strata(rows)
    at_equal_risk = _of_strata(cells, strata.stratum, strata.count, positive, strata.expected)
    return {
        "missed": _of_group(cells, positive, ~flagged),
        "false_alarm": _of_group(cells, ~positive, flagged),
        "outcome_at_equal_risk": at_equal_risk,
        "steepness": replace(at_equal_risk, trend=np.linspace(-1.0, 1.0, strata.count)),
    }


def _of_group(cells: Cells, members: ndarray, event: ndarray) -> Question:
    count = cells.members.shape[0]
    size = np.bincount(cells.cell[members], minlength=count).astype(float)
    events = np.bincount(cells.cell[members & event], minlength=count).astype(float)
    return Question(size[None], events[None], np.zeros((1, count)))


def _of_strata(cells: Cells, stratum: ndarray, count: int, event: ndarray, expected: ndarray) -> Question:
    width = cells.members.shape[0]
    wide = stratum * width + cells.cell

    def table(place: ndarray, weights: ndarray | None = None) -> ndarray:
        found = np.bincount(place, weights, minlength=count * width)
        return found.astype(float).reshape(count, width)

    return Question(table(wide), table(wide[event]), table(wide, expected))


def able(question: Question, cells: Cells) -> Int[ndarray, " slice"]:
    """Slices with enough to see anything.

    Five events and five others expected, and for a trend ten rows in both halves.
    """
    if not cells.names:
        return np.zeros(0, dtype=np.int64)
    own = np.asarray(cells.members.T @ question.size.T).T
    expected, rows = question.share() @ own, own.sum(axis=0)
    enough = (np.minimum(expected, rows - expected) >= _FEWEST_EXPECTED) & (rows < question.size.sum())
    if question.trend is not None:
        upper = own[question.trend >= 0].sum(axis=0)
        enough &= np.minimum(upper, rows - upper) >= _FEWEST_ROWS_A_HALF
    return np.flatnonzero(enough)
