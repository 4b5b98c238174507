"""FHIR dates and times as microseconds, in favour of the law of time.

A date without a time of day (``2020-05``, ``2020-05-15``) says that something became available
some time in that period; the last moment of the period is the only one at which it was surely
known. Source: FHIR R4, 2.24.0 data types ``date``, ``dateTime`` and ``instant``.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DATE = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?")

#: A moment, and the flag to set: None, ``date_only`` or ``no_zone``.
Moment = tuple[int, str | None]


class Clock:
    """Reads times, remembering those it has seen; files repeat them a lot.

    >>> Clock("UTC").read("1970-01-01T00:00:01+00:00")
    (1000000, None)
    """

    def __init__(self, timezone: str) -> None:
        self._zone = ZoneInfo(timezone)
        self._seen: dict[str, Moment | None] = {}

    def read(self, text: object) -> Moment | None:
        """A FHIR time; None where it is absent or not a time."""
        if not isinstance(text, str):
            return None
        try:
            return self._seen[text]
        except KeyError:
            found = self._seen[text] = self._parse(text)
            return found

    def latest(self, *texts: object) -> Moment | None:
        """The latest of several times, those that are absent left out."""
        found = [moment for moment in map(self.read, texts) if moment is not None]
        return max(found, key=lambda moment: moment[0]) if found else None

    def _parse(self, text: str) -> Moment | None:
        try:
            if len(text) <= len("2020-05-15"):
                return self._end_of(text)
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                return _microseconds(moment.replace(tzinfo=self._zone)), "no_zone"
            return _microseconds(moment), None
        except (ValueError, OverflowError):
            return None

    def _end_of(self, text: str) -> Moment | None:
        match = _DATE.fullmatch(text)
        if match is None:
            return None
        year, month, day = int(match[1]), int(match[2] or 0), int(match[3] or 0)
        if day:
            after = date(year, month, day) + timedelta(days=1)
        elif month:
            after = date(year + month // 12, month % 12 + 1, 1)
        else:
            after = date(year + 1, 1, 1)
        midnight = datetime(after.year, after.month, after.day, tzinfo=self._zone)
        return _microseconds(midnight) - 1_000_000, "date_only"


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND
