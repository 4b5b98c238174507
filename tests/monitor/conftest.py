"""Tables with known truth: a calibrated model, and faults that can be planted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from clinimm.monitor.plan import MonitoringPlan

START = pd.Timestamp("2025-01-01", tz="UTC")


def draw(n: int, seed: int, fault: str = "", day: int = 0, days: int = 90) -> pd.DataFrame:
    """``n`` subjects from ``day`` on; ``fault`` is one of those that are named below, or none."""
    generator = np.random.default_rng(seed)
    sex = generator.choice(["female", "male"], n)
    lactate, crp = generator.normal(1.5, 0.6, n), generator.normal(40, 10, n)
    score = -1 + 2 * (lactate - 1.5) / 0.6
    probability, chance = expit(score), expit(score)
    device = generator.choice(["A", "B"], n)
    if fault == "drift":
        lactate = lactate + 0.8
    if fault == "device":
        device = np.full(n, "C")
    if fault == "concept":
        chance = np.full(n, chance.mean())
    if fault == "calibration":
        chance = expit(score + 1.5)
    if fault == "gap":
        probability = np.where(sex == "female", expit(score - 3), probability)
    return pd.DataFrame(
        {
            "subject_id": [f"person-{seed}-{number:05d}" for number in range(n)],
            "index_time": START + pd.to_timedelta(day + np.sort(generator.random(n)) * days, unit="D"),
            "probability": probability,
            "label": (generator.random(n) < chance).astype(float),
            "sex": sex,
            "ehr.lactate": lactate,
            "ehr.crp": crp,
            "image.device": device,
        }
    )


@pytest.fixture
def plan() -> MonitoringPlan:
    """Every part at its default, few draws."""
    return MonitoringPlan.model_validate(
        {
            "schema": "clinimm.monitoring/1",
            "threshold": 0.4,
            "drift": {"permutations": 999},
            "embeddings": {"permutations": 999, "most": 150},
            "estimate": {"draws": 100},
            "cusum": {"run_length": 300, "streams": 100},
        }
    )
