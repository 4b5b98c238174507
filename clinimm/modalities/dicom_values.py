"""What DICOM headers say about a patient and about time, as CliniMM's own values."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from clinimm.core.errors import ConfigError, InputRejected
from clinimm.modalities.dicom_header import DicomHeader
from clinimm.modality import Identity

if TYPE_CHECKING:
    from clinimm.sources.base import SourceFile

PATIENT_ID, ISSUER = 0x00100020, 0x00100021
_NAMES = (0x00100010, 0x00101001, 0x00101005, 0x00101060)  # patient, other, birth, mother's birth name
_ADDRESSES = (0x00101040, 0x00102154)  # address, telephone numbers
_SEX = {"F": "female", "M": "male", "O": "other"}
_AGE = re.compile(r"(\d{1,4})([DWMY])")
_YEARS_PER = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}
OLDEST_YEARS = 130.0
_FIRST_YEAR, _LAST_YEAR = 1800, 2999
_DATE = re.compile(r"(\d{4})[.:-]?(\d{2})[.:-]?(\d{2})")
_TIME = re.compile(r"(\d{2}):?(\d{2})?:?(\d{2})?(?:\.(\d{1,6}))?")
_OFFSET = re.compile(r"([+-])(\d{2})(\d{2})")
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_CODE = re.compile(r"[A-Z0-9][A-Z0-9_ ]{0,15}")

#: Date and time elements of an image, in the order content, acquisition, series, study.
_STAMPS = (
    (0x00080023, 0x00080033),
    (0x00080022, 0x00080032),
    (0x00080021, 0x00080031),
    (0x00080020, 0x00080030),
)
_ACQUISITION_DATETIME = 0x0008002A
_OFFSET_FROM_UTC = 0x00080201


def zone_of(name: str) -> tzinfo:
    """The zone in which the scanners' clocks stand.

    Raises:
        ConfigError: the name is no IANA zone.
    """
    if name == "UTC":  # known even where the machine has no time zone database
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(
            f"ingest.timezone: {name!r} is no IANA zone; expected one such as Europe/Vienna."
        ) from error


def check_size(file: SourceFile, max_mib: int) -> None:
    """Refuse a file before it is read.

    Raises:
        InputRejected: ``empty-file`` or ``too-large``.
    """
    if file.size == 0:
        raise InputRejected("empty-file", "the file has no bytes", "ask the sender to transmit it again")
    if file.size > max_mib << 20:
        raise InputRejected(
            "too-large",
            f"the file has {file.size >> 20} MiB",
            f"raise ingest.max_file_mib above {max_mib}, or leave the file out",
        )


def identity(header: DicomHeader) -> Identity:
    """Who the patient is, by Patient ID (0010,0020) within its issuer (0010,0021).

    Raises:
        InputRejected: ``no-patient``, there is no Patient ID.
    """
    identifier = header.words(PATIENT_ID)
    if identifier is None:
        raise InputRejected(
            "no-patient", "Patient ID (0010,0020) is empty", "export with the patient identifier kept"
        )
    return Identity(
        keys=((header.words(ISSUER), identifier),),
        birth_date=_birth_date(header.code(0x00100030)),
        sex=sex(header.code(0x00100040)),
        names=_names(header),
    )


def sex(code: str | None) -> str | None:
    """The administrative sex behind Patient's Sex; None where not stated.

    >>> sex("F"), sex("X"), sex(None)
    ('female', 'unknown', None)
    """
    return None if code is None else _SEX.get(code.upper(), "unknown")


def age_years(text: str | None) -> tuple[float | None, str | None]:
    """Years behind an AS value (PS3.5 section 6.2), and the flag that it earns.

    >>> age_years("018M"), age_years("900Y"), age_years("ABC"), age_years(None)
    ((1.5, None), (None, 'absurd_age'), (None, 'age_invalid'), (None, None))
    """
    if text is None:
        return None, None
    match = _AGE.fullmatch(text.strip().upper())
    if match is None:
        return None, "age_invalid"
    years = int(match[1]) * _YEARS_PER[match[2]]
    return (None, "absurd_age") if years > OLDEST_YEARS else (years, None)


def available_at(header: DicomHeader, zone: tzinfo) -> datetime:
    """When the object became available: the latest of its dates and times, UTC.

    That is the latest of content, acquisition, series and study (decision 0001). A date without a
    time counts only where it is later than every date that has one, and then as the end of that
    day: late is safe, early would let a fact be seen before it existed. ``zone`` is where the
    scanner's clock stood if the file has no Timezone Offset From UTC (0008,0201).

    Raises:
        InputRejected: ``no-time``, there is no usable date.
    """
    zone = _stated_zone(header.code(_OFFSET_FROM_UTC)) or zone
    timed: list[datetime] = []
    dated: list[datetime] = []
    for date_tag, time_tag in _STAMPS:
        _collect(header.code(date_tag), header.code(time_tag), timed, dated)
    stamp = header.code(_ACQUISITION_DATETIME)
    moments = [moment.replace(tzinfo=zone) for moment in timed]
    if stamp and (moment := parse_datetime(stamp, zone)):
        moments.append(moment)
    latest_day = max((moment.date() for moment in moments), default=None)
    moments += [day.replace(tzinfo=zone) for day in dated if latest_day is None or day.date() > latest_day]
    if not moments:
        raise InputRejected(
            "no-time",
            "no content, acquisition, series or study date can be read",
            "export with dates kept or shifted, not removed",
        )
    return max(moments).astimezone(UTC)


def parse_datetime(text: str, zone: tzinfo) -> datetime | None:
    """A DT value (PS3.5 section 6.2) as an aware moment; end of day where it has no time.

    >>> parse_datetime("20091229095915-0500", UTC).isoformat()
    '2009-12-29T09:59:15-05:00'
    """
    offset = _OFFSET.search(text, 8)
    if offset:
        zone = _stated_zone(offset[0]) or zone
        text = text[: offset.start()]
    timed: list[datetime] = []
    dated: list[datetime] = []
    _collect(text[:8], text[8:] or None, timed, dated)
    found = timed or dated
    return found[0].replace(tzinfo=zone) if found else None


def object_uid(header: DicomHeader, tag: int = 0x00080018) -> str | None:
    """A UID, None where empty.

    Raises:
        InputRejected: ``bad-uid``, it is not digits and dots of at most 64 characters.
    """
    text = header.code(tag)
    if text is not None and (len(text) > 64 or not _UID.fullmatch(text)):
        raise InputRejected(
            "bad-uid", "a UID holds other things than digits and dots", "ask for a clean export"
        )
    return text


def code_string(header: DicomHeader, tag: int) -> str | None:
    """A CS value that is one; None where it is empty or breaks the rule of PS3.5 section 6.2."""
    text = (header.code(tag) or "").split("\\")[0].strip().upper()
    return text if _CODE.fullmatch(text) else None


def _collect(date: str | None, time: str | None, timed: list[datetime], dated: list[datetime]) -> None:
    day = _day(date)
    if day is None:
        return
    clock = _clock(time)
    if clock is None:
        dated.append(day.replace(hour=23, minute=59, second=59))
    else:
        timed.append(day + clock)


def _clock(time: str | None) -> timedelta | None:
    match = _TIME.fullmatch(time.strip()) if time else None
    if match is None:
        return None
    hour, minute, second = int(match[1]), int(match[2] or 0), min(int(match[3] or 0), 59)
    if hour > 23 or minute > 59:
        return None
    microsecond = int((match[4] or "0").ljust(6, "0"))
    return timedelta(hours=hour, minutes=minute, seconds=second, microseconds=microsecond)


def _stated_zone(text: str | None) -> tzinfo | None:
    match = _OFFSET.fullmatch(text) if text else None
    if match is None or int(match[2]) > 14 or int(match[3]) > 59:
        return None
    offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return timezone(-offset if match[1] == "-" else offset)


def _birth_date(text: str | None) -> str | None:
    day = _day(text)
    return day.date().isoformat() if day else None


def _day(text: str | None) -> datetime | None:
    """A DA value; None for a date that is none, or that only stands for "unknown" (year 1, 9999)."""
    match = _DATE.fullmatch(text.strip()) if text else None
    if match is None or not _FIRST_YEAR <= int(match[1]) <= _LAST_YEAR:
        return None
    try:
        return datetime(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        return None


def _names(header: DicomHeader) -> tuple[str, ...]:
    parts: list[str] = []
    for tag in _NAMES:
        parts += re.split(r"[\^=\\]", header.words(tag) or "")
    for tag in _ADDRESSES:
        parts += (header.words(tag) or "").split("\\")
    return tuple(dict.fromkeys(part.strip() for part in parts if len(part.strip()) > 1))
