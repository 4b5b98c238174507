"""The worklist: one row a patient who has an answer, searched, filtered and sorted on the server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

from clinimm.serve.catalogue import ServedRun
from clinimm.serve.feedback import Feedback

PAGE_ROWS = 50
Share = Annotated[float | None, Field(ge=0, le=1)]
State = Literal["open", "impression", "agree", "object"]


class Question(BaseModel):
    """What somebody looks for.

    Every part may be absent; ``least`` and ``most`` bound the probability, ``since`` and ``until``
    the day of the index time (UTC, both included).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    search: str = Field("", max_length=64, description="Part of the pseudonym.")
    least: Share = Field(None, description="Smallest probability.")
    most: Share = Field(None, description="Largest probability.")
    site: str = Field("", max_length=200, description="Site.")
    since: date | None = Field(None, description="First day of the index time, UTC.")
    until: date | None = Field(None, description="Last day of the index time, UTC.")
    refusals: Literal["", "some", "none"] = Field("", description="Whether items were refused.")
    feedback: Literal["", "open", "impression", "agree", "object"] = Field("", description="State.")
    sort: Literal["probability", "-probability", "date", "-date", "patient"] = Field(
        "-probability", description="Order; a minus turns it round."
    )
    page: int = Field(1, ge=1, le=100_000, description="Which page of 50.")

    @model_validator(mode="before")
    @classmethod
    def _empty_is_absent(cls, value: Any) -> Any:
        """A form sends every field; an empty one says nothing."""
        return {key: one for key, one in value.items() if one != ""} if isinstance(value, dict) else value


@dataclass(frozen=True)
class Worklist:
    """One page of the list.

    Attributes:
        rows: the page's rows; ``probability`` is None where it must not be seen yet.
        found, total: how many patients fit the question, and how many there are.
        page, pages: which page, of how many.
        sites: every site there is, for the form.
    """

    rows: tuple[Mapping[str, Any], ...]
    found: int
    total: int
    page: int
    pages: int
    sites: tuple[str, ...]


def worklist(
    run: ServedRun,
    question: Question,
    feedback: Iterable[Feedback],
    hidden: frozenset[str] = frozenset(),
    sites: frozenset[str] | None = None,
) -> Worklist:
    """The rows that fit.

    Args:
        run: whose patients.
        question: what somebody looks for.
        feedback: the rows of the run's feedback.
        hidden: subjects whose answer this person must not see yet.
        sites: whose patients this person may see; None is everybody's.
    """
    table = patients(run, feedback)
    table = table[table["subject_id"].isin(run.subjects(sites))]
    everything, known_sites = len(table), tuple(sorted(set(table["site"]) - {""}))
    concealed = table["subject_id"].isin(hidden)
    # Before any filter and order: a hidden number fits no range and stands last, so neither tells it;
    # nor does the likeliest class, or whether somebody else objected.
    table = table.assign(
        probability=table["probability"].mask(concealed),
        class_name=table["class_name"].mask(concealed, ""),
        state=table["state"].mask(concealed, "open"),
    )
    table = _sorted(table[_fits(table, question)], question)
    pages = max(1, -(-len(table) // PAGE_ROWS))
    page = min(question.page, pages)
    shown = table.iloc[(page - 1) * PAGE_ROWS : page * PAGE_ROWS]
    rows = tuple(_row(row) for row in shown.to_dict("records"))
    return Worklist(rows, len(table), everything, page, pages, known_sites)


def patients(run: ServedRun, feedback: Iterable[Feedback]) -> pd.DataFrame:
    """Every patient who has an answer, with site, refusals and the state of the feedback."""
    table = run.answers.reset_index(drop=True)
    states, refused = feedback_states(feedback), refusals_of(run)
    subjects = table["subject_id"].astype(str)
    return pd.DataFrame(
        {
            "subject_id": subjects,
            "date": table["index_time"],
            "class_name": table["class_name"].astype(str),
            "probability": table["probability"].astype(float),
            "model_digest": table["model_digest"].astype(str),
            "modalities": table["modalities_present"].astype(str),
            "site": [run.sites.get(subject, "") for subject in subjects],
            "refusals": [refused.get(subject, 0) for subject in subjects],
            "state": [states.get(subject, "open") for subject in subjects],
        }
    )


def feedback_states(feedback: Iterable[Feedback]) -> dict[str, State]:
    """The last word on each subject: a verdict counts for more than an impression."""
    found: dict[str, State] = {}
    for row in feedback:
        if row.kind != "impression" or found.get(row.subject_id, "impression") == "impression":
            found[row.subject_id] = row.kind
    return found


def refusals_of(run: ServedRun) -> dict[str, int]:
    """Subject -> how many of its items the encode stage refused.

    What ingest refuses belongs to nobody yet: a file that cannot be read names no patient.
    """
    path = run.workspace.root / "encode" / "refusals.parquet"
    if not path.is_file():
        return {}
    refused = pd.read_parquet(path)
    if refused.empty:
        return {}
    events = pd.read_parquet(
        run.workspace.need("ingest", "events.parquet"), columns=["subject_id", "digest"]
    ).dropna()
    owners = events.drop_duplicates("digest").set_index("digest")["subject_id"]
    counts = refused["file"].map(owners).dropna().value_counts()
    return {str(subject): int(count) for subject, count in counts.items()}


def _fits(table: pd.DataFrame, question: Question) -> pd.Series:
    keep = pd.Series(True, index=table.index)
    if question.search:
        wanted = question.search.strip().casefold()
        keep &= table["subject_id"].str.casefold().str.contains(wanted, regex=False)
    if question.least is not None:
        keep &= table["probability"] >= question.least
    if question.most is not None:
        keep &= table["probability"] <= question.most
    if question.site:
        keep &= table["site"] == question.site
    days = table["date"].dt.date
    if question.since:
        keep &= days >= question.since
    if question.until:
        keep &= days <= question.until
    if question.refusals:
        keep &= (table["refusals"] > 0) == (question.refusals == "some")
    if question.feedback:
        keep &= table["state"] == question.feedback
    return keep


def _sorted(table: pd.DataFrame, question: Question) -> pd.DataFrame:
    column = {"patient": "subject_id"}.get(question.sort.lstrip("-"), question.sort.lstrip("-"))
    order = [column, *({"subject_id"} - {column})]
    rising = [not question.sort.startswith("-"), True][: len(order)]
    return table.sort_values(order, ascending=rising, kind="stable", na_position="last")


def _row(row: Mapping[Any, Any]) -> dict[str, Any]:
    known = {str(key): value for key, value in row.items()}
    chance = known["probability"]
    return {**known, "probability": None if pd.isna(chance) else float(chance)}
