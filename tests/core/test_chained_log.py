"""A log that several people sign: each must be trusted, and none may cut what another wrote."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from clinimm.core.chain import LogForm
from clinimm.core.chained_log import ChainedLog
from clinimm.core.check_log import check_log
from clinimm.core.errors import IntegrityError
from clinimm.core.keys import ECDSA, as_text, load_private, make_pair
from clinimm.core.sign import check_listed

FORM = LogForm("test's log", "test.jsonl", "test.head.json", "test/1")


@pytest.fixture
def keys(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{name}.key" for name in ("anna", "bert", "carl")]
    for path in paths:
        make_pair(path, ECDSA)
    return paths


def _public(path: Path) -> str:
    return as_text(load_private(path).public_key())


def test_two_people_write_one_log(tmp_path: Path, keys: list[Path]) -> None:
    trusted = [_public(path) for path in keys[:2]]
    for key in (*keys[:2], keys[0]):
        ChainedLog(tmp_path / "log", FORM, key, trusted).append({"action": "x", "by": key.stem})
    state = check_log(tmp_path / "log", FORM, partial(check_listed, trusted=trusted))
    assert state.whole and state.lines == 3
    rows = [json.loads(line) for line in (tmp_path / "log" / "test.jsonl").read_bytes().splitlines()]
    assert [row["by"] for row in rows] == ["anna", "bert", "anna"]


def test_nobody_goes_on_with_a_log_that_a_stranger_signed(tmp_path: Path, keys: list[Path]) -> None:
    ChainedLog(tmp_path / "log", FORM, keys[2]).append({"action": "x"})
    with pytest.raises(IntegrityError, match="not signed by a key that this log trusts"):
        ChainedLog(tmp_path / "log", FORM, keys[0], [_public(keys[1])])
    with pytest.raises(IntegrityError, match="nobody here vouches for"):
        check_log(tmp_path / "log", FORM, partial(check_listed, trusted=[_public(keys[0])]))


def test_a_log_is_not_taken_for_one_of_another_kind(tmp_path: Path, keys: list[Path]) -> None:
    ChainedLog(tmp_path / "log", FORM, keys[0]).append({"action": "x"})
    other = LogForm("other log", FORM.log_name, FORM.head_name, "other/1")
    with pytest.raises(IntegrityError, match="expected other/1"):
        ChainedLog(tmp_path / "log", other, keys[0])


@pytest.mark.parametrize(("keeps", "actions"), [(True, ["x", "y", "recover-unsigned-line", "z"]),
                                                (False, ["x", "recover-unsigned-line", "z"])])  # fmt: skip
def test_line_that_a_crash_left_unsigned_is_signed_or_taken_out(
    tmp_path: Path, keys: list[Path], keeps: bool, actions: list[str]
) -> None:
    folder = tmp_path / "log"
    log = ChainedLog(folder, FORM, keys[0])
    log.append({"action": "x"})
    before = (folder / "test.head.json").read_bytes()
    log.append({"action": "y"})
    (folder / "test.head.json").write_bytes(before)
    ChainedLog(folder, FORM, keys[0], keep_unsigned=lambda line: keeps).append({"action": "z"})
    rows = [json.loads(line) for line in (folder / "test.jsonl").read_bytes().splitlines()]
    assert [row["action"] for row in rows] == actions
    assert keeps or '"action":"y"' in rows[1]["detail"]["text"]
    assert check_log(folder, FORM, partial(check_listed, trusted=[_public(keys[0])])).whole
