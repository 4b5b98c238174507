"""Durations as a clinician writes them: ``30 d``, ``-24 h``, ``1 y``, ``ever``."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

#: Length of one unit. A year is the Julian year, 365.25 days (UCUM ``a_j``).
UNITS: dict[str, timedelta] = {
    "y": timedelta(days=365.25),
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "min": timedelta(minutes=1),
    "s": timedelta(seconds=1),
}
EVER = "ever"
_PATTERN = re.compile(r"\s*([+-]?\d+(?:\.\d+)?)\s*([a-zA-Z]+)\s*")
_LONGEST = timedelta(days=365.25 * 200)


def parse_duration(value: Any) -> timedelta:
    """A duration from text such as ``30 d``.

    >>> parse_duration("-1.5 h")
    datetime.timedelta(days=-1, seconds=81000)

    Raises:
        ValueError: it has no unit, an unknown one, or is longer than 200 years.
    """
    if isinstance(value, timedelta):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value == 0:
        return timedelta()
    found = _PATTERN.fullmatch(value) if isinstance(value, str) else None
    if not found or found[2] not in UNITS:
        raise ValueError(f"expected a number and a unit ({', '.join(UNITS)}), such as `30 d`")
    # Compared as a number: a timedelta of a very long duration overflows.
    if abs(float(found[1])) * UNITS[found[2]].total_seconds() > _LONGEST.total_seconds():
        raise ValueError(f"longer than 200 years; write `{EVER}` for no limit")
    return float(found[1]) * UNITS[found[2]]


def parse_bound(value: Any) -> timedelta | None:
    """A duration, or None for ``ever``: no limit on that side."""
    return None if value is None or value == EVER else parse_duration(value)


def format_bound(value: timedelta | None) -> str:
    """The text that ``parse_bound`` reads back.

    >>> format_bound(timedelta(hours=36))
    '36 h'
    """
    if value is None:
        return EVER
    for unit in ("d", "h", "min", "s"):
        if value % UNITS[unit] == timedelta():
            return f"{value // UNITS[unit]} {unit}"
    return f"{value.total_seconds():.6f} s"


Duration = Annotated[timedelta, BeforeValidator(parse_duration), PlainSerializer(format_bound)]
Bound = Annotated[timedelta | None, BeforeValidator(parse_bound), PlainSerializer(format_bound)]
