"""Keys that have ended: who kept one can write any day into what it signs, and the log's order decides."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from clinimm.cli.app import run
from clinimm.core.chain import Head
from clinimm.core.errors import ConfigError
from clinimm.core.keys import ECDSA, PUBLIC_SUFFIX, make_pair
from clinimm.gate import actions
from clinimm.gate.check import check_run
from clinimm.gate.log import FORM, PROMOTED, REGISTERED, Entry, append, digests_of, log_folder, read_log
from tests.gate.conftest import NOW, TODAY, Hospital, another_run, sign_run
from tests.gate.test_ways_round import _code, _serve, served

__all__ = ["served"]

_YESTERDAY = TODAY - timedelta(days=1)


def _end(one: Hospital, number: int, day: date = _YESTERDAY) -> Hospital:
    """End the key of a person in gate.yaml."""
    one.write_rules(lambda rules: rules["people"][number]["keys"][0].update(valid_until=day))
    return one.again()


def _clock(patch: pytest.MonkeyPatch, days: int, *modules: str) -> None:
    """Set a clock back, as whoever signs can with their own."""

    class Then(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime.now(UTC) - timedelta(days=days)

    for module in modules:
        patch.setattr(f"{module}.datetime", Then)


def _sign_back(one: Hospital, days: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        _clock(patch, days, "clinimm.register.manifest")
        sign_run(one.workspace, one.governance, one.key("author"))


def _tell(one: Hospital, action: str, days: int = 0, evidence: object = None) -> Head:
    with pytest.MonkeyPatch.context() as patch:
        _clock(patch, days, "clinimm.core.chained_log")
        found = digests_of(evidence or one.evidence())  # type: ignore[arg-type]
        line = Entry(action, "Rita Registrar", "hand", "hand", 1, found)
        return append(log_folder(one.root.parent), one.governance, line, one.key("registrar"))


@pytest.fixture
def successor(hospital: Hospital) -> Path:
    """The key of a second registrar."""
    path = hospital.keys / "rolf.key"
    make_pair(path, ECDSA)
    key = {
        "public": path.with_suffix(PUBLIC_SUFFIX).read_text(),
        "valid_from": TODAY - timedelta(days=400),
        "valid_until": TODAY + timedelta(days=400),
    }
    person = {"name": "Rolf Registrar", "roles": ["registrar"], "keys": [key]}
    hospital.write_rules(lambda rules: rules["people"].append(person))
    return path


# The author's key


def test_run_that_is_signed_with_an_ended_key_and_an_earlier_day(hospital: Hospital) -> None:
    _sign_back(hospital, 3)
    hospital.approve()
    check_run(hospital.root, "promote", hospital.governance)
    one = _end(hospital, 0)
    assert _code(lambda: check_run(one.root, "promote", one.governance)) == "expired-key"


@pytest.mark.parametrize(("told", "code"), [(2, ""), (0, "expired-key")])
def test_run_counts_on_where_the_log_told_of_it_before_its_author_s_key_ended(
    hospital: Hospital, told: int, code: str
) -> None:
    _sign_back(hospital, 3)
    hospital.approve()
    _tell(hospital, REGISTERED, told)
    one = _end(hospital, 0)
    call = lambda: check_run(one.root, "promote", one.governance)  # noqa: E731
    if code:
        assert _code(call) == code
    else:
        assert call().evidence.run == "hand"


# An approver's key


def test_approval_with_an_ended_key_and_an_earlier_day(hospital: Hospital) -> None:
    _sign_back(hospital, 3)
    hospital.sign("auditor", made=NOW - timedelta(days=2))
    check_run(hospital.root, "register", hospital.governance)
    one = _end(hospital, 1)
    assert _code(lambda: check_run(one.root, "register", one.governance)) == "expired-key"


# The registrar's key, and another registrar's signature


def test_log_written_anew_with_an_ended_key_and_earlier_days(hospital: Hospital, successor: Path) -> None:
    """Each line of it says a day on which the key counted."""
    hospital.approve()
    one = _end(hospital.again(), 3)
    forged = [hospital.governance, one.governance]  # the thief has an older gate.yaml
    thief = Hospital(one.workspace, forged[0], one.keys)
    _tell(thief, PROMOTED, 2)
    assert _serve(one) == "broken-log"


def test_another_registrar_countersigns_the_log_of_one_who_left(
    served: Hospital, successor: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = _end(served, 3)
    assert _serve(one) == "broken-log"
    runs = str(one.root.parent)
    assert run(["gate", "log", runs]) == 1
    said = capsys.readouterr().out
    assert "Rita Registrar's key, which counted until" in said and "clinimm gate countersign" in said
    assert "promoted" in said  # what is to be read before it is signed
    head = said.splitlines()[-1].removeprefix("head: ")
    command = ["gate", "countersign", runs, "--reason", "Rita left", "--key", str(successor), "--head"]
    assert run([*command, "1:" + "0" * 64]) == 2 and "not what you looked at" in capsys.readouterr().err
    assert _serve(one) == "broken-log"
    assert run([*command, head]) == 0
    assert _serve(one) == ""
    last = read_log(log_folder(one.root.parent), one.governance).lines[-1]
    assert (last["action"], last["registrar"], last["reason"]) == (
        "countersigned",
        "Rolf Registrar",
        "Rita left",
    )


def test_registrar_who_left_countersigns_nothing(served: Hospital, successor: Path) -> None:
    head = read_log(log_folder(served.root.parent), served.governance).head
    assert head is not None
    one = _end(served, 3)
    for key in ("registrar", "auditor"):
        call = lambda: actions.countersign(  # noqa: E731
            one.root.parent,
            head,
            "me again",
            one.governance,
            one.key(key),  # noqa: B023
        )
        assert _code(call) == "unknown-key"


def test_countersigning_does_not_make_a_changed_log_whole(served: Hospital, successor: Path) -> None:
    path = log_folder(served.root.parent) / FORM.log_name
    head = read_log(log_folder(served.root.parent), served.governance).head
    assert head is not None
    path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":2'))
    one = _end(served, 3)
    call = lambda: actions.countersign(one.root.parent, head, "x", one.governance, successor)  # noqa: E731
    assert _code(call) == "broken-log"


def test_countersigning_where_there_is_no_log(hospital: Hospital, successor: Path) -> None:
    with pytest.raises(ConfigError, match="no gate's log"):
        actions.countersign(hospital.root, Head(0, ""), "x", hospital.again().governance, successor)


def test_another_registrar_cannot_go_on_before_countersigning(served: Hospital, successor: Path) -> None:
    one = _end(served, 3)
    call = lambda: actions.revoke(one.root, "x", "y", one.governance, successor)  # noqa: E731
    assert _code(call) == "broken-log"


# The machine's clock


def test_clock_that_was_set_back_lets_nothing_through(served: Hospital) -> None:
    """So that an approval or a key that ended would count again."""
    with pytest.MonkeyPatch.context() as patch:
        _clock(patch, 1, "clinimm.gate.log")
        assert _serve(served) == "broken-log"
    assert _serve(served) == ""


def test_rules_of_then_stand_in_each_line(served: Hospital, capsys: pytest.CaptureFixture[str]) -> None:
    runs = str(served.root.parent)
    assert run(["gate", "log", runs]) == 0 and "gate.yaml was changed" not in capsys.readouterr().out
    served.write_rules(lambda rules: rules["people"][0]["roles"].append("auditor"))
    assert run(["gate", "log", runs]) == 0
    assert "gate.yaml was changed after the last line" in capsys.readouterr().out
    other = another_run(served.again(), "second", b"other weights")
    other.approve()
    _tell(other, PROMOTED, 0)
    assert run(["gate", "log", runs]) == 0
    assert "gate.yaml was changed between these two lines" in capsys.readouterr().out
    line = json.loads((log_folder(served.root.parent) / FORM.log_name).read_bytes().splitlines()[0])
    assert len(line["rules"]) == 64
    shutil.rmtree(other.root)
