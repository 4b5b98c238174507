from datetime import UTC, date, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinimm.ingest.demographics import age_years, coarse, demographics
from clinimm.ingest.people import Person

_WHEN = datetime(2012, 9, 10, 12, tzinfo=UTC)
_WHEN_US = int(_WHEN.timestamp() * 1e6)


def person(**fields: str | None) -> Person:
    base: dict[str, str | None] = dict.fromkeys(("birth_date", "sex", "race", "ethnicity", "race_source"))
    return Person(subject_id="S", identifiers=(), words=(), **(base | fields))


@pytest.mark.parametrize(
    ("birth_date", "age"),
    [
        ("1984-09-10", 28), ("1984-09-11", 27), ("1984", 28), ("1984-10", 27.9166), ("2012-03-10", 0.5037),
        (None, None), ("", None),
    ],
)  # fmt: skip
def test_age(birth_date: str | None, age: float | None) -> None:
    assert age_years(birth_date, _WHEN) == (None if age is None else pytest.approx(age, abs=1e-3))


@settings(deadline=None, max_examples=60)
@given(st.dates(date(1900, 1, 1), date(2012, 9, 10)))
def test_whole_years_agree_with_counting_birthdays(born: date) -> None:
    birthdays = sum((year, born.month, born.day) <= (2012, 9, 10) for year in range(born.year + 1, 2013))
    age = age_years(born.isoformat(), _WHEN)
    assert age is not None
    assert abs(age - birthdays) < 1
    if birthdays >= 3:
        assert age == birthdays


@pytest.mark.parametrize(
    ("age", "written"), [(0.58, 0.5), (2.99, 2.9), (3.7, 3), (45, 45), (90, 90), (104, 90)]
)
def test_ages_are_written_coarsely(age: float, written: float) -> None:
    assert coarse(age) == written


def test_events_stand_at_the_first_other_event() -> None:
    who = person(
        birth_date="1984-07-02", sex="male", race="Asian", ethnicity="Unknown", race_source="us-core text"
    )
    events = {event.code: event for event in demographics(who, _WHEN_US, None)}
    assert {event.time for event in events.values()} == {_WHEN}
    assert events["DEMOGRAPHIC//age_years"].numeric_value == 28
    assert events["DEMOGRAPHIC//sex"].text_value == "male"
    assert events["DEMOGRAPHIC//race"].attributes == '{"source": "us-core text"}'
    assert all("1984" not in str(event) for event in events.values())


def test_an_age_that_a_file_states_is_moved_to_the_first_event() -> None:
    later = _WHEN_US + int(5 * 365.25 * 86_400e6)
    (event,) = demographics(person(), _WHEN_US, (later, 60.0))
    assert event.numeric_value == 55


@pytest.mark.parametrize("birth_date", ["2013-01-01", "1850-01-01"])
def test_an_impossible_age_is_missing(birth_date: str) -> None:
    assert list(demographics(person(birth_date=birth_date), _WHEN_US, None)) == []
