"""Bets of whole patients: what one patient repeats is no new evidence."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from clinimm.monitor.betting import bet
from clinimm.monitor.finding import BREACH, Finding
from clinimm.monitor.plan import MonitoringPlan
from clinimm.monitor.sequential import check_sequence

START = pd.Timestamp("2026-01-01", tz="UTC")
MISSED = "a: missed among those with the outcome"


def table(seed: int, subjects: int, rows: int, misses: float = 0.3) -> pd.DataFrame:
    """Who is missed is missed at each visit; visits of a subject follow each other."""
    generator = np.random.default_rng(seed)
    missed, ill = generator.random(subjects) < misses, generator.random(subjects) < 0.5
    low = np.where(ill, missed, generator.random(subjects) < 0.8)
    place = np.repeat(np.arange(subjects), rows)
    return pd.DataFrame(
        {
            "subject_id": [f"P{seed}-{number}" for number in place],
            "index_time": START + pd.to_timedelta(np.arange(len(place)), unit="h"),
            "probability": np.where(low, 0.2, 0.8)[place],
            "label": ill.astype(float)[place],
        }
    )


@pytest.fixture
def quick(plan: MonitoringPlan) -> MonitoringPlan:
    """Charts with a limit that is soon simulated."""
    return plan.model_copy(
        update={"cusum": plan.cusum.model_copy(update={"run_length": 100, "streams": 100})}
    )


def found(before: pd.DataFrame, now: pd.DataFrame, plan: MonitoringPlan) -> list[Finding]:
    return check_sequence("a", before, now, 0.5, plan, 1)[0]


def test_rows_of_the_same_patients_say_no_more_than_one_of_each(quick: MonitoringPlan) -> None:
    before, now = (table(seed, 120, 1) for seed in (1, 2))
    then, today = (pd.concat([one] * 5).sort_values("index_time", kind="stable") for one in (before, now))
    once = [asdict(one) for one in found(before, now, quick)]
    assert once == [asdict(one) for one in found(then, today, quick)]


def test_visits_that_go_together_raise_no_more_alarms_than_promised(quick: MonitoringPlan) -> None:
    """One alarm in forty would be likely at one in a hundred; one in four came when visits were bet on."""
    alarms = sum(
        any(
            one.part == "betting" and one.verdict == BREACH
            for one in found(table(seed, 80, 6), table(1000 + seed, 80, 6), quick)
        )
        for seed in range(40)
    )
    assert alarms <= 3


def test_a_fault_is_still_found_and_the_p_value_is_that_of_all_bets(quick: MonitoringPlan) -> None:
    before, now = table(1, 600, 2), table(2, 600, 2, misses=0.8)
    (missed,) = (one for one in found(before, now, quick) if one.about == MISSED)
    assert missed.verdict == BREACH
    events = (now[now["label"] == 1].drop_duplicates("subject_id")["probability"] < 0.5).to_numpy(float)
    alone = bet(events, float(missed.limit or 0), quick.betting.alpha / 4).p_value
    assert missed.p_value == pytest.approx(4 * alone)
    assert missed.n == len(events)


def test_a_chart_says_from_how_many_its_calibration_was_estimated(quick: MonitoringPlan) -> None:
    charts = [one for one in found(table(1, 90, 2), table(2, 90, 2), quick) if one.part == "cusum"]
    assert len(charts) == 2
    assert all("were the calibration known; it was estimated from 90," in one.sentence for one in charts)


def test_labels_that_are_late_are_told(quick: MonitoringPlan) -> None:
    before, now = table(1, 200, 1), table(2, 200, 1)
    assert not any("no label" in one.sentence for one in found(before, now, quick))
    now.loc[now.index[:7], "label"] = np.nan
    bets = [one for one in found(before, now, quick) if one.part == "betting"]
    assert all("7 of 200 that are old enough have no label;" in one.sentence for one in bets)
