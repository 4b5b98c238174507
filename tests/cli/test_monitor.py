from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from clinimm.cli.app import run
from tests.monitor.conftest import draw

FEW_DRAWS = (
    "schema: clinimm.monitoring/1\nthreshold: 0.4\ndrift: {permutations: 499, needed: true}\n"
    "embeddings: {permutations: 499, most: 60}\nestimate: {draws: 100}\n"
    "cusum: {run_length: 100, streams: 100}\n"
)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    draw(120, 1).to_parquet(tmp_path / "before.parquet", index=False)
    draw(120, 2, day=90).to_parquet(tmp_path / "same.parquet", index=False)
    draw(120, 3, "drift", day=90).to_parquet(tmp_path / "moved.parquet", index=False)
    draw(12, 4, day=90).to_parquet(tmp_path / "few.parquet", index=False)
    (tmp_path / "plan.yaml").write_text(FEW_DRAWS)
    return tmp_path


def _run(files: Path, data: str, *more: str) -> int:
    words = ["monitor", str(files / "before.parquet"), "--data", str(files / data), "--attribute", "sex"]
    return run([*words, "--out", str(files / "out"), "--plan", str(files / "plan.yaml"), *more])


def test_exit_status_says_nothing_breach_cannot_tell_and_bad_input(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(files, "same.parquet") == 0
    assert _run(files, "few.parquet") == 2
    assert _run(files, "absent.parquet") == 3
    assert "no such file" in capsys.readouterr().err
    assert not (files / "out" / "incidents").exists()
    assert _run(files, "moved.parquet", "--on", "2026-05-06") == 1
    shown = capsys.readouterr().out
    assert "lactate" in shown and "incident 1: incident-0001-2026-05-06.json" in shown
    first = [(files / "out" / name).read_bytes() for name in ("board.html", "monitor.json")]
    assert _run(files, "moved.parquet", "--on", "2026-09-09") == 1
    assert first == [(files / "out" / name).read_bytes() for name in ("board.html", "monitor.json")]
    assert json.loads(first[1])["schema"] == "clinimm.monitor/1"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--since", "2025-02-01"], "either --data PATH, or --since"),
        (["--threshold", "1.5"], "--threshold 1.5"),
        (["--attribute", "race"], "no column race"),
        (["--drawn", "2024-01-01"], "--drawn 2024-01-01: same.parquet holds a prediction of"),
        (["--drawn", "2027-01-01", "--on", "2026-09-09"], "later than the day of the look, 2026-09-09"),
        (["--feedback", "nowhere.parquet"], "no table of feedback"),
    ],
)
def test_a_wrong_option_is_named(
    files: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert _run(files, "same.parquet", *words) == 3
    assert said in capsys.readouterr().err


def test_a_mistake_in_the_plan_names_its_line(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "plan.yaml").write_text("schema: clinimm.monitoring/1\nminimum: many\n")
    assert _run(files, "same.parquet") == 3
    assert "plan.yaml:2: minimum" in capsys.readouterr().err


def test_tables_alone_do_without_torch(files: Path) -> None:
    words = ["monitor", str(files / "before.parquet"), "--data", str(files / "few.parquet")]
    words += ["--out", str(files / "out"), "--plan", str(files / "plan.yaml")]
    code = f"import sys; from clinimm.cli.app import run; run({words!r}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert (files / "out" / "board.html").is_file()
