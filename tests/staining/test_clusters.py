from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn.metrics import roc_auc_score

from clinimm.staining.clusters import auroc_figure, cluster_figure, figure_json, ratio, weighted_auroc


def _mean(values: np.ndarray):
    return lambda weights: ratio(weights @ values, weights.sum(axis=1))


def test_with_one_row_a_subject_the_interval_is_scipys_bca_of_the_mean() -> None:
    values = np.random.default_rng(0).exponential(size=40)
    found = cluster_figure(_mean(values), [f"s{i:02d}" for i in range(40)], draws=8000)
    other = bootstrap(
        (values,), np.mean, n_resamples=8000, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((other.low, other.high), abs=0.02)


def test_repeating_every_row_of_a_subject_changes_nothing() -> None:
    values = np.random.default_rng(1).normal(size=12)
    names = [f"s{i:02d}" for i in range(12)]
    once, often = (
        cluster_figure(_mean(values), names),
        cluster_figure(_mean(np.repeat(values, 50)), np.repeat(names, 50)),
    )
    assert (once.low, once.high, once.n) == pytest.approx((often.low, often.high, often.n))


def test_weights_are_the_same_as_repeating_rows() -> None:
    generator = np.random.default_rng(2)
    positive, score = generator.random(30) < 0.4, generator.integers(0, 6, 30).astype(float)
    weights = generator.integers(0, 4, size=(5, 30)).astype(float)
    found = weighted_auroc(positive, score, weights)
    for row, value in zip(weights.astype(int), found, strict=True):
        assert value == pytest.approx(roc_auc_score(np.repeat(positive, row), np.repeat(score, row)))


def test_complete_separation_still_has_an_interval() -> None:
    positive = np.repeat([False, True], 10)
    found = auroc_figure(positive, positive.astype(float), [f"s{i}" for i in range(10)] * 2)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(10 / (10 + 1.959964**2))  # Wilson's lower end for 10 of 10


def test_few_subjects_give_a_number_without_an_interval_and_a_reason() -> None:
    found = cluster_figure(_mean(np.arange(6.0)), ["a", "a", "b", "b", "c", "c"])
    assert found.value == 2.5
    assert not found.known
    assert "3 subjects" in found.reason
    assert figure_json(found)["low"] is None


def test_one_class_alone_has_no_auroc() -> None:
    found = auroc_figure(np.zeros(8, dtype=bool), np.arange(8.0), [f"s{i}" for i in range(8)])
    assert found.text() == "not estimable"
