"""The end of the records: cut off, set back, gone, signed by a stranger, half written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from clinimm.core.errors import IntegrityError
from clinimm.core.sign import sign
from clinimm.monitor.finding import BREACH, Scribe
from clinimm.monitor.incident import Incident, read_incidents, record_incident
from clinimm.monitor.incident_log import FORM, KEPT_NAME, keep_end, read_kept
from clinimm.monitor.plan import DriftPart


def _record(folder: Path, data: str, trusted: tuple[str, ...] = ()) -> Incident:
    finding = Scribe("drift", DriftPart()).write("ehr", BREACH, "ehr moved")
    evidence = {"data": data, "reference": "r", "plan": "p"}
    return record_incident(folder, [finding], evidence, ["m"], None, date(2026, 3, 4), trusted)


@pytest.fixture(autouse=True)
def own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for data in "abc":
        _record(tmp_path / "incidents", data)
    return tmp_path / "incidents"


def _last_record(folder: Path) -> None:
    sorted(folder.glob("*.json"))[-1].unlink()


def _last_line_too(folder: Path) -> None:
    _last_record(folder)
    lines = (folder / FORM.log_name).read_bytes().splitlines(keepends=True)
    (folder / FORM.log_name).write_bytes(b"".join(lines[:-1]))


def _head_too(folder: Path) -> None:
    _last_line_too(folder)
    line = json.loads((folder / FORM.log_name).read_bytes().splitlines()[-1])
    head = json.loads((folder / FORM.head_name).read_text())
    head["head"].update(number=line["number"], digest=line["digest"])
    (folder / FORM.head_name).write_text(json.dumps(head))


def _log_gone(folder: Path) -> None:
    _last_record(folder)
    (folder / FORM.log_name).unlink()
    (folder / FORM.head_name).unlink()


@pytest.mark.parametrize("cut", [_last_record, _last_line_too, _head_too, _log_gone])
def test_a_record_that_is_cut_off_the_end_is_noticed_whatever_else_is_cut(
    folder: Path, cut: Callable[[Path], None]
) -> None:
    assert len(read_incidents(folder)) == 3
    cut(folder)
    with pytest.raises(IntegrityError):
        read_incidents(folder)
    with pytest.raises(IntegrityError):
        _record(folder, "d")


@pytest.mark.parametrize("gone", [False, True])
def test_a_folder_that_was_set_back_whole_is_noticed_by_what_an_earlier_look_kept(
    tmp_path: Path, folder: Path, gone: bool
) -> None:
    shutil.copytree(folder, tmp_path / "old")
    _record(folder, "d")
    place = tmp_path / "board"
    place.mkdir()
    keep_end(place, folder)
    assert len(read_incidents(folder, kept=read_kept(place, folder))) == 4
    shutil.rmtree(folder)
    if not gone:
        shutil.copytree(tmp_path / "old", folder)
    assert len(read_incidents(folder)) == (0 if gone else 3)
    with pytest.raises(IntegrityError):
        read_incidents(folder, kept=read_kept(place, folder))
    assert read_kept(place, tmp_path / "elsewhere") is None
    (place / KEPT_NAME).write_text("[]")
    with pytest.raises(IntegrityError, match="not the end"):
        read_kept(place, folder)


def test_a_record_without_a_line_is_what_a_crash_leaves_and_the_next_one_signs_it(folder: Path) -> None:
    log, head = ((folder / name).read_bytes() for name in (FORM.log_name, FORM.head_name))
    _record(folder, "d")
    (folder / FORM.log_name).write_bytes(log)
    (folder / FORM.head_name).write_bytes(head)
    assert len(read_incidents(folder)) == 4
    _record(folder, "e")
    assert len((folder / FORM.log_name).read_bytes().splitlines()) == 5
    _last_record(folder)
    with pytest.raises(IntegrityError, match="0005 was removed"):
        read_incidents(folder)


def test_two_people_record_in_one_folder_where_each_trusts_the_other(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = sign(b"").public_key
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "second"))
    with pytest.raises(IntegrityError, match="nobody here vouches"):
        _record(folder, "d")
    assert _record(folder, "d", (first,)).number == 4
    assert read_incidents(folder)[-1].number == 4
