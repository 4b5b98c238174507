"""The nearest training patients as a page lists them: by pseudonym, with their outcome, counted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from clinimm.report.facts import RunFacts
from clinimm.report.subject import SubjectFacts

#: Seen through one source, this share of the closest pairs of training patients is called alike.
ALIKE = 0.05


@dataclass(frozen=True)
class Likeness:
    """How alike two patients are, seen through one source.

    Attributes:
        title: the source.
        closer_than: share of pairs of training patients that lie further apart; None where one lacks it.
    """

    title: str
    closer_than: float | None

    @property
    def alike(self) -> bool:
        """Whether this source is one by which they are alike."""
        return self.closer_than is not None and self.closer_than >= 1 - ALIKE


@dataclass(frozen=True)
class Case:
    """A training patient.

    Attributes:
        subject_id: the pseudonym.
        distance: in the fused representation, standard deviations.
        closer_than: share of pairs of training patients that lie further apart.
        had_it: the outcome; None where it was not known at the time of this patient's question.
        sources: this patient's sources, the most alike first.
    """

    subject_id: str
    distance: float
    closer_than: float
    had_it: bool | None
    sources: tuple[Likeness, ...]


@dataclass(frozen=True)
class Cases:
    """The cases of one page.

    Attributes:
        rows: nearest first.
        alike: the share of pairs that counts as alike by a source, for the page's words.
    """

    rows: tuple[Case, ...]
    alike: float = ALIKE

    @property
    def known(self) -> int:
        """Of how many the outcome was known."""
        return sum(case.had_it is not None for case in self.rows)

    @property
    def positives(self) -> int:
        """How many of these had it."""
        return sum(case.had_it is True for case in self.rows)


def kept_cases(facts: RunFacts) -> pd.DataFrame | None:
    """``explain/nearest.parquet`` where the run was asked for cases, else None."""

    def load() -> pd.DataFrame | None:
        path = facts.root / "explain" / "nearest.parquet"
        asked = facts.workspace.config.explain.nearest_cases and path.is_file()
        return pd.read_parquet(path) if asked else None

    return facts.remember("nearest cases", load)


def cases_of(facts: RunFacts, subject: SubjectFacts, table: pd.DataFrame | None) -> Cases | None:
    """The cases of a subject's page, nearest first; None where nobody asked.

    Args:
        facts: the run.
        subject: whose page; rows about another model or class are left out.
        table: with the columns of ``nearest.parquet``.
    """
    if table is None:
        return None
    named = ("subject_id", "class_name", "model_digest")
    same = table[(table[list(named)] == [subject.prediction[name] for name in named]).all(axis=1)]
    rows = same.sort_values("rank").to_dict("records")
    return Cases(tuple(_case(facts, subject.present, row) for row in rows))


def _case(facts: RunFacts, present: Sequence[str], row: Mapping[Any, Any]) -> Case:
    known = json.loads(row["sources"])
    found = [Likeness(facts.title(one), 1 - known[one] if one in known else None) for one in present]
    found.sort(key=lambda one: (one.closer_than is None, -(one.closer_than or 0.0), one.title))
    outcome = None if pd.isna(row["outcome"]) else bool(row["outcome"])
    return Case(
        str(row["case_id"]), float(row["distance"]), 1 - float(row["percentile"]), outcome, tuple(found)
    )
