"""Which sources a patient has, and what it costs when one is not there, as the evaluation measured it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clinimm.report.facts import RunFacts
from clinimm.report.subject import SubjectFacts
from clinimm.report.words import plural

#: Modality -> what its items are called; others have entries.
_NOUNS = {"radiology": "image", "pathology": "slide", "notes": "note"}


@dataclass(frozen=True)
class Source:
    """One modality of the model.

    Attributes:
        title: for people.
        present: whether this patient has it.
        amount: how much of it the answer rests on, in words; empty where unknown.
        without: the model's row of ``metrics.json`` when everybody lacks this one; None where that
            was not measured.
    """

    title: str
    present: bool
    amount: str
    without: Mapping[str, Any] | None

    @property
    def cost(self) -> Mapping[str, Any] | None:
        """What the model loses without it: ``difference, low, high, n``; None where not measured."""
        return None if self.without is None else self.without.get("full_less_subset")


def sources_of(facts: RunFacts, subject: SubjectFacts) -> list[Source]:
    """Every modality of the model, in the table's order."""
    return [
        Source(
            facts.title(name),
            name in subject.present,
            _amount(subject, name) if name in subject.present else "",
            facts.subset(tuple(other for other in facts.modalities if other != name)),
        )
        for name in facts.modalities
    ]


def _amount(subject: SubjectFacts, name: str) -> str:
    known = subject.attributions
    rows = known[known["modality"] == name] if len(known) else known
    if not len(rows):
        return ""
    items = int(rows["digest"].nunique())
    return plural(items, _NOUNS.get(name, "item")) if items else plural(len(rows), "entry", "entries")
