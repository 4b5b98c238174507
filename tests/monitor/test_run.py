"""Planted faults against the whole look: each is found by the parts that can see it, and by no other."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from clinimm.core.errors import ConfigError, DataError
from clinimm.monitor.finding import BREACH, CANNOT_TELL
from clinimm.monitor.page import board
from clinimm.monitor.plan import PACKAGED, MonitoringPlan
from clinimm.monitor.read_table import read_table
from clinimm.monitor.run import (
    EXIT_BREACH,
    EXIT_CANNOT_TELL,
    EXIT_QUIET,
    Looked,
    content_of,
    look,
    summary_lines,
)
from clinimm.monitor.snapshot import Snapshot
from tests.monitor.conftest import draw


@pytest.fixture
def snapshot(tmp_path: Path) -> Callable[[str, pd.DataFrame], Snapshot]:
    def write(name: str, table: pd.DataFrame) -> Snapshot:
        table.to_parquet(tmp_path / f"{name}.parquet", index=False)
        return read_table(tmp_path / f"{name}.parquet", ["sex"])

    return write


def _breached(looked: Looked) -> set[str]:
    return {one.part for one in looked.findings if one.verdict == BREACH}


@pytest.mark.parametrize(
    ("fault", "found", "silent"),
    [
        (
            "",
            set(),
            {"quality", "drift", "embeddings", "predictions", "performance", "estimate", "gaps", "betting"},
        ),
        ("drift", {"drift", "embeddings"}, {"performance", "gaps", "betting", "predictions"}),
        ("device", {"drift"}, {"performance", "embeddings"}),
        ("concept", {"performance", "betting"}, {"drift", "embeddings", "estimate", "predictions"}),
        ("calibration", {"performance", "cusum"}, {"drift", "estimate", "predictions"}),
        ("gap", {"gaps", "predictions"}, {"drift", "embeddings"}),
    ],
)
def test_a_planted_fault_is_found_where_it_can_be_seen(
    snapshot: Callable[..., Snapshot], plan: MonitoringPlan, fault: str, found: set[str], silent: set[str]
) -> None:
    looked = look(snapshot("before", draw(900, 11)), snapshot("now", draw(900, 12, fault, 90)), plan)
    assert found <= _breached(looked)
    assert not silent & _breached(looked)
    assert looked.exit_status == (EXIT_BREACH if found else EXIT_QUIET)
    if fault == "drift":
        (drifted,) = (one for one in looked.findings if one.part == "drift" and one.about == "ehr")
        assert "lactate" in drifted.sentence and "crp" not in drifted.sentence
    if fault == "gap":
        assert any(
            "sex = female" in one.about for one in looked.findings if one.part == "gaps" and one.alarms
        )


def test_too_few_cannot_tell_and_says_so(snapshot: Callable[..., Snapshot], plan: MonitoringPlan) -> None:
    needed = plan.model_copy(update={"drift": plan.drift.model_copy(update={"needed": True})})
    looked = look(snapshot("before", draw(200, 1)), snapshot("now", draw(20, 2, "drift")), needed)
    assert looked.exit_status == EXIT_CANNOT_TELL
    assert {one.verdict for one in looked.findings if one.part == "drift"} == {CANNOT_TELL}
    assert (
        look(snapshot("before", draw(200, 1)), snapshot("now", draw(20, 2)), plan).exit_status == EXIT_QUIET
    )


def test_without_labels_there_are_estimates_and_each_says_that_it_is_one(
    snapshot: Callable[..., Snapshot], plan: MonitoringPlan, tmp_path: Path
) -> None:
    before, now = snapshot("before", draw(300, 3)), snapshot("now", draw(200, 4, day=90).assign(label=None))
    looked = look(before, now, plan)
    estimates = [one for one in looked.findings if one.estimate]
    assert {one.part for one in estimates} == {"estimate", "predictions"}
    assert all("estimate" in one.about and re.search("an estimate", one.sentence, re.I) for one in estimates)
    assert {one.verdict for one in looked.findings if one.part == "performance"} == {CANNOT_TELL}
    content = content_of(looked, before, now, plan, PACKAGED, None, None, date(2026, 1, 1))
    assert "estimate, outcome" in board(content)


def test_the_board_is_the_same_twice_self_contained_and_names_nobody(
    snapshot: Callable[..., Snapshot], plan: MonitoringPlan, tmp_path: Path
) -> None:
    hostile = draw(150, 6, "device").rename(columns={"ehr.crp": "ehr.<script>alert(1)</script>"})
    before = draw(150, 5).rename(columns={"ehr.crp": "ehr.<script>alert(1)</script>"})
    pages = []
    for _ in range(2):
        sides = snapshot("before", before), snapshot("now", hostile)
        content = content_of(
            look(*sides, plan), *sides, plan, PACKAGED, tmp_path / "incidents", None, date(2026, 1, 2)
        )
        pages.append((json.dumps(content, sort_keys=True, allow_nan=False), board(content)))
    assert pages[0] == pages[1]
    text, page = pages[0]
    assert content["exit_status"] == EXIT_BREACH
    assert "<script" not in page and "&lt;script&gt;" in page
    assert not re.search(r"(?:src|href)=\"(?!#|data:)", page)
    for kept in (text, page, *(path.read_text() for path in (tmp_path / "incidents").iterdir())):
        assert not any(subject in kept for subject in [*before["subject_id"], *hostile["subject_id"]])
    assert any("device" in line for line in summary_lines(content))
    assert len(list((tmp_path / "incidents").glob("*.json"))) == 1


def test_another_model_and_nothing_in_common_are_told(
    snapshot: Callable[..., Snapshot], plan: MonitoringPlan
) -> None:
    before, now = draw(60, 7), draw(60, 8).assign(model_digest="b" * 64)
    looked = look(snapshot("before", before), snapshot("now", now), plan, deployed="a" * 64)
    assert [one.about for one in looked.findings if one.part == "quality" and one.alarms] == ["model"]
    with pytest.raises(DataError, match="nothing in common"):
        look(snapshot("before", before), snapshot("now", now.assign(class_name="other")), plan)
    with pytest.raises(ConfigError, match="no threshold"):
        look(
            snapshot("before", before),
            snapshot("now", now),
            plan.model_copy(update={"threshold": None}),
        )
