from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from clinimm.report.calibrated import calibrated, share_at
from clinimm.report.facts import RunFacts
from clinimm.report.subject import read_subject


def _patients(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    probability = expit(random.normal(-0.5, 1.5, count))
    return probability, (random.random(count) < probability).astype(float)


@pytest.mark.parametrize("at", [0.05, 0.4, 0.95])
def test_share_and_interval_are_those_of_logistic_regression(at: float) -> None:
    probability, label = _patients(300, 1)
    found = share_at(probability, label, at)
    assert found is not None
    fit = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit(probability)[:, None], label)
    assert found[0] == pytest.approx(fit.predict_proba([[logit(at)]])[0, 1], abs=1e-5)
    design = np.column_stack([np.ones(300), logit(probability)])
    fitted = fit.predict_proba(logit(probability)[:, None])[:, 1]
    covariance = np.linalg.inv(design.T @ np.diag(fitted * (1 - fitted)) @ design)
    error = np.sqrt(np.array([1, logit(at)]) @ covariance @ np.array([1, logit(at)]))
    assert logit(found[2]) - logit(found[1]) == pytest.approx(2 * 1.959964 * error, rel=1e-4)


def test_the_interval_holds_the_true_share_about_as_often_as_it_says() -> None:
    found = [share_at(*_patients(200, seed), 0.3) for seed in range(400)]
    held = np.mean([one is not None and one[1] <= 0.3 <= one[2] for one in found])
    assert 0.91 < held < 0.985


def test_patients_who_separate_perfectly_have_no_interval() -> None:
    probability = np.linspace(0.1, 0.9, 40)
    assert share_at(probability, (probability > 0.5).astype(float), 0.3) is None


def test_the_patient_itself_is_left_out_and_few_patients_say_nothing(run) -> None:
    facts = RunFacts(run.workspace)
    prediction = read_subject(facts, run.subject).prediction
    found = calibrated(facts, prediction)
    assert found is not None and found.n == 79
    assert found.low < found.share < found.high
    assert calibrated(facts, prediction, minimum=60) is None
