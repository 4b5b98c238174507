"""Small groups: neither shown, nor to be had by subtraction."""

from __future__ import annotations

import numpy as np
import pytest

from clinimm.audit.engine.rows import Coded, Rows
from clinimm.monitor.finding import BREACH, CANNOT_TELL, QUIET, beyond_either_way
from clinimm.monitor.gaps import _hidden, check_gaps
from clinimm.monitor.plan import MonitoringPlan
from tests.monitor.conftest import draw


def _rows(*counts: int) -> Rows:
    code = np.repeat(np.arange(len(counts)), counts).astype(np.int16)
    levels = tuple("abcdef"[: len(counts)])
    return Rows(np.zeros(len(code), np.uint8), np.zeros(len(code)), {"sex": Coded(code, levels)}, None, 0)


@pytest.mark.parametrize(
    ("counts", "hidden"),
    [
        ((50, 60), ""),
        ((4, 60), "ab"),
        ((4, 60, 30), "ac"),
        ((4, 5, 60), "abc"),
        ((4, 8, 60), "ab"),
        ((0, 30, 60), ""),
    ],
)
def test_what_is_hidden_is_never_one_level_nor_fewer_than_the_smallest(
    counts: tuple[int, ...], hidden: str
) -> None:
    found = _hidden("sex", (_rows(*counts),), 10)
    assert found == frozenset(hidden)
    if found:
        total = sum(counts["abcdef".index(level)] for level in found)
        assert len(found) > 1 and total >= 10


def test_a_level_that_was_small_on_either_side_is_hidden_and_so_is_its_mirror(plan: MonitoringPlan) -> None:
    before, now = draw(300, 1), draw(300, 2, day=90)
    now["sex"] = np.where(np.arange(300) < 6, "female", "male")
    sexes = [one.set_index("subject_id")[["sex"]].astype(object) for one in (before, now)]
    findings, rows = check_gaps("x", before, now, (sexes[0], sexes[1]), 0.4, plan, 1)
    assert findings and rows
    assert {one.verdict for one in findings} <= {CANNOT_TELL}
    assert all(row["n"] is None and row["value"] is None and row["periods"] == [] for row in rows)
    assert all(one.n == 0 for one in findings)


@pytest.mark.parametrize(("fault", "verdicts"), [("gap", {BREACH}), ("", {CANNOT_TELL, QUIET})])
def test_a_group_whose_risks_became_too_low_is_found_from_both_sides(
    plan: MonitoringPlan, fault: str, verdicts: set[str]
) -> None:
    plan = plan.model_copy(
        update={"gaps": plan.gaps.model_copy(update={"metrics": ("observed_less_predicted",)})}
    )
    before, now = draw(900, 1), draw(900, 2, fault, day=90)
    sexes = [one.set_index("subject_id")[["sex"]].astype(object) for one in (before, now)]
    findings, _ = check_gaps("x", before, now, (sexes[0], sexes[1]), 0.4, plan, 1)
    assert len(findings) == 2
    assert {one.verdict for one in findings} <= verdicts


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        ((0.11, 0.3), BREACH),
        ((-0.3, -0.11), BREACH),
        ((-0.1, 0.1), QUIET),
        ((-0.2, 0.0), CANNOT_TELL),
        ((-0.2, 0.2), CANNOT_TELL),
        ((float("nan"), 0.0), CANNOT_TELL),
    ],
)
def test_either_way(ends: tuple[float, float], verdict: str) -> None:
    assert beyond_either_way((sum(ends) / 2, *ends), 0.1) == verdict
