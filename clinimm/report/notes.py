"""A note with its marked passages; a long one is shortened around them, and says by how much."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import pandas as pd
from markupsafe import escape

from clinimm.report.page import visible

#: Passages that a note has marked.
_MARKS = 10
#: What all notes of a page may weigh together, bytes of HTML text.
_MOST_BYTES = 300_000
#: How much of a stretch is kept at each of its ends, characters, from the roomiest down.
_ENDS = (20_000, 5_000, 2_000, 1_000, 500, 200, 100, 40)
#: A marked passage of at most twice this is never shortened before all notes are as short as they can be
#: otherwise; the spans of the notes encoder have at most 400 characters.
_MARKED_END = 200


@dataclass(frozen=True)
class Span:
    """A piece of a note.

    Attributes:
        text: its words; where some are left out, those before the gap.
        score: contribution in logits; None where it is not marked.
        start: its first character's place in the note.
        left_out: how many of its characters are left out.
        tail: its words after the gap.
    """

    text: str
    score: float | None
    start: int = 0
    left_out: int = 0
    tail: str = ""

    @property
    def stop(self) -> int:
        """The place after its last character, left out or not."""
        return self.start + len(self.text) + self.left_out + len(self.tail)


@dataclass(frozen=True)
class Note:
    """A note with its marked spans.

    Attributes:
        spans: joined they give the whole text, but for what they leave out.
        modality: whose map it is.
        missing: why the whole text is not here; None where it is.
    """

    digest: str
    modality: str
    when: str
    title: str
    total: float
    spans: tuple[Span, ...]
    missing: str | None
    date: str = ""

    @property
    def quotes(self) -> list[Span]:
        """The marked pieces, strongest first."""
        return sorted(
            (span for span in self.spans if span.score is not None), key=lambda one: -abs(one.score or 0)
        )

    @property
    def left_out(self) -> int:
        """Characters of the note that are not on the page."""
        return sum(span.left_out for span in self.spans)

    @property
    def length(self) -> int:
        """Characters of the whole note."""
        return max((span.stop for span in self.spans), default=0)

    @property
    def weight(self) -> int:
        """Bytes of its words on a page, where marked ones stand twice."""
        return sum(_bytes(span) * (1 if span.score is None else 2) for span in self.spans)

    @property
    def unmarked(self) -> Note:
        """The same note as if nothing had been explained; empty where only its marked words are here."""
        if self.missing:
            return replace(self, spans=(), missing="The whole note is not in this run.")
        return replace(self, spans=(Span("".join(span.text for span in self.spans), None),))

    def shortened(self, end: int) -> Note:
        """The same note, each unmarked stretch cut down to ``end`` characters at either end.

        No marked passage is left out; one of more than 400 characters is cut in its middle.
        """
        marked = min(end, _MARKED_END)
        return replace(
            self, spans=tuple(_cut(span, end if span.score is None else marked) for span in self.spans)
        )


def fitted(notes: Sequence[Note], most: int = _MOST_BYTES) -> tuple[Note, ...]:
    """The notes, shortened alike until they weigh at most ``most`` bytes or cannot be any shorter."""
    found = tuple(notes)
    for end in _ENDS:
        if sum(note.weight for note in found) <= most:
            break
        found = tuple(note.shortened(end) for note in notes)
    return found


def readable(notes: Sequence[Note], hidden: Collection[str]) -> tuple[Note, ...]:
    """The notes as a page may show them: where a map is hidden, neither marks nor order tell of it.

    Args:
        notes: largest contribution first.
        hidden: modalities whose map is hidden; ``all`` hides no note by itself.
    """
    kept = [note for note in notes if note.modality not in hidden]
    plain = [note.unmarked for note in notes if note.modality in hidden]
    return (*kept, *sorted(plain, key=lambda note: note.date, reverse=True))


def marked_spans(text: str, rows: pd.DataFrame) -> tuple[Span, ...]:
    """The text cut where the most important places start and stop; overlaps go to the stronger.

    Args:
        text: the whole note.
        rows: its rows of ``attributions.parquet``.
    """
    taken: list[tuple[int, int, float]] = []
    strongest = _strongest(rows)
    for box, score in zip(strongest["box"], strongest["score"], strict=True):
        start, stop = (int(edge) for edge in json.loads(box))
        inside = 0 <= start < stop <= len(text)
        if inside and len(taken) < _MARKS and all(stop <= a or start >= b for a, b, _ in taken):
            taken.append((start, stop, float(score)))
    spans, at = [], 0
    for start, stop, score in sorted(taken):
        spans += [Span(text[at:start], None, at), Span(text[start:stop], score, start)]
        at = stop
    return tuple(span for span in [*spans, Span(text[at:], None, at)] if span.text)


def quoted_spans(rows: pd.DataFrame) -> tuple[Span, ...]:
    """The strongest places in the explanation's own words, of a note that is not here."""
    strongest = _strongest(rows)[:_MARKS]
    spans = []
    for text, score, box in zip(strongest["text"], strongest["score"], strongest["box"], strict=True):
        start = int((json.loads(box) or [0])[0])
        spans += [Span(str(text), float(score), start), Span(" … ", None)]
    return tuple(spans)


def _strongest(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.reindex(rows["score"].abs().sort_values(ascending=False, kind="stable").index)


def _cut(span: Span, end: int) -> Span:
    """The span without its middle, cut between words where there are some."""
    if len(span.text) <= 2 * end:
        return span
    head, tail = span.text[:end], span.text[-end:]
    head = head[: head.rfind(" ") + 1] or head
    tail = tail[max(tail.find(" "), 0) :]
    return replace(span, text=head, left_out=len(span.text) - len(head) - len(tail), tail=tail)


def _bytes(span: Span) -> int:
    return len(str(escape(visible(span.text + span.tail))).encode("utf-8"))
