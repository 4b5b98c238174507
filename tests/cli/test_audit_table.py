from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from clinimm.cli.app import run
from tests.audit.table.conftest import draw_table, write

__all__ = ["write"]


def _run(path: Path, out: Path, *more: str) -> int:
    asked = ["--attribute", "sex", "--metric", "fnr", "--threshold", "0.3", "--margin", "0.1"]
    return run(["audit-table", str(path), *asked, "--out", str(out), *more])


def test_exit_status_says_pass_fail_inconclusive_bad_input_and_other_evidence(
    write: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert _run(write(draw_table(20_000)), out) == 0
    assert _run(write(draw_table(20_000)), out, "--check") == 0
    assert _run(write(draw_table(20_000, bias=2.5)), out, "--check") == 4
    assert "does not match" in capsys.readouterr().err
    assert _run(write(draw_table(20_000, bias=2.5)), out) == 1
    assert _run(write(draw_table(200)), out) == 2
    assert _run(write(draw_table(200).drop(columns="sex")), out) == 3
    assert "no column sex" in capsys.readouterr().err
    assert sorted(path.name for path in out.iterdir()) == [
        "audit.html",
        "audit.json",
        "findings.csv",
        "groups.csv",
        "junit.xml",
        "published",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--metric", "accuracy"], "--metric"),
        (["--bins", "age"], "expected ATTRIBUTE=VALUE"),
        (["--bins", "age=old,young"], "expected numbers"),
        (["--source", "sex=guess"], "source"),
        (["--policy", "nowhere.yaml"], "leave out --attribute"),
    ],
)
def test_a_wrong_option_is_named(
    write: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    assert _run(write(draw_table(200)), tmp_path / "out", *words) == 3
    assert said in capsys.readouterr().err


def test_a_policy_file_takes_the_place_of_the_options(write: Callable[..., Path], tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "schema: clinimm.policy/1\n"
        "statistics: {inconclusive: warn}\n"
        "table: {threshold: 0.3, attributes: {age: {bins: [40, 65], source: registry}}}\n"
        "rules:\n"
        "  - {id: missed, metric: fnr, stat: difference, attribute: [sex, age], margin: 0.02}\n",
        encoding="utf-8",
    )
    path = write(draw_table(500), "table.csv")
    assert run(["audit-table", str(path), "--policy", str(policy), "--out", str(tmp_path / "out")]) == 0


def test_torch_is_never_imported(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write(draw_table(300))
    code = (
        "import sys; from clinimm.cli.app import run;"
        f"run(['audit-table', {str(path)!r}, '--attribute', 'sex', '--metric', 'auroc', '--threshold', '0.3',"
        f" '--margin', '0.1', '--out', {str(tmp_path / 'out')!r}]); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
