"""One subject's attributions, ordered for a reader: by modality, by document, for and against."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from clinimm.core.event import AGE_YEARS
from clinimm.modalities.radiology.explain import frame_of
from clinimm.report.codes import spoken
from clinimm.report.notes import Note, marked_spans, quoted_spans
from clinimm.report.values import attributes_of, clipped, exact_text, flag_of, range_text, value_text
from clinimm.report.words import before, date

#: Rows a table of facts shows on each side.
_ROWS = 8
_TILES = 4
#: Smaller contributions than this share of the largest are left out of tables.
_SMALLEST_SHARE = 0.01


@dataclass(frozen=True)
class Fact:
    """A record row as a clinician reads it.

    Attributes:
        what, value, reference, when: words; empty where the record has none.
        flag: ``high``, ``low`` or empty, against the record's own reference range.
        score: contribution in logits.
        hours: before the index time.
        modality: whose map it belongs to, and whose standing it shares.
        date: day and minute; empty for what has none.
    """

    what: str
    value: str
    reference: str
    when: str
    flag: str
    score: float
    hours: float
    modality: str
    date: str = ""


@dataclass(frozen=True)
class Picture:
    """A film or slide whose regions have scores.

    Attributes:
        boxes: ``(left, top, right, bottom)`` in original pixels, and score.
        event: the row of ``events.parquet`` behind it, or None.
        frame: which frame of the file the boxes lie on, from 0; None where the explanation does not say.
        blurred: whether they lie on several frames that nothing tells apart.
    """

    digest: str
    modality: str
    kind: str
    when: str
    total: float
    boxes: tuple[tuple[tuple[float, ...], float], ...]
    event: Mapping[str, Any] | None
    date: str = ""
    frame: int | None = None
    blurred: bool = False

    @property
    def strongest(self) -> tuple[tuple[tuple[float, ...], float], ...]:
        """The boxes with the largest contributions of each sign, strongest first."""
        ordered = sorted(self.boxes, key=lambda item: -abs(item[1]))
        sides = [[item for item in ordered if (item[1] < 0) == against] for against in (False, True)]
        return tuple(sorted(sides[0][:_TILES] + sides[1][:_TILES], key=lambda item: -abs(item[1])))


@dataclass(frozen=True)
class Evidence:
    """All that one subject's page shows of its attributions."""

    pictures: tuple[Picture, ...]
    notes: tuple[Note, ...]
    facts: tuple[Fact, ...]
    others: tuple[Fact, ...]

    @property
    def facts_for(self) -> list[Fact]:
        """Record rows that raise the probability, strongest first."""
        return _side(self.facts, 1)

    @property
    def facts_against(self) -> list[Fact]:
        """Record rows that lower the probability, strongest first."""
        return _side(self.facts, -1)


def gather(attributions: pd.DataFrame, events: pd.DataFrame) -> Evidence:
    """Group one subject's rows of ``attributions.parquet``.

    Args:
        attributions: rows of one subject and class.
        events: that subject's rows of ``events.parquet``.
    """
    by_kind = {str(kind): rows for kind, rows in attributions.groupby("kind", sort=True)}
    empty = attributions.iloc[:0]
    boxed = pd.concat([by_kind.get("pixels", empty), by_kind.get("tile", empty)])
    known = {"pixels", "tile", "characters", "event"}
    others = attributions[~attributions["kind"].isin(known)]
    return Evidence(
        pictures=_pictures(boxed, events),
        notes=_notes(by_kind.get("characters", empty), events),
        facts=_facts(by_kind.get("event", empty), events),
        others=tuple(_plain(row) for row in _records(others)),
    )


