"""Shares of files and events: as sure as their subjects make them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from clinimm.monitor.finding import BREACH, CANNOT_TELL, Finding
from clinimm.monitor.plan import MonitoringPlan
from clinimm.monitor.quality import check_quality
from clinimm.monitor.snapshot import ROW_COLUMNS, Intake, Snapshot


def intake(flagged: int, subjects: float, refused: int = 0) -> Snapshot:
    units = pd.DataFrame({"code": ["a"], "unit": ["b"], "low": 1.0, "median": 2.0, "high": 3.0, "count": 99})
    found = Intake(1000, {"truncated": refused}, {"ehr": 3000}, {"future": flagged}, units, subjects)
    rows = pd.DataFrame(columns=list(ROW_COLUMNS))
    return Snapshot("now", "0" * 64, rows, pd.DataFrame(), intake=found)


def share_of(about: str, found: list[Finding]) -> Finding:
    return next(one for one in found if one.about == about)


@pytest.mark.parametrize(("subjects", "verdict"), [(30.0, CANNOT_TELL), (3000.0, BREACH)])
def test_events_of_few_subjects_say_little_about_a_share(
    plan: MonitoringPlan, subjects: float, verdict: str
) -> None:
    """A tenth then and a fifth now: of 30 subjects three and six, of 3,000 three and six hundred."""
    found = check_quality(intake(300, subjects), intake(600, subjects, 200), plan, None)
    for about in ("flagged events", "refused files"):
        assert share_of(about, found).verdict == verdict
    assert share_of("flagged events", found).value == pytest.approx(0.1)


def test_flags_on_whole_subjects_raise_no_more_alarms_than_promised(plan: MonitoringPlan) -> None:
    """Nothing changes. Counted as 3,000 events, 15 % of these looks alarmed."""
    generator, alarms = np.random.default_rng(0), 0
    for _ in range(200):
        before, now = (int((generator.random(30) < 0.1).sum()) * 100 for _ in range(2))
        found = check_quality(intake(before, 30.0), intake(now, 30.0), plan, None)
        alarms += share_of("flagged events", found).verdict == BREACH
    assert alarms <= 4
