"""Slice discovery: is anybody served worse whom nobody thought of naming?

Every combination of up to three attribute levels is looked at, for four questions: is the outcome
missed more (or less) often, are false alarms, does the outcome come more or less often than for
others *at the same predicted risk*, and does it rise with that risk less or more steeply than for
others, so that risks are too extreme or too timid? Looking at thousands of slices finds something in
pure noise. So the largest standardised excess is held against its law under permutation: what happened
is permuted within people who should be alike (the positives; the negatives; a stratum of predicted
risk), and each time the largest excess over all slices is kept (max-T, Westfall and Young 1993). A
slice is named where it exceeds that law; the chance of naming anything where nothing is there is at
most alpha, over all slices and questions together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy import ndarray
from scipy import sparse
from scipy.stats import norm

from clinimm.audit.detect.questions import Cells, Question, able, cells_of, questions_of
from clinimm.audit.engine.intervals import clopper_pearson, mover_difference
from clinimm.audit.engine.rows import Coded, Rows

#: Question -> what happens, and to whom.
TARGETS: Mapping[str, tuple[str, str]] = {
    "missed": ("missed", "positives"),
    "false_alarm": ("falsely alarmed", "negatives"),
    "outcome_at_equal_risk": ("with the outcome", "rows"),
    "steepness": ("with the outcome", "rows"),
}


@dataclass(frozen=True)
class Slice:
    """One combination of levels that differs from everybody alike.

    Attributes:
        target: the question, a key of ``TARGETS``.
        attributes, levels: who they are.
        n: rows that the question is about (positives of the slice, ...).
        events: to how many of them it happened.
        rate: their share. For steepness: their share in the upper half of predicted risk less that in the
            lower half.
        expected: the same among people alike: all positives, all negatives, all at the same risk.
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
        if self.target == "steepness":
            too = "extreme" if self.rate < self.expected else "timid"
            return (
                f"{self.name}: predicted risks are too {too}. From the lower to the upper half of predicted "
                f"risk the outcome rises by {self.rate:.3f} ({self.n:,} {whom}), for everybody at the same "
                f"predicted risk by {self.expected:.3f}; excess {self.rate - self.expected:+.3f} "
                f"({self.low:+.3f} to {self.high:+.3f}); over the whole range of risk p {self.p:.3f}."
            )
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

    Where subjects have several rows, one of each is drawn: rows of one subject cannot be permuted. Whose
    outcome differs at the same risk is not asked for steepness too.

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
    cells = cells_of(rows, depth)
    questions = questions_of(rows, cells, threshold)
    found: list[Slice] = []
    searched, smallest = 0, 1.0
    shifted = np.zeros(cells.members.shape[0], dtype=bool)
    for place, (target, asked) in enumerate(questions.items()):
        question = asked if asked.trend is None else asked.without(shifted)
        large = able(question, cells)
        searched += len(large)
        if len(large) == 0:
            continue
        members = sparse.csr_array(cells.members[:, large])
        generator = np.random.default_rng([seed, 5, place])
        largest = np.sort(question.standardised(members, question.draw(draws, generator)).max(axis=1))
        z = question.standardised(members, question.excess()[None])[0]
        above = draws - np.searchsorted(largest, z - 1e-9)
        p = np.minimum(1.0, len(TARGETS) * (1 + above) / (1 + draws))
        smallest = min(smallest, float(p.min()))
        critical = float(np.quantile(largest, 1 - alpha / len(TARGETS), method="higher"))
        kept = _distinct(question, members, np.flatnonzero(p <= alpha), z, critical)
        if target == "outcome_at_equal_risk":
            shifted = np.asarray(members[:, kept].sum(axis=1)) > 0
        found += [
            _slice(target, question, cells, int(large[one]), (float(z[one]), float(p[one])), critical)
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


def _distinct(
    question: Question, members: sparse.csr_array, candidates: ndarray, z: ndarray, critical: float
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
    target: str, question: Question, cells: Cells, place: int, z_and_p: tuple[float, float], critical: float
) -> Slice:
    member = sparse.csr_array(cells.members[:, [place]])
    level = float(1 - 2 * norm.sf(critical))
    if question.trend is None:
        told = _told(question, member, level)
        rate, expected, low, high = told.rate, told.expected, told.low, told.high
    else:
        upper, lower = (_told(question.half(side), member, level) for side in (True, False))
        rate, expected = upper.rate - lower.rate, upper.expected - lower.expected
        low, high = (float(end) for end in mover_difference(upper.interval, lower.interval))
    attributes, levels = cells.names[place]
    inside = member.toarray()[:, 0] > 0
    n, events = question.size[:, inside].sum(), question.events[:, inside].sum()
    return Slice(
        target,
        attributes,
        levels,
        round(float(n)),
        round(float(events)),
        rate,
        expected,
        low - expected,
        high - expected,
        *z_and_p,
    )


class _Told(NamedTuple):
    """Share of a slice with the event, its interval, and the share among people alike."""

    rate: float
    expected: float
    low: float
    high: float

    @property
    def interval(self) -> tuple[ndarray, ndarray, ndarray]:
        """Share and ends."""
        return np.asarray(self.rate), np.asarray(self.low), np.asarray(self.high)


def _told(question: Question, member: sparse.csr_array, level: float) -> _Told:
    inside = member.toarray()[:, 0] > 0
    n, events = float(question.size[:, inside].sum()), float(question.events[:, inside].sum())
    expected = (events - float(question.excess()[0, inside].sum())) / n
    # The permutation's own variance beside that of a coin: people at one risk differ less than the slice.
    variance = float(question.covariance(member)[0, 0, 0])
    effect = variance / max(n * expected * (1 - expected), 1e-12) if variance > 0 else 1.0
    low, high = clopper_pearson(np.array([events / effect]), np.array([n / effect]), level)
    return _Told(events / n, expected, float(low[0]), float(high[0]))