def _pictures(rows: pd.DataFrame, events: pd.DataFrame) -> tuple[Picture, ...]:
    """A picture a file and frame; cells of several frames are never drawn over one of them."""
    found = []
    frames = rows["text"].astype(str).map(frame_of).astype("Int64")
    known = rows.assign(frame=frames).groupby(["digest", "kind", "modality", "frame"], dropna=False)
    for (digest, kind, modality, _), part in known:
        frame = part["frame"].iloc[0]
        boxes = tuple(
            (tuple(json.loads(box)), float(score))
            for box, score in zip(part["box"], part["score"], strict=True)
        )
        found.append(
            Picture(
                digest=str(digest),
                modality=str(modality),
                kind=str(kind),
                when=before(float(part["time_hours"].iloc[0])),
                total=float(part["score"].sum()),
                boxes=boxes,
                event=_event_of(events, str(digest)),
                date=_dated(part.iloc[0]),
                frame=None if pd.isna(frame) else int(frame),
                blurred=bool(pd.isna(frame) and part["box"].duplicated().any()),
            )
        )
    return tuple(sorted(found, key=lambda picture: -sum(abs(score) for _, score in picture.boxes)))


def _notes(rows: pd.DataFrame, events: pd.DataFrame) -> tuple[Note, ...]:
    found = []
    for (digest, modality), part in rows.groupby(["digest", "modality"], sort=True):
        event = _event_of(events, str(digest))
        text = None if event is None else event.get("text_value")
        readable = isinstance(text, str)
        found.append(
            Note(
                digest=str(digest),
                modality=str(modality),
                when=before(float(part["time_hours"].iloc[0])),
                title=spoken(str(event["code"]), attributes_of(event)) if event else "Note",
                total=float(part["score"].sum()),
                spans=marked_spans(str(text), part) if readable else quoted_spans(part),
                missing=None
                if readable
                else "The whole note is not in this run; its marked words are below.",
                date=_dated(part.iloc[0]),
            )
        )
    return tuple(sorted(found, key=lambda note: -abs(note.total)))


def _facts(rows: pd.DataFrame, events: pd.DataFrame) -> tuple[Fact, ...]:
    hours = (
        (rows["index_time"].iloc[0] - events["time"]).dt.total_seconds() / 3600
        if len(rows)
        else pd.Series([])
    )
    return tuple(_fact(row, events, hours) for row in _records(rows))


def _fact(row: Mapping[str, Any], events: pd.DataFrame, hours: pd.Series) -> Fact:
    """The row in the record's own words: the event of that time whose code the place names."""
    code = str(row["text"]).split(" = ")[0]
    same = events[(events["code"] == code) & ((hours - row["time_hours"]).abs() < 1 / 3600)]
    if same.empty:
        return _plain(row)
    _, stated, value = str(row["text"]).partition(" = ")
    alike = [event for event in _records(same) if exact_text(event) == value or not stated]
    event = alike[0] if alike else None
    if event is None:  # no row of the record says what the place says: its own words, and nothing beside them
        return _plain(row)
    attributes = attributes_of(event)
    low, high = attributes.get("reference_low"), attributes.get("reference_high")
    return Fact(
        what=spoken(code, attributes),
        value=value_text(event),
        reference=range_text(low, high),
        when="timeless" if code.startswith("DEMOGRAPHIC//") else before(float(row["time_hours"])),
        flag=flag_of(event.get("numeric_value"), low, high),
        score=float(row["score"]),
        hours=float(row["time_hours"]),
        modality=str(row["modality"]),
        date="" if code.startswith("DEMOGRAPHIC//") else _dated(row),
    )


def _plain(row: Mapping[str, Any]) -> Fact:
    what, _, value = str(row["text"]).partition(" = ")
    if what == AGE_YEARS:  # ages from 90 on are not told apart, and nothing here says which this is
        value = ""
    hours = float(row["time_hours"])
    score, modality = float(row["score"]), str(row["modality"])
    return Fact(spoken(what, {}), clipped(value), "", before(hours), "", score, hours, modality, _dated(row))


def _dated(row: Any) -> str:
    """Day and minute at which a place became known."""
    return date(row["index_time"] - pd.Timedelta(hours=float(row["time_hours"])))


def _side(facts: tuple[Fact, ...], sign: int) -> list[Fact]:
    largest = max((abs(fact.score) for fact in facts), default=0.0)
    same = [fact for fact in facts if fact.score * sign > _SMALLEST_SHARE * largest]
    return sorted(same, key=lambda fact: -abs(fact.score))[:_ROWS]


def _event_of(events: pd.DataFrame, digest: str) -> dict[str, Any] | None:
    same = events[events["digest"] == digest]
    return None if same.empty else _records(same)[0]


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]
