from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinimm.cohort.duration import format_bound, parse_bound, parse_duration


@pytest.mark.parametrize(
    ("text", "days"),
    [("30 d", 30), ("-30d", -30), ("24 h", 1), ("2 w", 14), ("1 y", 365.25), ("1.5 d", 1.5), (0, 0)],
)
def test_reads_number_and_unit(text: str | int, days: float) -> None:
    assert parse_duration(text) == timedelta(days=days)


@pytest.mark.parametrize("text", ["30", 30, "3 months", "d", "", None, True, "1e9 d", "999 y"])
def test_refuses_what_has_no_clear_length(text: object) -> None:
    with pytest.raises(ValueError, match=r"unit|200 years"):
        parse_duration(text)


def test_a_very_long_number_is_refused_and_does_not_overflow() -> None:
    with pytest.raises(ValueError, match="200 years"):
        parse_duration("9" * 400 + " y")


def test_ever_has_no_limit() -> None:
    assert parse_bound("ever") is None
    assert format_bound(None) == "ever"


@given(st.timedeltas(min_value=timedelta(days=-70000), max_value=timedelta(days=70000)))
def test_what_is_written_reads_back(duration: timedelta) -> None:
    assert parse_bound(format_bound(duration)) == duration
