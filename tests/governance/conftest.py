"""A small governance folder with a test of its own to name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

HAZARDS = """schema: clinimm.hazards/1
severities: {negligible: a, minor: b, serious: c, critical: d, catastrophic: e}
likelihoods: {improbable: a, remote: b, occasional: c, probable: d, frequent: e}
matrix: {acceptable: 8, tolerable: 12}
hazards:
  - id: H1
    hazard: Something could go wrong.
    sequence: It begins here and ends there.
    harm: A patient.
    severity: critical
    before: probable
    after: remote
    controls:
      - what: It is made impossible.
        kind: design
        tests: [tests/room/test_room.py::test_it_is_impossible]
        evidence: audit/audit.json
"""
TESTS = """import pytest

def test_it_is_impossible(): pass
@pytest.mark.skip(reason="never")
def test_never(): pass
def helper(): pass
class TestRoom:
    def test_inside(self): pass
@pytest.mark.parametrize("x", [1, 2])
def test_each(x): pass
"""


@pytest.fixture
def repository(tmp_path):
    """A repository of one test and a governance folder without problems."""
    folder = tmp_path / "governance"
    shutil.copytree(ROOT / "governance", folder, ignore=shutil.ignore_patterns("decisions", "hazards.yaml"))
    (folder / "hazards.yaml").write_text(HAZARDS)
    (tmp_path / "tests" / "room").mkdir(parents=True)
    (tmp_path / "tests" / "room" / "test_room.py").write_text(TESTS)
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\naddopts = "-q"\n')  # as ours
    return tmp_path
