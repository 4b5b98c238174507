from __future__ import annotations

import json

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from clinimm.core.event import AGE_YEARS
from clinimm.report.evidence import gather
from clinimm.report.notes import marked_spans

INDEX = pd.Timestamp("2024-01-01T00:00:00Z")


def _rows(*rows: dict) -> pd.DataFrame:
    default = {
        "index_time": INDEX,
        "digest": None,
        "box": "[]",
        "text": "",
        "time_hours": 0.0,
        "modality": "m",
    }
    return pd.DataFrame([default | row for row in rows])


def _events(*rows: dict) -> pd.DataFrame:
    columns = ["time", "code", "numeric_value", "unit", "text_value", "digest", "attributes", "uri"]
    table = pd.DataFrame([dict.fromkeys(columns) | {"time": INDEX} | row for row in rows], columns=columns)
    return table.astype({"time": "datetime64[us, UTC]"})


@given(
    st.text(max_size=60),
    st.lists(st.tuples(st.integers(0, 70), st.integers(0, 70), st.floats(-2, 2)), max_size=14),
)
def test_marks_never_change_the_text(text: str, places: list[tuple[int, int, float]]) -> None:
    rows = _rows(
        *({"box": json.dumps([a, b]), "score": score, "kind": "characters"} for a, b, score in places)
    )
    if places:
        assert "".join(span.text for span in marked_spans(text, rows)) == text


def test_of_two_values_at_one_time_the_attributed_one_is_shown() -> None:
    events = _events({"code": "A//1", "numeric_value": 1.5}, {"code": "A//1", "numeric_value": 2.5})
    found = gather(_rows({"kind": "event", "score": 1.0, "text": "A//1 = 2.5"}), events)
    assert found.facts[0].value == "2.5"


def test_an_event_that_the_run_no_longer_holds_is_shown_by_its_own_words() -> None:
    found = gather(_rows({"kind": "event", "score": 1.0, "text": "A//1 = 2.5 mg"}), _events())
    assert (found.facts[0].what, found.facts[0].value) == ("A 1", "2.5 mg")


def test_a_kind_of_an_outside_modality_still_gets_a_row() -> None:
    found = gather(_rows({"kind": "seconds", "score": -1.0, "text": "lead II, 3 to 4 s"}), _events())
    assert found.others[0].what == "lead II, 3 to 4 s"


def test_values_outside_the_records_own_range_are_flagged() -> None:
    ranges = json.dumps({"reference_low": 1, "reference_high": 2})
    for value, flag in ((0.5, "low"), (1.0, ""), (2.0, ""), (3.0, "high")):
        events = _events({"code": "A//1", "numeric_value": value, "attributes": ranges})
        rows = _rows({"kind": "event", "score": 1.0, "text": f"A//1 = {value:g}"})
        assert gather(rows, events).facts[0].flag == flag


def test_a_value_that_is_part_of_another_is_not_taken_for_it() -> None:
    events = _events({"code": "A//1", "numeric_value": 1.0, "unit": "mg/dL"})
    found = gather(_rows({"kind": "event", "score": 1.0, "text": "A//1 = 11 mg/dL"}), events)
    assert found.facts[0].value == "11 mg/dL"


def test_no_age_from_ninety_on_is_told_apart() -> None:
    row = {"kind": "event", "score": 1.0, "text": f"{AGE_YEARS} = 94"}
    assert (
        gather(_rows(row), _events({"code": AGE_YEARS, "numeric_value": 94.0})).facts[0].value
        == "90 or older"
    )
    assert "94" not in gather(_rows(row), _events()).facts[0].value


def test_facts_and_notes_know_whose_map_they_are() -> None:
    rows = _rows(
        {"kind": "event", "score": 1.0, "text": "A//1 = 2", "modality": "wearable"},
        {
            "kind": "characters",
            "score": 1.0,
            "text": "word",
            "digest": "d",
            "box": "[0, 4]",
            "modality": "letters",
        },
    )
    found = gather(rows, _events())
    assert (found.facts[0].modality, found.notes[0].modality) == ("wearable", "letters")
