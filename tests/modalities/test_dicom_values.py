"""Ages, sexes, dates and zones as the standard writes them, and as scanners do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinimm.core.errors import ConfigError, InputRejected
from clinimm.modalities.dicom_header import read_header
from clinimm.modalities.dicom_values import (
    age_years,
    available_at,
    check_size,
    code_string,
    identity,
    object_uid,
    parse_datetime,
    sex,
    zone_of,
)
from clinimm.sources.base import SourceFile

MakeDicom = Callable[..., bytes]
_NO_TIMES = dict.fromkeys(("StudyDate", "StudyTime", "ContentDate", "ContentTime"))


@pytest.mark.parametrize(
    ("text", "years", "flag"),
    [
        ("054Y", 54.0, None),
        ("018M", 1.5, None),
        ("003W", 21 / 365.25, None),
        ("010D", 10 / 365.25, None),
        ("900Y", None, "absurd_age"),
        ("ABC", None, "age_invalid"),
        ("54", None, "age_invalid"),
        (None, None, None),
    ],
)
def test_ages(text: str | None, years: float | None, flag: str | None) -> None:
    found, found_flag = age_years(text)
    assert found == (None if years is None else pytest.approx(years))
    assert found_flag == flag


def test_sexes() -> None:
    assert [sex(code) for code in ("F", "M", "O", "X", None)] == ["female", "male", "other", "unknown", None]


def _time(make_dicom: MakeDicom, zone: str = "UTC", **changes: Any) -> datetime:
    return available_at(read_header(make_dicom(**{**_NO_TIMES, **changes})), ZoneInfo(zone))


def test_the_latest_moment_counts(make_dicom: MakeDicom) -> None:
    found = _time(
        make_dicom, StudyDate="20240301", StudyTime="09", SeriesDate="20240302", SeriesTime="0810",
        ContentDate="20240301", ContentTime="235959",
    )  # fmt: skip
    assert found == datetime(2024, 3, 2, 8, 10, tzinfo=UTC)


def test_acquisition_datetime_counts_with_its_own_offset(make_dicom: MakeDicom) -> None:
    found = _time(make_dicom, StudyDate="20240301", StudyTime="09", AcquisitionDateTime="20240301100000+0200")
    assert found == datetime(2024, 3, 1, 9, 0, tzinfo=UTC)
    found = _time(make_dicom, AcquisitionDateTime="20240301100000.25-0130")
    assert found == datetime(2024, 3, 1, 11, 30, 0, 250000, tzinfo=UTC)


def test_a_stated_offset_beats_the_configured_zone(make_dicom: MakeDicom) -> None:
    when = {"StudyDate": "20240701", "StudyTime": "120000"}
    assert _time(make_dicom, "Europe/Vienna", **when).hour == 10
    assert _time(make_dicom, "Europe/Vienna", TimezoneOffsetFromUTC="-0500", **when).hour == 17


def test_a_date_without_time_is_the_end_of_its_day(make_dicom: MakeDicom) -> None:
    assert _time(make_dicom, StudyDate="20240301") == datetime(2024, 3, 1, 23, 59, 59, tzinfo=UTC)
    same_day = _time(make_dicom, StudyDate="20240301", ContentDate="20240301", ContentTime="1020")
    assert same_day == datetime(2024, 3, 1, 10, 20, tzinfo=UTC)
    later = _time(make_dicom, StudyDate="20240305", ContentDate="20240301", ContentTime="1020")
    assert later == datetime(2024, 3, 5, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize("date", ["", "20241341", "00010101", "99991231"])
def test_no_usable_date_is_refused(make_dicom: MakeDicom, date: str) -> None:
    data = make_dicom(**{**_NO_TIMES, "StudyDate": "20240301"})
    data = data.replace(b"20240301", date.encode().ljust(8))
    with pytest.raises(InputRejected, match="no-time"):
        available_at(read_header(data), UTC)


@given(
    moment=st.datetimes(datetime(1900, 1, 1), datetime(2900, 1, 1)),
    minutes=st.integers(-14 * 60 + 1, 14 * 60 - 1),
)
def test_any_datetime_comes_back(moment: datetime, minutes: int) -> None:
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    text = aware.strftime("%Y%m%d%H%M%S.%f%z").rjust(26, "0")
    assert parse_datetime(text, UTC) == aware


@given(st.text(max_size=30))
def test_no_text_breaks_a_parser(text: str) -> None:
    parse_datetime(text, UTC)
    age_years(text)
    sex(text)


def test_identity(make_dicom: MakeDicom) -> None:
    who = identity(read_header(make_dicom(IssuerOfPatientID="H1", PatientAddress="Low Road 3")))
    assert who.keys == (("H1", "MRN1"),)
    assert (who.birth_date, who.sex) == ("1970-01-02", "female")
    assert set(who.names) == {"Doe", "Jane", "Low Road 3"}


def test_no_patient_is_refused(make_dicom: MakeDicom) -> None:
    with pytest.raises(InputRejected, match="no-patient"):
        identity(read_header(make_dicom(PatientID="")))


def test_a_path_is_no_uid(make_dicom: MakeDicom) -> None:
    data = make_dicom().replace(b"1.2.3.4\0", b"../../x\0")
    with pytest.raises(InputRejected, match="bad-uid"):
        object_uid(read_header(data))


def test_a_code_that_breaks_the_rule_is_none(make_dicom: MakeDicom) -> None:
    assert code_string(read_header(make_dicom(ViewPosition="PA")), 0x00185101) == "PA"
    data = make_dicom(ViewPosition="PATNAME").replace(b"PATNAME", b"Doe, J.")
    assert code_string(read_header(data), 0x00185101) is None


def test_an_unknown_zone_is_an_error_of_the_pipeline_file() -> None:
    assert zone_of("UTC") is UTC
    assert zone_of("Europe/Vienna") == ZoneInfo("Europe/Vienna")
    for name in ("Mars/Olympus", "", "../etc/passwd"):
        with pytest.raises(ConfigError, match=r"ingest\.timezone"):
            zone_of(name)


def test_sizes_are_checked_before_reading() -> None:
    check_size(SourceFile("a", 1 << 20, 0), 1)
    for size, code in ((0, "empty-file"), ((1 << 20) + 1, "too-large")):
        with pytest.raises(InputRejected, match=code):
            check_size(SourceFile("a", size, 0), 1)
