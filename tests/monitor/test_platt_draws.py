from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from clinimm.calibrate import platt
from clinimm.monitor.platt_draws import platt_draws


@pytest.mark.parametrize("shift", [0.0, 4.0, -3.0])
def test_every_resample_gets_what_a_search_from_nothing_finds(shift: float) -> None:
    generator = np.random.default_rng(5)
    logits = generator.normal(size=120) * 2
    labels = (generator.random(120) < expit(0.5 * logits + shift)).astype(float)
    rows = generator.integers(0, 120, (40, 120))
    found = platt_draws(logits, labels, rows, platt(logits, labels))
    expected = np.array([platt(logits[one], labels[one]) for one in rows])
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_a_resample_of_one_label_says_nothing() -> None:
    found = platt_draws(np.array([0.0, 1.0]), np.array([0.0, 1.0]), np.zeros((1, 6), int), (1.0, 0.0))
    assert found.tolist() == [[1.0, 0.0]]
