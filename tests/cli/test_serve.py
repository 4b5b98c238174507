"""The verbs around the web application."""

from __future__ import annotations

from pathlib import Path

import pytest

from clinimm.cli import app as cli
from clinimm.serve.access_log import LOG_NAME, AccessLog, Entry


def test_single_user_mode_refuses_other_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["serve", str(tmp_path), "--single-user", "--host", "0.0.0.0"]) == 2
    assert "for this machine alone" in capsys.readouterr().err


def test_serving_without_sign_in_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["serve", str(tmp_path)]) == 2
    assert "nobody can sign in" in capsys.readouterr().err


def test_a_whole_log_is_0_and_a_spoilt_one_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = AccessLog(tmp_path / "serve-records")
    for _ in range(3):
        head = log.append(Entry("view-report"))
    verb = ["access-log", "verify", str(tmp_path)]
    assert cli.run(verb) == 0
    said = capsys.readouterr().out
    assert "whole, n = 3 lines" in said and f"head: 3:{head.digest}" in said
    assert cli.run([*verb, "--head", f"3:{head.digest}"]) == 0
    assert cli.run([*verb, "--head", f"4:{head.digest}"]) == 1
    assert cli.run([*verb, "--head", "nonsense"]) == 2
    path = tmp_path / "serve-records" / LOG_NAME
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert cli.run(verb) == 1
    assert "NOT whole" in capsys.readouterr().out


def test_no_log_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["access-log", "verify", str(tmp_path)]) == 2
    assert "there is no access log" in capsys.readouterr().err
