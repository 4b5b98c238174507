from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REGISTER = (ROOT / "governance" / "risk-register.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", REGISTER)))
ROWS = [line for line in REGISTER.splitlines() if re.match(r"\| H\d+ ", line)]


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_each_named_test_exists(file: str, name: str) -> None:
    assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8")


def test_each_hazard_has_a_control_and_a_test() -> None:
    assert len(ROWS) >= 15
    for row in ROWS:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == 6
        assert cells[3], f"{cells[0]} has no control"
        assert "::" in cells[4], f"{cells[0]} names no test"
