"""Progress is lines where there is no terminal, and silence where it is asked for."""

from __future__ import annotations

import pytest

from clinimm import progress
from clinimm.progress import QUIET, Progress


def test_items_pass_through_unchanged() -> None:
    assert list(QUIET.track(iter("abc"), "letters")) == ["a", "b", "c"]
    assert list(Progress().track("abc", "letters")) == ["a", "b", "c"]


def test_lines_say_how_many_and_how_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 6.0, 7.0, 13.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    list(Progress().track([1, 2, 3], "scans"))
    assert capsys.readouterr().err.splitlines() == [
        "  scans: 1 of 3, about 12 s left",
        "  scans: 3 of 3, about 0 s left",
    ]


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    QUIET.say("anything")
    list(QUIET.track([1], "scans"))
    assert capsys.readouterr() == ("", "")


def test_unknown_length_gives_no_estimate() -> None:
    assert progress._remaining(3, None, 10.0) == ""


def test_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert list(Progress().track([1, 2], "scans")) == [1, 2]
