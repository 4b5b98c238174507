"""The log tells when a line was changed, removed, put elsewhere, added or cut off, and by whom it ends."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clinimm.core.chain import Head, line_digest
from clinimm.core.chained_log import ChainedLog
from clinimm.core.errors import IntegrityError
from clinimm.core.sign import canonical
from clinimm.serve.access_check import verify_log
from clinimm.serve.access_log import HEAD_NAME, LOG_NAME, AccessLog, Entry
from clinimm.serve.errors import LogUnavailable


def written(folder: Path, count: int = 6) -> AccessLog:
    log = AccessLog(folder)
    for number in range(count):
        log.append(Entry("view-report", user="i|s", run="demo", subject=f"S{number}"))
    return log


def lines(folder: Path) -> list[bytes]:
    return (folder / LOG_NAME).read_bytes().splitlines(keepends=True)


def put(folder: Path, rows: list[bytes]) -> None:
    (folder / LOG_NAME).write_bytes(b"".join(rows))


def test_a_log_that_nobody_touched_is_whole(tmp_path: Path) -> None:
    log = written(tmp_path)
    state = verify_log(tmp_path)
    assert state.whole and state.lines == 6 and state.head == log.head()
    first = json.loads(lines(tmp_path)[0])
    assert first["number"] == 1 and first["previous"] == "0" * 64 and first["subject"] == "S0"


def test_an_empty_log_is_whole(tmp_path: Path) -> None:
    AccessLog(tmp_path)
    assert verify_log(tmp_path).whole


def _change(rows: list[bytes]) -> list[bytes]:
    return [rows[0], rows[1].replace(b'"S1"', b'"S9"'), *rows[2:]]


def _rehash(rows: list[bytes]) -> list[bytes]:
    """A liar who knows the format: changes a line and repairs its own digest."""

    body = json.loads(rows[1]) | {"subject": "S9"}
    return [rows[0], canonical(body | {"digest": line_digest(body)}) + b"\n", *rows[2:]]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_change, "line 2: was changed"),
        (_rehash, "line 3: does not follow"),
        (lambda rows: rows[:2] + rows[3:], "line 3: does not follow"),
        (lambda rows: rows[1:], "line 1: does not follow"),
        (lambda rows: [rows[1], rows[0], *rows[2:]], "line 1: does not follow"),
        (lambda rows: [*rows[:3], rows[2], *rows[3:]], "line 4: does not follow"),
        (lambda rows: rows[:-2], "the end was cut off"),
        (lambda rows: [], "the end was cut off"),
        (lambda rows: [*rows[:-1], b"not json\n"], "line 6: not an entry"),
        (lambda rows: [*rows[:-1], rows[-1].rstrip()], "line 6: the line has no end"),
    ],
)
def test_every_kind_of_change_is_found(
    tmp_path: Path, spoil: Callable[[list[bytes]], list[bytes]], said: str
) -> None:
    written(tmp_path)
    put(tmp_path, spoil(lines(tmp_path)))
    assert any(said in problem for problem in verify_log(tmp_path).problems)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(min_value=0), bit=st.integers(0, 7))
def test_no_bit_can_be_turned_unseen(tmp_path: Path, place: int, bit: int) -> None:
    if not (tmp_path / LOG_NAME).exists():
        written(tmp_path, 2)
        (tmp_path / "whole").write_bytes((tmp_path / LOG_NAME).read_bytes())
    whole = bytearray((tmp_path / "whole").read_bytes())
    whole[place % len(whole)] ^= 1 << bit
    (tmp_path / LOG_NAME).write_bytes(bytes(whole))
    assert not verify_log(tmp_path).whole


def test_lines_that_were_forged_after_the_end_are_found_and_refused(tmp_path: Path) -> None:

    log = written(tmp_path, 2)
    last = json.loads(lines(tmp_path)[-1])
    rows = lines(tmp_path)
    for number in (3, 4):
        body = last | {"number": number, "previous": last["digest"]}
        last = body | {"digest": line_digest(body)}
        rows.append(canonical(last) + b"\n")
    put(tmp_path, rows)
    assert "2 lines stand after line 2" in verify_log(tmp_path).problems[-1]
    with pytest.raises(LogUnavailable):
        log.append(Entry("view-report"))
    with pytest.raises(IntegrityError, match="ends with line 4"):
        AccessLog(tmp_path)


def test_a_log_that_was_set_back_with_its_head_is_found_by_a_head_kept_elsewhere(tmp_path: Path) -> None:
    log = written(tmp_path, 3)
    old = {name: (tmp_path / name).read_bytes() for name in (LOG_NAME, HEAD_NAME)}
    kept = log.append(Entry("view-report"))
    for name, content in old.items():
        (tmp_path / name).write_bytes(content)
    assert verify_log(tmp_path).whole  # nothing on this disk can tell
    assert "line 4 is not the line" in verify_log(tmp_path, kept=kept).problems[0]
    assert verify_log(tmp_path, kept=Head(2, json.loads(lines(tmp_path)[1])["digest"])).whole


def test_a_head_that_somebody_else_signed_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "stranger"))
    written(tmp_path / "log", 2)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "own"))
    written(tmp_path / "other", 1)  # makes the own key
    with pytest.raises(IntegrityError, match="which is trusted here"):
        verify_log(tmp_path / "log")


def test_a_log_without_its_head_is_no_evidence(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / HEAD_NAME).unlink()
    with pytest.raises(IntegrityError, match="whether the log's end was cut"):
        verify_log(tmp_path)


def test_a_line_that_a_crash_tore_is_kept_in_the_log(tmp_path: Path) -> None:
    written(tmp_path, 2)
    with (tmp_path / LOG_NAME).open("ab") as stream:
        stream.write(b'{"action":"view-re')
    AccessLog(tmp_path)
    assert verify_log(tmp_path).whole
    last = json.loads(lines(tmp_path)[-1])
    assert last["action"] == "recover-torn-line" and last["detail"]["text"] == '{"action":"view-re'


def test_a_line_whose_head_was_not_written_before_a_crash_is_signed_at_the_next_start(tmp_path: Path) -> None:
    log = written(tmp_path, 2)
    old = (tmp_path / HEAD_NAME).read_bytes()
    log.append(Entry("view-report"))
    (tmp_path / HEAD_NAME).write_bytes(old)
    assert not verify_log(tmp_path).whole
    AccessLog(tmp_path)
    assert verify_log(tmp_path).whole and verify_log(tmp_path).lines == 4


def test_long_lines_are_found_again(tmp_path: Path) -> None:
    log = written(tmp_path, 1)
    log.append(Entry("view-worklist", detail={"subjects": ["S" * 20] * 9000}))
    log.append(Entry("view-report"))
    assert verify_log(tmp_path).whole and verify_log(tmp_path).lines == 3


def _many(folder: Path, user: str) -> None:
    log = AccessLog(folder)
    for _ in range(20):
        log.append(Entry("view-report", user=user))


def test_several_processes_write_one_chain(tmp_path: Path) -> None:
    AccessLog(tmp_path)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_many, args=(tmp_path, str(number))) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    state = verify_log(tmp_path)
    assert state.whole and state.lines == 60


def test_a_log_that_cannot_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = written(tmp_path, 1)
    monkeypatch.setattr("os.fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(LogUnavailable):
        log.append(Entry("view-report"))


def test_a_line_is_on_the_disk_before_it_is_signed_as_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, synced = written(tmp_path, 1), []
    real = os.fsync

    def watch(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        real(handle)

    monkeypatch.setattr("os.fsync", watch)
    log.append(Entry("view-report"))
    line, head, folder = synced
    assert (line, folder) == (LOG_NAME, tmp_path.name)
    assert head.startswith(f".{HEAD_NAME}.") and head.endswith(".partial")


def test_others_cannot_read_the_log(tmp_path: Path) -> None:
    written(tmp_path / "records", 1)
    assert (tmp_path / "records" / LOG_NAME).stat().st_mode & 0o077 == 0
    assert (tmp_path / "records").stat().st_mode & 0o077 == 0


def unsign(folder: Path, head: Head) -> None:
    """What somebody can do who may write the files and has no key."""
    path = folder / HEAD_NAME
    value = json.loads(path.read_text())
    value["head"] |= {"number": head.number, "digest": head.digest}
    path.write_text(json.dumps(value))


def test_the_server_does_not_sign_a_log_that_was_cut_off_with_its_head(tmp_path: Path) -> None:
    """Otherwise its next line would make the cut look whole."""
    log = written(tmp_path, 5)
    rows = lines(tmp_path)
    put(tmp_path, rows[:3])
    unsign(tmp_path, Head(3, json.loads(rows[2])["digest"]))
    with pytest.raises(LogUnavailable):
        log.append(Entry("view-report"))
    with pytest.raises(IntegrityError, match="not signed by a key that this log trusts"):
        AccessLog(tmp_path)
    assert len(lines(tmp_path)) == 3


def test_a_log_that_was_set_back_while_the_server_runs_closes_it(tmp_path: Path) -> None:
    """With an older head, which this server did sign."""
    log = written(tmp_path, 2)
    old = {name: (tmp_path / name).read_bytes() for name in (LOG_NAME, HEAD_NAME)}
    log.append(Entry("view-report", subject="S9"))
    for name, content in old.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(LogUnavailable):
        log.append(Entry("view-report"))


def test_a_log_of_another_key_is_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "log", 2)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "new"))
    with pytest.raises(IntegrityError, match="not signed by a key that this log trusts"):
        AccessLog(tmp_path / "log")


def test_a_line_that_is_written_during_the_check_is_no_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clinimm.core import check_log

    log, real = written(tmp_path, 3), check_log.read_lines

    def slow(path: Path, size: int | None = None):  # type: ignore[no-untyped-def]
        log.append(Entry("view-report"))
        return real(path, size)

    monkeypatch.setattr(check_log, "read_lines", slow)
    state = verify_log(tmp_path)
    assert state.whole and state.lines == 3


def test_a_line_that_is_half_written_is_waited_for(tmp_path: Path) -> None:
    import fcntl
    import threading

    log = written(tmp_path, 2)
    found: list[bool] = []
    with log.path.open("r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        reader = threading.Thread(target=lambda: found.append(verify_log(tmp_path).whole))
        reader.start()
        reader.join(0.3)
        assert found == []
    reader.join(20)
    assert found == [True]


@pytest.mark.parametrize("fails", ["write", "sign"])
def test_after_a_full_disk_the_log_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """Half a line left there would spoil the next one for good."""
    log = written(tmp_path, 2)
    with monkeypatch.context() as patch:
        if fails == "sign":
            patch.setattr(ChainedLog, "_sign", lambda *given: (_ for _ in ()).throw(OSError(28, "full")))
        else:
            real = ChainedLog._take_back

            def half(self: ChainedLog, stream, size: int, before: Head) -> None:  # type: ignore[no-untyped-def]
                real(self, stream, size, before)
                stream.write(b'{"half')  # nor could it be taken back

            patch.setattr(ChainedLog, "_take_back", half)
            patch.setattr("os.fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(LogUnavailable):
            log.append(Entry("view-report", subject="S8"))
    log.append(Entry("view-report", subject="S9"))
    state = verify_log(tmp_path)
    assert state.whole and json.loads(lines(tmp_path)[-1])["subject"] == "S9"
    assert not any(b'"S8"' in line for line in lines(tmp_path))


def test_a_line_that_nobody_signed_is_told_of(tmp_path: Path) -> None:
    written(tmp_path, 1)
    old = (tmp_path / HEAD_NAME).read_bytes()
    AccessLog(tmp_path).append(Entry("view-report", subject="S7"))
    (tmp_path / HEAD_NAME).write_bytes(old)
    AccessLog(tmp_path)
    last = json.loads(lines(tmp_path)[-1])
    assert (last["action"], last["detail"]["number"]) == ("recover-unsigned-line", 2)


@pytest.mark.parametrize(
    "line",
    [
        b'{"number": "x", "digest": [], "previous": {}}\n',
        b'{"number": 3, "name": "\\ud800", "digest": "d"}\n',
        b"[" * 200_000 + b"\n",
        b"\xff\xfe\n",
    ],
    ids=["types", "surrogate", "deep", "bytes"],
)
def test_a_hostile_line_is_named_and_stops_nothing(tmp_path: Path, line: bytes) -> None:
    written(tmp_path, 3)
    rows = lines(tmp_path)
    put(tmp_path, [*rows[:2], line])
    assert any(problem.startswith("line 3:") for problem in verify_log(tmp_path).problems)


def test_a_long_torn_line_is_found_without_reading_the_log(tmp_path: Path) -> None:
    written(tmp_path, 2)
    with (tmp_path / LOG_NAME).open("ab") as stream:
        stream.write(b"x" * 200_000)
    AccessLog(tmp_path)
    assert verify_log(tmp_path).whole and len(json.loads(lines(tmp_path)[-1])["detail"]["text"]) == 200_000
