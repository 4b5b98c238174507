from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from clinimm.monitor.expected import Calibrations, Recalibration, _expected_auroc, expected_performance
from clinimm.monitor.label_shift import estimate_shift


def _sample(n: int, seed: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    probability = expit(generator.normal(-1 + shift, 1.5, n))
    return (generator.random(n) < probability).astype(float), probability


def test_the_expected_auroc_is_the_mean_over_labels_drawn_from_the_probabilities() -> None:
    probability = np.round(_sample(120, 0)[1], 1)  # ties
    generator = np.random.default_rng(1)
    top = bottom = 0.0
    for _ in range(400):
        label = generator.random(120) < probability
        pairs = label.sum() * (~label).sum()
        top, bottom = top + roc_auc_score(label, probability) * pairs, bottom + pairs
    assert _expected_auroc(probability, probability) == pytest.approx(top / bottom, abs=0.008)


def test_the_estimate_follows_the_case_mix_and_covers_what_the_labels_say() -> None:
    calibrations = Calibrations.fit(*_sample(600, 2), 60, 0)
    covered = 0
    for seed in range(40):
        label, probability = _sample(400, 100 + seed, shift=1.0)
        found = expected_performance(calibrations, probability, 0.4, 0.95, seed)["sensitivity"]
        truth = (probability[label == 1] >= 0.4).mean()
        covered += found.low <= truth <= found.high
    assert covered >= 33  # 38 are expected; 1 in 1000 that a 95 % interval covers fewer


def test_probabilities_are_calibrated_on_the_reference_first() -> None:
    label, probability = _sample(4000, 3)
    twisted = expit(2 * np.log(probability / (1 - probability)) - 1)  # too extreme, and too low
    found = Recalibration.fit(label, twisted)
    assert found.slope == pytest.approx(0.5, abs=0.05)
    assert found.of(twisted).mean() == pytest.approx(label.mean(), abs=0.02)


def test_label_shift_is_estimated_and_covered() -> None:
    generator = np.random.default_rng(4)

    def decisions(n: int, prevalence: float) -> tuple[np.ndarray, np.ndarray]:
        label = generator.random(n) < prevalence
        return label, generator.random(n) < np.where(label, 0.8, 0.2)

    covered = 0
    for seed in range(60):
        found = estimate_shift(*decisions(500, 0.3), decisions(500, 0.5)[1], 0.95, seed)
        assert found is not None
        covered += found.low <= 0.5 <= found.high
    assert covered >= 52
    label, _ = decisions(500, 0.3)
    assert estimate_shift(label, generator.random(500) < 0.5, generator.random(500) < 0.5, 0.95, 0) is None
