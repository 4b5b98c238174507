"""A crash at each step of what a registrar does: nothing is served by it, and the same verb mends it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clinimm.core.chain import line_digest
from clinimm.core.errors import AuditGateError, BusyError
from clinimm.core.sign import canonical
from clinimm.gate import actions
from clinimm.gate.check import Filed, check_run
from clinimm.gate.log import FORM, PROMOTED, log_folder, read_log
from clinimm.gate.refused import GateRefused
from clinimm.lock import locked
from tests.gate.conftest import Hospital
from tests.gate.test_ways_round import _code, _serve, champion, client, plugin

mlflow = pytest.importorskip("mlflow")
__all__ = ["champion", "client", "plugin"]

_CLIENT, _LOG = "mlflow.MlflowClient", "clinimm.core.chained_log"


class Killed(BaseException):
    """No code of ours catches it, as none catches ``kill -9``."""


def _kill_at(patch: pytest.MonkeyPatch, step: str, call: int = 1, after: bool = False) -> None:
    """End the process before, or just after, the given call of a function."""
    place, _, name = step.rpartition(".")
    from importlib import import_module

    try:
        holder: Any = import_module(place)
    except ModuleNotFoundError:
        holder = getattr(import_module(place.rpartition(".")[0]), place.rpartition(".")[2])
    real, seen = getattr(holder, name), [0]

    def dying(*given: Any, **named: Any) -> Any:
        seen[0] += 1
        if seen[0] == call and not after:
            raise Killed
        found = real(*given, **named)
        if seen[0] == call:
            raise Killed
        return found

    patch.setattr(holder, name, dying)


def _dies(act: Callable[[], object], step: str, call: int = 1, after: bool = False) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        _kill_at(patch, step, call, after)
        act()


def _versions(one: Hospital) -> list[int]:
    store = f"sqlite:///{(one.root.parent / 'mlflow.db').absolute()}"
    return [int(found.version) for found in mlflow.MlflowClient(store, store).search_model_versions()]


@pytest.mark.parametrize(
    ("step", "call", "after"),
    [
        (f"{_CLIENT}.create_registered_model", 1, True),
        (f"{_CLIENT}.create_model_version", 1, False),
        (f"{_CLIENT}.create_model_version", 1, True),
        (f"{_LOG}.ChainedLog._begin", 1, False),  # an empty log without an end
        (f"{_LOG}.ChainedLog._add", 1, False),
        (f"{_LOG}.ChainedLog._sign", 2, False),  # a line, and an end that does not tell of it
        (f"{_LOG}.ChainedLog._sign", 2, True),
        ("clinimm.core.durable.sync_folder", 1, False),
        ("clinimm.gate.check.Filed.write", 1, False),
        ("clinimm.gate.check.write_durably", 1, True),
    ],
)
def test_registering_again_ends_what_a_crash_began(
    registry: Hospital, plugin: None, step: str, call: int, after: bool
) -> None:
    registry.approve()
    _dies(registry.register, step, call, after)
    assert _serve(registry) in ("not-promoted", "broken-log")
    assert registry.register() == 1 and _versions(registry) == [1]
    filed = Filed.read(registry.root)
    assert filed is not None and not filed.promoted
    read_log(log_folder(registry.root.parent), registry.governance, filed.head)
    assert registry.promote() == 1
    assert _serve(registry) == ""


@pytest.mark.parametrize(
    ("step", "call", "after", "standing"),
    [
        (f"{_CLIENT}.set_registered_model_alias", 1, False, "not-promoted"),
        (f"{_CLIENT}.set_registered_model_alias", 1, True, "not-promoted"),
        (f"{_LOG}.ChainedLog._sign", 1, False, "broken-log"),
        (f"{_LOG}.ChainedLog._sign", 1, True, ""),
        ("clinimm.gate.check.Filed.write", 1, False, ""),
    ],
)
def test_promoting_again_ends_what_a_crash_began(
    registry: Hospital, plugin: None, step: str, call: int, after: bool, standing: str
) -> None:
    registry.approve()
    registry.register()
    _dies(registry.promote, step, call, after)
    assert _serve(registry) == standing
    assert registry.promote() == 1 and _serve(registry) == ""
    assert actions.champion(registry.root, registry.governance).evidence.run == "hand"


@pytest.mark.parametrize(
    "step",
    [f"{_LOG}.ChainedLog._sign", "clinimm.gate.check.Filed.write", "clinimm.gate.registry.mark_revoked"],
)
def test_withdrawal_that_a_crash_cut_short_holds(
    champion: Hospital, client: "mlflow.MlflowClient", step: str
) -> None:
    identifier = _withdrawable(champion)
    withdraw = lambda: _withdraw(champion, identifier)  # noqa: E731
    _dies(withdraw, step)
    assert _serve(champion) in ("broken-log", "revoked-approval")
    assert _code(champion.promote) == "revoked-approval"  # the next act brings the log in order
    assert _serve(champion) == "revoked-approval"
    withdraw()
    assert "champion" not in client.get_registered_model("hand").aliases


def test_withdrawal_when_the_registry_does_not_answer(
    champion: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*given: object) -> None:
        raise mlflow.exceptions.MlflowException("no route to host")

    monkeypatch.setattr("clinimm.gate.registry.mark_revoked", down)
    with pytest.raises(AuditGateError, match=r"is withdrawn .* run the same again"):
        _withdraw(champion, _withdrawable(champion))
    assert _serve(champion) == "revoked-approval"


def test_log_that_a_crash_left_empty_is_none_yet(hospital: Hospital) -> None:
    """Approvals are judged and brought before any registrar comes by and begins it."""
    log_folder(hospital.root.parent).mkdir()
    (log_folder(hospital.root.parent) / FORM.log_name).touch()
    hospital.approve()
    assert check_run(hospital.root, "promote", hospital.governance).log.lines == ()


def test_half_a_line_is_told_of_and_stops_nobody(champion: Hospital) -> None:
    path = log_folder(champion.root.parent) / FORM.log_name
    path.write_bytes(path.read_bytes() + b'{"action":"promo')
    with pytest.raises(GateRefused, match=r"broken-log.*a registrar runs that act again"):
        check_run(champion.root, "serve", champion.governance)
    champion.promote()
    assert _serve(champion) == ""
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [row["action"] for row in rows][-2:] == ["recover-torn-line", "promoted"]
    _withdraw(champion, _withdrawable(champion))  # a line of a recovery is of no run


def test_line_that_nobody_signed_is_never_signed_for_its_writer(registry: Hospital, plugin: None) -> None:
    """Otherwise whoever can write the file has a registrar sign a promotion at their next act."""
    registry.approve()
    registry.register()
    folder = log_folder(registry.root.parent)
    path = folder / FORM.log_name
    last = json.loads(path.read_bytes().splitlines()[-1])
    body = {**last, "number": last["number"] + 1, "action": PROMOTED, "previous": last["digest"]}
    path.write_bytes(path.read_bytes() + canonical({**body, "digest": line_digest(body)}) + b"\n")
    assert _serve(registry) == "broken-log"
    registry.register()  # brings the log in order
    assert _serve(registry) == "not-promoted"
    assert read_log(folder, registry.governance).lines[-1]["action"] == "recover-unsigned-line"


def test_end_that_was_set_back_drops_no_withdrawal(champion: Hospital) -> None:
    head = log_folder(champion.root.parent) / FORM.head_name
    before = head.read_bytes()
    _withdraw(champion, _withdrawable(champion))
    head.write_bytes(before)
    assert _serve(champion) == "broken-log"
    assert _code(champion.promote) == "revoked-approval"
    assert _serve(champion) == "revoked-approval"


def test_second_registrar_waits(registry: Hospital) -> None:
    registry.approve()
    folder = log_folder(registry.root.parent)
    code = (
        "import sys; from pathlib import Path; from clinimm.lock import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    holder = [sys.executable, "-c", code, str(folder)]
    folder.mkdir()
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(BusyError, match="run this again"):
            registry.register()
        other.communicate()
    with locked(folder):
        pass
    assert registry.register() == 1


@pytest.mark.slow
def test_two_registrars_at_once_make_one_version(registry: Hospital) -> None:
    registry.approve()
    command = [sys.executable, "-m", "clinimm", "gate", "register", str(registry.root)]
    command += ["--key", str(registry.key("registrar"))]
    paths = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    both = [subprocess.Popen(command, env=paths, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ends = [(one.communicate()[1], one.returncode) for one in both]
    assert 0 in [code for _, code in ends]
    assert all(code == 0 or "in use by process" in said for said, code in ends), ends
    assert registry.register() == 1 and _versions(registry) == [1]
    lines = read_log(log_folder(registry.root.parent), registry.governance).lines
    assert [line["action"] for line in lines] == ["registered"]


def _withdrawable(one: Hospital) -> str:
    return min((one.root / "gate").glob("*.sigstore.json")).name.split(".")[0]


def _withdraw(one: Hospital, identifier: str) -> None:
    actions.revoke(one.root, identifier, "drift", one.governance, one.key("registrar"))
