"""Rows with three attributes and a bias that can be planted, drawn once."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from clinimm.audit.engine.rows import Coded, Rows


def draw_rows(n: int, seed: int = 0, bias: float = 0.0, drift: float = 0.0, slope: float = 1.0) -> Rows:
    """Rows whose label follows the risk.

    Args:
        n: rows.
        seed: of the draws.
        bias: taken off the logit of women of race b over 60.
        drift: how much the risk rises with age; the label follows, so nobody is treated unfairly.
        slope: below 1 the model is miscalibrated, for everybody alike.
    """
    generator = np.random.default_rng(seed)
    race, sex = generator.choice(3, n, p=[0.5, 0.35, 0.15]), generator.integers(0, 2, n)
    age = generator.integers(0, 3, n)
    logit = generator.normal(-1.0, 1.2, n) + drift * age
    label = (generator.random(n) < expit(logit)).astype(np.uint8)
    shown = slope * (logit - bias * ((race == 1) & (sex == 0) & (age == 2)))
    attributes = {
        "race": Coded(race, ("a", "b", "c")),
        "sex": Coded(sex, ("female", "male")),
        "age": Coded(age, ("below 40", "40 to below 60", "60 and above")),
    }
    return Rows(label, expit(shown), attributes)


def most_alarms(runs: int, alpha: float = 0.05) -> int:
    """Alarms that a detector at its alpha stays below in 999 of 1000 such experiments."""
    from scipy.stats import binom

    return int(binom.ppf(0.999, runs, alpha))
