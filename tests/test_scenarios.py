"""Whole runs over small hospitals with known truth: does the platform say what it should?

The figures over many seeds and all four modalities are made by ``benchmarks/scenarios.py``, whose
parts these tests use. Here hospitals have small films and no slides, and the model reads the
record and the notes, so that all of it takes about a minute on one core.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.scenarios import EXPECTED, private_machine, read_run, run_whole, summary, without_guard
from clinimm.simulate.hospital import find_scenario, write_hospital

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("scenarios")]

SUBJECTS = 110
SPLIT = {"train": 0.45, "tuning": 0.1, "held_out": 0.45}
SETTINGS = (
    "modalities.radiology.enabled=false",
    "modalities.pathology.enabled=false",
    "modalities.notes={encoder: {name: lexical}}",
    "model={width: 16, heads: 2, latents: 2, members: 1}",
    "train={epochs: 30, workers: 1}",
    "train.single_modality=false",
    "evaluate.bootstraps=300",
    "explain.subjects=0",
    "ingest.workers=1",
    "ingest.validate_fhir=none",
    "report.patients=0",
)
Found = dict[str, Any]


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A scenario's name -> the folder of its hospital, written once."""
    written: dict[str, Path] = {}

    def write(name: str) -> Path:
        if name not in written:
            knobs = find_scenario(name)
            light = _without_slides(knobs.missing)
            sick = None if knobs.missing_if_sick is None else _without_slides(knobs.missing_if_sick)
            knobs = replace(knobs, film_pixels=64, missing=light, missing_if_sick=sick)
            written[name] = tmp_path_factory.mktemp(name)
            write_hospital(written[name] / "hospital", knobs, SUBJECTS, seed=1)
        return written[name]

    return write


def _without_slides(missing: tuple[tuple[str, float], ...]) -> tuple[tuple[str, float], ...]:
    return tuple((name, 0.97 if name == "slide" else chance) for name, chance in missing)


@pytest.fixture(scope="module")
def guarded(hospital: Callable[[str], Path]) -> Callable[[str], tuple[Path, Found]]:
    """A scenario's name -> the folder of its whole run, and what the run says; made once."""
    runs: dict[str, Path] = {}

    def run(name: str) -> tuple[Path, Found]:
        folder = hospital(name)
        if name not in runs:
            with private_machine(folder):
                runs[name] = run_whole(folder, "run", SETTINGS, SPLIT)
        return runs[name], read_run(runs[name])

    return run


def test_late_signal_is_inside_chance(guarded: Callable[[str], tuple[Path, Found]]) -> None:
    _, found = guarded("late_signal")
    assert found["fused"]["low"] <= 0.5 <= found["fused"]["high"]
    assert found["verdict"] == "cannot_tell"


def test_late_signal_would_be_found_without_the_guard(hospital: Callable[[str], Path]) -> None:
    folder = hospital("late_signal")
    with private_machine(folder), without_guard():
        found = read_run(run_whole(folder, "cut", SETTINGS, SPLIT))
    assert found["fused"]["value"] > 0.9


def test_missing_not_at_random_is_caught_and_said(guarded: Callable[[str], tuple[Path, Found]]) -> None:
    run, found = guarded("missing_not_at_random")
    assert found["controls"]["missingness_only"]["low"] > 0.5
    verdict = json.loads((run / "evaluate" / "metrics.json").read_text())["verdict"]
    (said,) = (text for text in verdict["warnings"] if "ho was measured" in text)
    assert "missingness_only reaches AUROC" in said
    assert said in (run / "report" / "model_card.html").read_text(encoding="utf-8")
    assert "WARNING: who was measured" in verdict["sentence"]
    assert verdict["recommendation"]["model"] is None


def test_null_cannot_tell(guarded: Callable[[str], tuple[Path, Found]]) -> None:
    run, found = guarded("null")
    assert found["verdict"] == "cannot_tell"
    assert "no signal was found" in found["sentence"]
    assert found["sentence"] in (run / "report" / "model_card.html").read_text(encoding="utf-8")


def test_synergy_is_found_where_no_modality_shows_it(tmp_path: Path) -> None:
    knobs = replace(find_scenario("synergy"), film_pixels=96)
    knobs = replace(knobs, missing=_without_slides(knobs.missing))
    write_hospital(tmp_path / "hospital", knobs, 360, seed=1)
    reads = (
        "modalities.radiology.enabled=true",
        "modalities.notes.enabled=false",
        "train.single_modality=true",
    )
    split = {"train": 0.6, "tuning": 0.1, "held_out": 0.3}
    with private_machine(tmp_path):
        found = read_run(run_whole(tmp_path, "run", (*SETTINGS, *reads), split))
    assert found["difference"]["value"] >= 0.10
    assert found["difference"]["low"] > 0
    assert found["verdict"] == "helps"


def _row(scenario: str, **changes: Any) -> Found:
    figure = {"value": 0.8, "low": 0.7, "high": 0.9}
    controls = {"missingness_only": figure, "metadata_only": figure}
    row = {"scenario": scenario, "n": 40, "fused": figure, "best_single": figure, "difference": figure}
    return row | {"controls": controls, "cost": {"wall_seconds": 60}} | changes


@pytest.mark.parametrize(
    ("scenario", "good", "bad"),
    [
        ("synergy", {}, {"difference": {"value": 0.2, "low": -0.01, "high": 0.4}}),
        (
            "late_signal",
            {"fused": {"value": 0.5, "low": 0.4, "high": 0.6}, "without_guard": {"value": 0.95}},
            {"without_guard": {"value": 0.95}},
        ),
        ("null", {"verdict": "cannot_tell"}, {"verdict": "helps"}),
        (
            "missing_not_at_random",
            {"alarms": ["missingness_only"], "said_on_card": ["Who was measured predicts."]},
            {"alarms": ["missingness_only"], "said_on_card": []},
        ),
        (
            "subgroup_shift",
            {"audit": [{"rule": "ranking", "level": "female", "verdict": "fail", "high": -0.1}]},
            {"audit": [{"rule": "ranking", "level": "female", "verdict": "inconclusive", "high": 0.1}]},
        ),
    ],
)
def test_the_benchmark_tells_what_holds_from_what_does_not(scenario: str, good: Found, bad: Found) -> None:
    _, holds, _ = EXPECTED[scenario]
    assert holds(_row(scenario, **good))
    assert not holds(_row(scenario, **bad))


def test_the_summary_says_where_something_does_not_hold() -> None:
    rows = [_row("null", verdict="cannot_tell" if seed else "helps") for seed in range(20)]
    assert "| 19 of 20 |" in summary(rows)
    assert "18 of 19 **(does not hold)**" in summary(rows[:19])
