"""The evidence documents that the report stage writes of a run."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from clinimm.governance.cards.pointer import read_audit
from clinimm.progress import QUIET
from clinimm.report.stage import write_cards
from clinimm.report.words import number
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


def _pointed(files: dict[str, str]) -> list[tuple[str, str, str]]:
    """File, what stands before a pointer, and the pointer; of every pointer in every document."""
    found = []
    for name, text in files.items():
        plain = text.replace("\\", "") if name == "annex_iv.md" else text
        for words, pointer in re.findall(r"([^\n;]*?) \[audit\.json (/[^\]\s]+)\]", plain):
            found.append((name, words, pointer))
    return found


def _figures(at: Any) -> list[float]:
    """The figures that a pointer leads to: an estimate with its ends, a finding, or one figure."""
    if isinstance(at, dict):
        at = [at[end] for end in ("value", "low", "high")]
    values = at if isinstance(at, list) else [at]
    known = [one for one in values if isinstance(one, (int, float)) and not isinstance(one, bool)]
    return [] if None in values and isinstance(at, list) and at[0] is None else known


def test_every_figure_in_every_card_of_a_run_is_the_one_that_its_reference_leads_to(
    make_run: Callable[..., MockRun],
) -> None:
    """Texts show figures rounded; JSON inside them (ValueJson, hti1.json) is compared digit by digit."""
    run = make_run(subjects=900)
    write_cards(run.workspace, QUIET)
    audit = read_audit(run.workspace.root / "audit" / "published" / "audit.json")
    folder = run.workspace.root / "report" / "cards"
    files = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    pointed = _pointed({name: text for name, text in files.items() if name != "hti1.json"})
    assert {name for name, _, _ in pointed} == NAMES - {"hti1.json"}
    checked = 0
    for name, words, pointer in pointed:
        for figure in _figures(audit.resolve(pointer)):
            if name == "chai.xml" and words.strip().startswith("<Label>"):
                continue
            shown = number(figure) if isinstance(figure, float) else str(figure)
            assert shown in words, (name, words, pointer)
            checked += 1
    labels = re.findall(r"<Label>[^<]*\[audit\.json (\S+)\]</Label>\s*<ValueJson>([^<]*)<", files["chai.xml"])
    for pointer, text in labels:
        value = json.loads(html.unescape(text))
        wanted = _figures(audit.resolve(pointer))
        got = [value.get("estimate", value.get("value")), value.get("lower"), value.get("upper")]
        assert [one for one in got if one is not None] == wanted[: 3 if "estimate" in value else 1]
    attributes = json.loads(files["hti1.json"])["attributes"]
    figures = [one for item in attributes for one in item["figures"]]
    for one in figures:
        at = audit.resolve(one["pointer"])
        if isinstance(at, str):
            assert one["value"] == at
        elif isinstance(at, list):
            assert [one["value"], one.get("low"), one.get("high")] == at
        elif isinstance(at, dict):
            assert [one["value"], one.get("low"), one.get("high")] == [
                at[end] for end in ("value", "low", "high")
            ]
        else:
            assert one["value"] == at
    assert checked > 100 and sum("estimate_ci" in text for _, text in labels) > 10 and len(figures) > 50
    for name, text in files.items():
        assert name == "chai.xml" or audit.sha256 in text, name


def test_no_card_of_a_run_has_a_figure_of_a_group_that_is_hidden(run: MockRun) -> None:
    write_cards(run.workspace, QUIET)
    audit = read_audit(run.workspace.root / "audit" / "published" / "audit.json").content
    hidden = {str(at) for at, row in enumerate(audit["groups"]) if row["figures"] is None}
    silent = {str(at) for at, row in enumerate(audit["findings"]) if row["n"] is None}
    assert hidden and silent
    folder = run.workspace.root / "report" / "cards"
    for path in folder.iterdir():
        text = path.read_text(encoding="utf-8")
        assert not set(re.findall(r"/groups/(\d+)", text)) & hidden, path.name
    for item in json.loads((folder / "hti1.json").read_text())["attributes"]:
        for one in item["figures"]:
            found = re.fullmatch(r"/findings/(\d+)", one["pointer"])
            if found and found[1] in silent:
                assert one["value"] is None and "n" not in one
