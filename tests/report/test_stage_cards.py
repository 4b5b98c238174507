"""The evidence documents that the report stage writes of a run."""

from __future__ import annotations

import json

import pytest

from clinimm.progress import QUIET
from clinimm.report.stage import write_cards
from tests.report.conftest import MockRun

NAMES = {"chai.xml", "hti1.json", "annex_iv.md", "tripod_ai.csv"}


def test_a_run_gets_its_cards_twice_the_same(run: MockRun) -> None:
    folder = run.workspace.stage("report") / "cards"
    assert write_cards(run.workspace, QUIET) == len(NAMES)
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(first) == NAMES
    write_cards(run.workspace, QUIET)
    assert first == {path.name: path.read_bytes() for path in folder.iterdir()}
    empty = [one for item in json.loads(first["hti1.json"])["attributes"] for one in item["empty"]]
    assert empty and all(one["owner"] for one in empty)


def test_without_a_governance_folder_there_are_none(run: MockRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.workspace.root)
    assert write_cards(run.workspace, QUIET) == 0
    assert not (run.workspace.root / "report" / "cards").exists()
