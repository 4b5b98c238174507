"""``make bench`` runs every script without arguments: none may stop it where a run is not there yet."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest


@pytest.mark.parametrize("name", ["patient_report", "explanations", "explanation_truth"])
def test_a_benchmark_of_a_finished_run_says_that_it_is_skipped_without_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("captum")
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")  # a script finds those beside it
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{name}.py"])
    assert import_module(f"benchmarks.{name}").main() == 0
    said = capsys.readouterr().out
    assert said.startswith("skipped: runs/demo") and "`make demo`" in said


def test_every_tool_of_the_planted_bias_benchmark_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    planted, drawn = import_module("planted_bias"), import_module("planted_models")
    broken = next(model for model in drawn.models() if model.kind == "marginal" and "1.2" in model.name)
    sound = next(model for model in drawn.models() if model.kind == "none")
    assert planted.one(broken, 0)["CliniMM rules"]
    assert not planted.one(sound, 0)["CliniMM rules (pairs) or any detector"]
