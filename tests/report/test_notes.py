from __future__ import annotations

import json
from dataclasses import replace
from html import escape

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinimm.report.notes import Note, Span, fitted, marked_spans, readable
from clinimm.report.page import visible


def _note(*spans: Span, modality: str = "notes", date: str = "") -> Note:
    return Note("d", modality, "now", "Note", 0.0, spans, None, date)


def _marked(text: str, *places: tuple[int, int, float]) -> Note:
    rows = pd.DataFrame([{"box": json.dumps([start, stop]), "score": score} for start, stop, score in places])
    return _note(*marked_spans(text, rows))


def _laid_out(note: Note) -> str:
    """The whole text, a question mark for each character that is left out."""
    return "".join(span.text + "?" * span.left_out + span.tail for span in note.spans)


@given(
    st.text(alphabet="ab \n<&é", max_size=400),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400), st.floats(-2, 2)), min_size=1, max_size=14),
    st.integers(1, 60),
)
def test_a_shortened_note_is_the_note_with_a_count_for_what_is_gone(
    text: str, places: list[tuple[int, int, float]], end: int
) -> None:
    whole = _marked(text, *places)
    short = whole.shortened(end)
    laid = _laid_out(short)
    assert len(laid) == len(text) and all(one in (two, "?") for one, two in zip(laid, text, strict=True))
    assert short.left_out == laid.count("?") and short.length == whole.length
    assert [(span.score, span.start, span.stop) for span in short.quotes] == [
        (span.score, span.start, span.stop) for span in whole.quotes
    ], "every marked passage is kept, in its place"


def test_marked_passages_of_the_notes_encoder_stay_whole_while_the_rest_gives_way() -> None:
    passage = "needs oxygen " * 30
    text = "x " * 400_000 + passage + "y " * 400_000
    (short,) = fitted([_marked(text, (800_000, 800_000 + len(passage), 0.5))])
    (quote,) = short.quotes
    assert quote.text == passage and quote.left_out == 0
    assert short.left_out > 1_500_000 and short.weight <= 300_000


def test_notes_that_fit_are_left_alone() -> None:
    notes = [_marked("some words", (0, 4, 0.5)), _marked("more words", (5, 10, -0.5))]
    assert fitted(notes) == tuple(notes)


@pytest.mark.parametrize("letter", ["a", "&", "\u202e", "€"])
def test_a_passage_longer_than_any_encoder_makes_is_cut_in_its_middle_and_kept(letter: str) -> None:
    """What a letter weighs is what it weighs as HTML: five bytes for an ampersand."""
    found = fitted([_marked(letter * 1_000_000, (0, 1_000_000, 1.0))])
    (quote,) = found[0].quotes
    assert quote.left_out == 1_000_000 - len(quote.text) - len(quote.tail) > 0
    shown = escape(visible(quote.text + quote.tail)).encode()
    assert found[0].weight == 2 * len(shown), "in the note and in the list of quotes"


def test_where_a_map_is_hidden_a_note_tells_nothing_of_it() -> None:
    """Neither by its marks, nor by where it is cut, nor by its place among the notes."""
    text = "a" * 10_000 + "secret" + "b" * 10_000
    strong = replace(_marked(text, (10_000, 10_006, 2.0)), date="2024-01-01")
    weak = replace(_marked("later words", (0, 5, 0.1)), date="2024-02-01")
    first, second = readable([strong, weak], {"notes"})
    assert (first.date, second.date) == ("2024-02-01", "2024-01-01"), "the latest first"
    assert first.quotes == second.quotes == []
    assert "secret" not in second.shortened(100).spans[0].text
    quoted = replace(strong, missing="The whole note is not in this run; its marked words are below.")
    (bare,) = readable([quoted], {"notes"})
    assert bare.spans == () and "marked" not in (bare.missing or "")
