"""A raw export through the deployed model: a small run is trained, and monitored on other patients."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clinimm.cli.app import run
from clinimm.config import load_pipeline
from clinimm.pipeline import run_pipeline
from clinimm.progress import QUIET
from tests.small_export import write_export, write_project


@pytest.mark.slow
def test_an_export_is_scored_and_compared_with_the_run(tmp_path: Path) -> None:
    file = write_project(tmp_path / "project", patients=24, epochs=2)
    config = load_pipeline(file, ["train.workers=1"])
    run_pipeline(config, until_stage="evaluate", progress=QUIET)
    folder = config.runs_dir / config.name
    write_export(tmp_path / "export", patients=14, seed=1)
    (tmp_path / "plan.yaml").write_text(
        "schema: clinimm.monitoring/1\nminimum: 10\nembeddings: {permutations: 99}\nestimate: {draws: 100}\n"
        "cusum: {run_length: 100, streams: 100}\n"
    )
    words = ["monitor", str(folder), "--data", str(tmp_path / "export"), "--quiet", "--on", "2026-01-01"]
    words += ["--plan", str(tmp_path / "plan.yaml"), "--out", str(tmp_path / "out")]
    status = run(words)
    content = json.loads((tmp_path / "out" / "monitor.json").read_text())
    assert status == content["exit_status"] in (0, 1)
    assert content["now"]["subjects"] == 14
    assert content["now"]["models"] and len(content["now"]["models"]) == 1
    assert {one["part"] for one in content["findings"]} >= {"quality", "drift", "predictions"}
    (place,) = (folder / "monitor").iterdir()
    pages = [(tmp_path / "out" / "board.html").read_bytes()]
    assert run([*words[:3], str(place), *words[4:]]) == status  # what was scored before is read, not scored
    assert pages == [(tmp_path / "out" / "board.html").read_bytes()]
