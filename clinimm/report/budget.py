"""One budget: how the answer's logit is put together, part by part, with what is left over."""

from __future__ import annotations

import math
from dataclasses import dataclass

from clinimm.report.facts import RunFacts
from clinimm.report.subject import SubjectFacts


@dataclass(frozen=True)
class BudgetRow:
    """One source's part.

    Attributes:
        title: for people.
        parts: how many pixels' cells, tiles, passages or entries it is the sum of; 0 where absent.
        score: sum of its parts, counted from uninformative input; None where it has none.
        presence: its Shapley value, counted from no source at all; None where not computed.
    """

    title: str
    parts: int
    score: float | None
    presence: float | None


@dataclass(frozen=True)
class Budget:
    """Two ways to put the same logit together; each column sums to ``logit``.

    A residual is what a column's parts leave over: ``logit`` less its start and its parts. The starts are
    logits that the model gave, so a residual can be wrong, and says so.

    Attributes:
        rows: the sources.
        start: logit of uninformative input.
        residual: what the parts leave over.
        presence_start: logit without any source; None where not computed, as in runs of earlier versions.
        presence_residual: what the values of ``presence`` leave over; None as above.
        logit: the answer's.
        pairs: two titles and their interaction, strongest first.
    """

    rows: tuple[BudgetRow, ...]
    start: float
    residual: float
    presence_start: float | None
    presence_residual: float | None
    logit: float
    pairs: tuple[tuple[str, str, float], ...]

    @property
    def steps(self) -> list[tuple[str, float]]:
        """What leads from ``start`` to ``logit``, the residual last."""
        known = [(row.title, row.score) for row in self.rows if row.score is not None]
        return [*known, ("Residual", self.residual)]


def budget_of(facts: RunFacts, subject: SubjectFacts) -> Budget | None:
    """The budget of an explained subject, strongest source first; None without an explanation."""
    summary = subject.summary
    if summary is None:
        return None
    parts = subject.attributions.groupby("modality")["score"].agg(["sum", "size"])
    names = [name for name in facts.modalities if name in parts.index or name in subject.contributions]
    rows = [
        BudgetRow(
            facts.title(name),
            int(parts["size"].get(name, 0)),
            float(parts["sum"][name]) if name in parts.index else None,
            subject.contributions.get(name),
        )
        for name in names
    ]
    rows.sort(key=lambda row: -abs(row.score or 0.0))
    logit, start = float(summary["logit"]), float(summary["baseline_logit"])
    empty = float(summary.get("empty_logit", math.nan))
    presence_start = None if math.isnan(empty) or not subject.contributions else empty
    return Budget(
        rows=tuple(rows),
        start=start,
        residual=logit - start - sum(row.score for row in rows if row.score is not None),
        presence_start=presence_start,
        presence_residual=None
        if presence_start is None
        else logit - presence_start - sum(subject.contributions.values()),
        logit=logit,
        pairs=_pairs(facts, subject),
    )


def _pairs(facts: RunFacts, subject: SubjectFacts) -> tuple[tuple[str, str, float], ...]:
    found = [
        (facts.title(str(row["modality"])), facts.title(str(row["other"])), float(row["interaction"]))
        for row in subject.interactions.to_dict("records")
    ]
    return tuple(sorted(found, key=lambda pair: -abs(pair[2])))
