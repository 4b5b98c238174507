from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
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
        (["--source", "sexx=inferred"], "nothing asks for sexx"),
        (["--bins", "sex=nan"], "expected numbers"),
        (["--margin", "2"], "--margin"),
        (["--margin", "nan"], "--margin"),
        (["--threshold", "nan"], "threshold"),
        (["--threshold", "1.5"], "threshold"),
        (["--attribute", ""], "a name is missing"),
        (["--attribute", "race*"], "a name is missing"),
        (["--attribute", "race*race"], "the same attribute twice"),
        (["--attribute", "race*sex", "--attribute", "sex*race"], "asked for twice"),
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


def _broken(table: pd.DataFrame, what: str) -> pd.DataFrame:
    if what == "one class":
        return table.assign(label=0)
    if what == "per cent":
        return table.assign(probability=100 * table["probability"])
    if what == "no label":
        return table.assign(label=table["label"].where(table.index > 2))
    if what == "many levels":
        return table.assign(sex=[f"level {number}" for number in range(len(table))])
    if what == "lists":
        return table.assign(sex=pd.Series([["female"]] * len(table)))
    return table.iloc[:0]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("one class", "every row is 0"),
        ("per cent", "divide by 100"),
        ("no label", "label: 3 rows are empty"),
        ("many levels", "300 different values, at most 30"),
        ("lists", "expected text, numbers or days"),
        ("no rows", "the table has no rows"),
    ],
)
def test_a_table_that_cannot_be_audited_says_why(
    write: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str, said: str
) -> None:
    assert _run(write(_broken(draw_table(300), what)), tmp_path / "out") == 3
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_table_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = draw_table(300).to_csv(index=False)
    twice = text.replace("race,sex", "sex,sex", 1)
    for name, content, said in (
        ("empty.csv", "", "cannot be read: Empty CSV"),
        ("empty.parquet", "", "cannot be read"),
        ("csv.parquet", text, "cannot be read"),
        ("twice.csv", twice, "several columns are called sex"),
        ("table.xlsx", text, "expected a .parquet or .csv file"),
    ):
        (tmp_path / name).write_text(content, encoding="utf-8")
        assert _run(tmp_path / name, tmp_path / "out") == 3, name
        assert said in capsys.readouterr().err, name


def test_the_same_attribute_and_measure_twice_are_judged_once(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    path = write(draw_table(300))
    assert _run(path, tmp_path / "once") == _run(
        path, tmp_path / "twice", "--attribute", "sex", "--metric", "fnr"
    )
    once, twice = ((tmp_path / name / "audit.json").read_bytes() for name in ("once", "twice"))
    assert once == twice


def test_a_group_that_is_called_rest_is_judged_as_any_other(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    table = draw_table(300)
    _run(write(table.assign(sex=table["sex"].replace({"male": "rest"}))), tmp_path / "out")
    findings = json.loads((tmp_path / "out" / "audit.json").read_text())["findings"]
    assert {row["level"] for row in findings} == {"female", "rest"}


def test_an_attribute_whose_name_means_something_else_is_refused(
    write: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(draw_table(300).rename(columns={"race": "overall"}))
    assert _run(path, tmp_path / "out", "--attribute", "overall") == 3
    assert "overall cannot be an attribute's name" in capsys.readouterr().err


def test_files_of_others_are_neither_overwritten_nor_removed(
    write: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write(draw_table(300)), tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert _run(path, out) == 2
    assert (out / "notes.txt").read_text() == "mine"
    other = tmp_path / "other"
    other.mkdir()
    (other / "audit.html").write_text("mine")
    assert _run(path, other) == 3
    assert "holds audit.html and no audit" in capsys.readouterr().err
    assert [one.name for one in other.iterdir()] == ["audit.html"]
    assert _run(path, path) == 3
    assert "cannot be written" in capsys.readouterr().err


def test_signals_of_an_earlier_audit_do_not_stay_beside_a_later_one(
    write: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write(draw_table(300)), tmp_path / "out"
    _run(path, out, "--slices")
    assert (out / "signals.html").exists()
    assert _run(path, out, "--check") == 4
    assert "signals.html is of another audit" in capsys.readouterr().err
    _run(path, out)
    assert not (out / "signals.html").exists()
    assert _run(path, out, "--check") == 2
