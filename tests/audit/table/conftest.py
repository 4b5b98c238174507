"""A table of predictions with one group that is missed more often, drawn once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from clinimm.audit.policy import Policy


def draw_table(n: int = 4000, seed: int = 3, bias: float = 0.0) -> pd.DataFrame:
    """Rows with race, sex and age; ``bias`` lowers the logit of women of race b."""
    generator = np.random.default_rng(seed)
    race = generator.choice(["a", "b", "c"], n, p=[0.6, 0.3, 0.1]).astype(object)
    sex = generator.choice(["female", "male"], n)
    logit = generator.normal(-1.0, 1.4, n)
    label = (generator.random(n) < expit(logit)).astype(int)
    logit = logit - bias * ((race == "b") & (sex == "female"))
    race[generator.random(n) < 0.04] = None
    return pd.DataFrame(
        {
            "subject_id": [f"s{number}" for number in range(n)],
            "label": label,
            "probability": expit(logit),
            "race": race,
            "sex": sex,
            "age": generator.integers(18, 95, n),
        }
    )


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a table as Parquet or CSV and gives its path."""

    def make(table: pd.DataFrame, name: str = "table.parquet") -> Path:
        path = tmp_path / name
        if path.suffix == ".csv":
            table.to_csv(path, index=False)
        else:
            table.to_parquet(path)
        return path

    return make


def policy_of(*rules: dict[str, Any], **table: Any) -> Policy:
    """A policy with a threshold of 0.3."""
    return Policy.model_validate(
        {
            "schema": "clinimm.policy/1",
            "statistics": {"inconclusive": "block"},
            "table": {"threshold": 0.3, **table},
            "rules": list(rules),
        }
    )


def rule(metric: str = "fnr", margin: float = 0.1, **more: Any) -> dict[str, Any]:
    """A difference of a metric by race and sex."""
    base = {"id": metric, "metric": metric, "stat": "difference", "attribute": ["race", "sex"]}
    return base | {"margin": margin} | more
