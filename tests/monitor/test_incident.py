from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from clinimm.core.errors import IntegrityError
from clinimm.monitor.finding import BREACH, Finding, Scribe, beyond, share_growth, worst_first
from clinimm.monitor.incident import Incident, read_incidents, record_incident
from clinimm.monitor.plan import BettingPart, DriftPart

EVIDENCE = {"data": "d", "reference": "r", "plan": "p"}
DAY = date(2026, 3, 4)


def _finding() -> Finding:
    return Scribe("drift", DriftPart()).write(
        "ehr", BREACH, "ehr moved", (0.4, float("nan"), float("nan")), n=9
    )


def _record(folder: Path, data: str = "d", models: tuple[str, ...] = ("m",), day: date = DAY) -> Incident:
    return record_incident(folder, [_finding()], {**EVIDENCE, "data": data}, models, None, day)


def test_a_record_says_what_when_how_much_and_of_which_model(tmp_path: Path) -> None:
    one = _record(tmp_path)
    value = json.loads(one.path.read_text())
    assert one.path.name == "incident-0001-2026-03-04.json"
    assert (value["seen"], value["models"], value["evidence"]) == ("2026-03-04", ["m"], EVIDENCE)
    assert value["breaches"][0]["value"] == 0.4
    assert value["breaches"][0]["sentence"] == "ehr moved"


def test_the_same_evidence_is_recorded_once_and_other_evidence_is_added(tmp_path: Path) -> None:
    first = _record(tmp_path)
    assert _record(tmp_path, day=date(2027, 1, 1)) == first
    second = _record(tmp_path, data="later")
    assert second.body["previous"] == first.digest
    assert [one.number for one in read_incidents(tmp_path)] == [1, 2]


@pytest.mark.parametrize("how", ["changed", "removed", "last removed", "no json"])
def test_a_record_that_was_changed_or_taken_out_is_noticed(tmp_path: Path, how: str) -> None:
    paths = [_record(tmp_path, data=data).path for data in "abc"]
    if how.endswith("removed"):
        paths[2 if how.startswith("last") else 1].unlink()
    else:
        text = paths[1].read_text()
        paths[1].write_text(text.replace("0.4", "0.1") if how == "changed" else "[]")
    with pytest.raises(IntegrityError, match="incident 0003 was removed" if "last" in how else None):
        _record(tmp_path, data="d")
    assert len(list(tmp_path.glob("*.json"))) == (2 if "removed" in how else 3)


def test_verdicts_have_three_values_and_alarms_need_an_act() -> None:
    assert [beyond((0.2, *ends), 0.1) for ends in ((0.11, 0.3), (0.0, 0.3), (0.0, 0.1))] == [
        "breach",
        "cannot_tell",
        "quiet",
    ]
    nothing = float("nan")
    assert beyond((nothing, nothing, nothing), 0.1) == "cannot_tell"
    watched = Scribe("betting", BettingPart(act="observe", needed=True)).write("x", BREACH, "x")
    unknown = Scribe("betting", BettingPart(needed=True)).too_few("x", 3, 4, 50)
    assert not watched.alarms and unknown.open
    assert worst_first([unknown, watched, _finding()])[0].alarms
    assert share_growth((30, 100), (10, 100), 0.95)[0] == pytest.approx(0.2)
