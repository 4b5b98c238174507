from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinimm.core.fact import Fact, FactRows, fact_of, row_of

_FACT = Fact(
    patient=("1.2", "MRN1"),
    time=datetime(2020, 5, 1, 12, 30, 1, 250000, tzinfo=UTC),
    code="LOINC//8867-4",
    modality="ehr",
    category="vital-signs",
    numeric_value=71.0,
    unit="/min",
    flags=("b", "a"),
    attributes={"view": "PA"},
    instance="Observation/1",
)


@settings(deadline=None, max_examples=60)
@given(
    st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1)),
    st.one_of(st.just("Patient/7"), st.tuples(st.none() | st.text(), st.text(min_size=1))),
)
def test_a_fact_survives_the_way_through_a_row(time: datetime, patient: str | tuple[str | None, str]) -> None:
    fact = replace(_FACT, time=time.replace(tzinfo=UTC), patient=patient, flags=("a", "b"))
    assert fact_of(row_of(fact, 3)) == fact


def test_rows_look_like_a_sequence_of_facts() -> None:
    rows = FactRows([row_of(_FACT, 0), row_of(replace(_FACT, code="X//1"), 1)])
    assert len(rows) == 2
    assert [fact.code for fact in rows] == ["LOINC//8867-4", "X//1"]
    assert rows[1:][0].code == "X//1"
    assert rows[0].flags == ("a", "b")


def test_a_time_without_zone_is_an_error() -> None:
    with pytest.raises(ValueError, match="time zone"):
        row_of(replace(_FACT, time=datetime(2020, 1, 1) + timedelta(hours=1)), 0)
