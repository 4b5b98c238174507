"""Estimated performance: what a calibration cannot mend is no fall."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import expit

from clinimm.monitor.estimate import check_estimate
from clinimm.monitor.finding import BREACH, QUIET
from clinimm.monitor.plan import MonitoringPlan


def bent(seed: int, lowered: float = 0.0) -> pd.DataFrame:
    """Scores of the ill are spread wider, so no slope and intercept calibrate them."""
    generator = np.random.default_rng(seed)
    ill = generator.random(12_000) < 0.2
    score = np.where(ill, generator.normal(0, 2, len(ill)), generator.normal(-1, 0.7, len(ill)))
    kept = generator.random(len(ill)) < expit(-lowered * score) * 2
    return pd.DataFrame(
        {
            "subject_id": [f"P{seed}-{number}" for number in range(len(ill))],
            "index_time": pd.Timestamp("2026-01-01", tz="UTC"),
            "probability": expit(score),
            "label": ill.astype(float),
        }
    )[kept].reset_index(drop=True)


def test_a_score_that_nothing_calibrates_gives_no_alarm_while_nothing_changes(plan: MonitoringPlan) -> None:
    for seed in range(3):
        found, _ = check_estimate("a", bent(seed), bent(100 + seed), 0.6, plan, 2)
        assert [one.verdict for one in found] == [QUIET, QUIET]
        value = found[1].value
        assert value is not None and abs(value) < 0.05
        assert "Of the reference it says 0.2" in found[1].sentence and "the labels 0.4" in found[1].sentence


def test_a_fall_by_the_mix_of_patients_is_still_estimated(plan: MonitoringPlan) -> None:
    found, _ = check_estimate("a", bent(1), bent(2, lowered=1.0), 0.6, plan, 2)
    assert found[1].verdict == BREACH
