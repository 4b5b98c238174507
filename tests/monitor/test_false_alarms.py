"""What is promised about false alarms, and that it holds where it can be counted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from clinimm.monitor.betting import bet
from clinimm.monitor.false_alarms import BOUNDED, promised
from clinimm.monitor.plan import PACKAGED, MonitoringPlan, Part, load_plan
from clinimm.monitor.sequential import _bound, check_sequence


def _acting(plan: MonitoringPlan, acts: Mapping[str, str]) -> MonitoringPlan:
    parts = {name: getattr(plan, name).model_copy(update={"act": act}) for name, act in acts.items()}
    return plan.model_copy(update=parts)


def test_every_part_that_acts_is_in_the_sum_and_a_cusum_that_acts_too() -> None:
    plan = load_plan(PACKAGED)
    parts = {name for name, field in MonitoringPlan.model_fields.items() if isinstance(field.default, Part)}
    assert {*BOUNDED, "cusum"} == parts
    found = promised(plan, patients=1000)
    assert found.one_look == pytest.approx(0.09)
    assert found.one_year == pytest.approx(0.09 * 12)
    assert found.all_looks == pytest.approx(0.02)
    assert found.cusum_expected == pytest.approx(2 * 1000 / 5000)
    acting = promised(_acting(plan, {"cusum": "recheck"}), 1000, classes=2)
    assert acting.one_look == pytest.approx(0.09 + 4 * 1000 / 5000)
    quiet = promised(_acting(plan, {"quality": "observe", "betting": "observe"}))
    assert (quiet.one_look, quiet.not_bounded) == (pytest.approx(0.07), ())
    assert quiet.all_looks == pytest.approx(0.01)


@pytest.mark.parametrize(("size", "rate"), [(10, 0.2), (30, 0.1), (200, 0.3)])
def test_an_unlucky_reference_lies_above_its_bound_no_more_often_than_half_of_alpha(
    size: int, rate: float
) -> None:
    """By enumeration of every reference; the point estimate and a margin alone would not hold it."""
    alpha, growth = 0.005, 0.10
    counts = np.arange(size + 1)
    chance = binom.pmf(counts, size, rate)
    events = [np.repeat([1.0, 0.0], [count, size - count]) for count in counts]
    beyond = np.array([_bound(one, growth, alpha / 2) < rate for one in events])
    assert chance[beyond].sum() <= alpha / 2
    if size == 10:
        assert chance[counts / size + growth < rate].sum() > alpha / 2


def test_a_bet_against_a_small_reference_waits_for_more_than_the_margin(plan: MonitoringPlan) -> None:
    def table(missed: int, positives: int) -> pd.DataFrame:
        probability = np.repeat([0.1, 0.9, 0.1], [missed, positives - missed, 100])
        label = np.repeat([1.0, 0.0], [positives, 100])
        subject = [f"P{number}" for number in range(len(label))]
        columns = {"subject_id": subject, "probability": probability, "label": label, "index_time": pd.NaT}
        return pd.DataFrame(columns)

    before, now = table(2, 15), table(60, 150)
    (finding,) = (one for one in check_sequence("x", before, now, 0.4, plan, 1)[0] if "missed" in one.about)
    assert finding.limit is not None and finding.limit > 2 / 15 + plan.betting.missed_growth + 0.1
    assert bet(np.repeat([1.0, 0.0], [60, 90]), 2 / 15 + plan.betting.missed_growth, 0.01).alarm is not None
