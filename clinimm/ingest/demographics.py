"""Sex, age, race and ethnicity as events, placed at the time of a subject's first other event.

The birth date itself is never written. An age is in whole years, below three years with one
decimal, and 90 means 90 or older (45 CFR 164.514(b)(2)(i)(C)).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

from clinimm.core.event import AGE_YEARS, ETHNICITY, RACE, SEX, Event
from clinimm.ingest.people import Person

DAYS_A_YEAR = 365.25
OLDEST_YEARS = 90
_IMPOSSIBLE_YEARS = 125
_INFANT_YEARS = 3
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def demographics(person: Person, first_us: int, stated: tuple[int, float] | None) -> Iterator[Event]:
    """The demographic events of one subject.

    Args:
        person: what its records say.
        first_us: time of its first other event, microseconds since 1970.
        stated: a time and the age at that time as a file states it, used where no birth date is.
    """
    when = _EPOCH + timedelta(microseconds=first_us)
    if person.sex is not None:
        yield _event(person, when, SEX, text=person.sex)
    age = age_years(person.birth_date, when)
    if age is None and stated is not None:
        age = stated[1] + (first_us - stated[0]) / 86_400_000_000 / DAYS_A_YEAR
    if age is not None and 0 <= age <= _IMPOSSIBLE_YEARS:
        yield _event(person, when, AGE_YEARS, number=coarse(age))
    if person.race is not None:
        source = json.dumps({"source": person.race_source}) if person.race_source else None
        yield _event(person, when, RACE, text=person.race, attributes=source)
    if person.ethnicity is not None:
        yield _event(person, when, ETHNICITY, text=person.ethnicity)


def age_years(birth_date: str | None, when: datetime) -> float | None:
    """Age at ``when`` from an ISO date, a month or a year; None where there is none.

    A date gives the exact age. Of a year alone, and of a month, only the difference is known.

    >>> age_years("1984", datetime(2012, 9, 10, tzinfo=UTC))
    28.0
    """
    if not birth_date:
        return None
    parts = [int(part) for part in birth_date.split("-")]
    if len(parts) == 1:
        return float(when.year - parts[0])
    if len(parts) == 2:
        return float((when.year - parts[0]) * 12 + when.month - parts[1]) / 12
    born = date(*parts)
    whole = when.year - born.year - ((when.month, when.day) < (born.month, born.day))
    if whole >= _INFANT_YEARS or when.date() < born:
        return float(whole)
    return (when.date() - born).days / DAYS_A_YEAR


def coarse(age: float) -> float:
    """An age as it may be written."""
    if age >= OLDEST_YEARS:
        return float(OLDEST_YEARS)
    return math.floor(age * 10) / 10 if age < _INFANT_YEARS else float(math.floor(age))


def _event(
    person: Person,
    when: datetime,
    code: str,
    number: float | None = None,
    text: str | None = None,
    attributes: str | None = None,
) -> Event:
    return Event(
        subject_id=person.subject_id,
        time=when,
        code=code,
        numeric_value=number,
        unit="a" if number is not None else None,
        text_value=text,
        modality="ehr",
        category="demographic",
        attributes=attributes,
    )
