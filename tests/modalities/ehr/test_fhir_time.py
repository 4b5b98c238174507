from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinimm.modalities.ehr.fhir_time import Clock

_ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@settings(deadline=None, max_examples=60)
@given(st.datetimes(datetime(1850, 1, 1), datetime(2190, 1, 1), timezones=_ZONES))
def test_an_instant_is_read_to_the_microsecond(moment: datetime) -> None:
    expected = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert Clock("UTC").read(moment.isoformat()) == (expected, None)


@pytest.mark.parametrize(
    ("text", "last_moment"),
    [
        ("2020-05-15", "2020-05-15T23:59:59Z"),
        ("2020-02", "2020-02-29T23:59:59Z"),
        ("2020-12", "2020-12-31T23:59:59Z"),
        ("2020", "2020-12-31T23:59:59Z"),
    ],
)
def test_a_date_is_known_at_its_last_moment(text: str, last_moment: str) -> None:
    clock = Clock("UTC")
    moment = clock.read(text)
    assert moment is not None
    assert moment == (clock.read(last_moment)[0], "date_only")  # type: ignore[index]


def test_a_zone_that_is_not_stated_is_the_rules_zone() -> None:
    clock = Clock("America/New_York")
    assert clock.read("2020-01-01T00:00:00") == (clock.read("2020-01-01T05:00:00Z")[0], "no_zone")  # type: ignore[index]


@pytest.mark.parametrize(
    "text", ["", "yesterday", "1984-13-45", "2020-1-1", "20200101", 20200101, None, [], "9999"]
)
def test_what_is_no_time_is_none(text: object) -> None:
    assert Clock("UTC").read(text) is None


def test_the_latest_counts() -> None:
    clock = Clock("UTC")
    assert clock.latest("2020-01-01T00:00:00Z", None, "2019-01-01T00:00:00Z") == clock.read(
        "2020-01-01T00:00:00Z"
    )
    assert clock.latest(None, "x") is None
