"""Every figure of every group and intersection against an independent implementation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, confusion_matrix, roc_auc_score

from clinimm.audit.engine.measures import MEASURES, measure
from clinimm.audit.engine.rows import Coded, Rows
from clinimm.evaluate import metrics
from tests.audit.engine.conftest import draw_rows, members

_THRESHOLD = 0.3


@pytest.mark.parametrize("attributes", [(), ("race",), ("sex",), ("race", "sex")])
def test_counts_and_scores_equal_scikit_learn(rows: Rows, attributes: tuple[str, ...]) -> None:
    grouping = rows.grouping(attributes) if attributes else rows.everybody()
    figures = measure(rows.segments(grouping), _THRESHOLD)
    for group, levels in enumerate(grouping.levels):
        inside = members(rows, attributes, levels)
        label, probability = rows.label[inside], rows.probability[inside]
        (tn, fp), (fn, tp) = confusion_matrix(label, probability >= _THRESHOLD)
        n, odds = len(label), _THRESHOLD / (1 - _THRESHOLD)
        expected = {
            "sensitivity": tp / (tp + fn),
            "specificity": tn / (tn + fp),
            "fnr": fn / (tp + fn),
            "fpr": fp / (tn + fp),
            "ppv": tp / (tp + fp),
            "npv": tn / (tn + fn),
            "selection_rate": (tp + fp) / n,
            "prevalence": (tp + fn) / n,
            "net_benefit": tp / n - fp / n * odds,
            "net_benefit_less_treat_all": tp / n - fp / n * odds - ((tp + fn) / n - (tn + fp) / n * odds),
            "auroc": roc_auc_score(label, probability),
            "auprc": average_precision_score(label, probability),
            "brier": brier_score_loss(label, probability),
            "ece": metrics.calibration_error(label.astype(float), probability),
            "observed_less_predicted": label.mean() - probability.mean(),
        }
        for name, value in expected.items():
            assert figures[name].value[group] == pytest.approx(value, abs=1e-12), (name, levels)


def test_calibration_equals_a_logistic_regression_without_penalty() -> None:
    rows = draw_rows(3000, digits=6)
    grouping = rows.grouping(["race"])
    figures = measure(rows.segments(grouping), _THRESHOLD, ["calibration_slope", "calibration_intercept"])
    for group, levels in enumerate(grouping.levels):
        inside = members(rows, ("race",), levels)
        label, kept = rows.label[inside].astype(float), np.clip(rows.probability[inside], 1e-6, 1 - 1e-6)
        logit = np.log(kept / (1 - kept))
        fitted = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit[:, None], label)
        assert figures["calibration_slope"].value[group] == pytest.approx(fitted.coef_[0, 0], abs=2e-5)
        large = metrics.calibration(label, rows.probability[inside]).intercept
        assert figures["calibration_intercept"].value[group] == pytest.approx(large, abs=1e-6)


def test_auroc_variance_is_delongs(rows: Rows) -> None:
    grouping = rows.grouping(["race"])
    figures = measure(rows.segments(grouping), _THRESHOLD, ["auroc"])["auroc"]
    for group, levels in enumerate(grouping.levels):
        inside = members(rows, ("race",), levels)
        placed = metrics.placements(rows.label[inside].astype(float), rows.probability[inside])
        assert figures.standard_error[group] ** 2 == pytest.approx(metrics.delong_variance(*placed))


@pytest.mark.parametrize("name", [name for name in MEASURES if name != "ece"])
def test_influence_foretells_what_a_bootstrap_of_rows_does(name: str) -> None:
    rows = draw_rows(600, seed=1)
    part = rows.segments(rows.everybody())
    figure = measure(part, _THRESHOLD, [name])[name]
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(300):
        take = generator.integers(0, rows.n, rows.n)
        again = Rows(rows.label[take], rows.probability[take], {})
        drawn.append(measure(again.segments(again.everybody()), _THRESHOLD, [name])[name].value[0])
    assert figure.standard_error[0] == pytest.approx(np.std(drawn), rel=0.2)
    assert np.sqrt(np.sum(figure.by_block[:, 0] ** 2)) == pytest.approx(np.std(drawn), rel=0.2)


def test_doubled_rows_of_a_subject_do_not_narrow_any_interval() -> None:
    once = draw_rows(800, seed=2, digits=6)
    twice = Rows(
        np.repeat(once.label, 2),
        np.repeat(once.probability, 2),
        {name: Coded(np.repeat(c.code, 2), c.levels) for name, c in once.attributes.items()},
        np.repeat(np.arange(800), 2),
    )
    for names in (("race",), ("race", "sex")):
        single = measure(once.segments(once.grouping(names)), _THRESHOLD)
        double = measure(twice.segments(twice.grouping(names)), _THRESHOLD)
        for name in set(MEASURES) - {"ece", "calibration_slope"}:
            before, after = (
                end[1] - end[0] for end in (single[name].bounds(0.95), double[name].bounds(0.95))
            )
            known = ~np.isnan(before) & ~np.isnan(after)
            assert np.all(after[known] >= 0.98 * before[known]), name


def test_a_group_with_one_class_has_no_auroc_and_keeps_its_rates() -> None:
    rows = Rows(
        np.array([0, 0, 1, 0, 1], dtype=np.uint8),
        np.array([0.1, 0.6, 0.2, 0.4, 0.9]),
        {"site": Coded(np.array([0, 0, 1, 1, 1]), ("north", "south"))},
    )
    figures = measure(rows.segments(rows.grouping(["site"])), 0.5)
    assert np.isnan(figures["auroc"].value[0])
    assert figures["fpr"].value[0] == 0.5
    assert np.isnan(figures["fnr"].value[0])
    assert np.isnan(figures["fnr"].bounds(0.95)[0][0])


def test_intersections_up_to_order_four_hold_every_row_once() -> None:
    rows = draw_rows(500)
    generator = np.random.default_rng(3)
    more = {name: Coded(generator.integers(0, 3, 500), ("x", "y", "z")) for name in ("age", "site")}
    rows = Rows(rows.label, rows.probability, {**rows.attributes, **more})
    groupings = rows.groupings([1, 2, 3, 4])
    assert len(groupings) == 4 + 6 + 4 + 1
    for grouping in groupings:
        assert rows.segments(grouping).size.sum() == 500
        assert rows.segments(grouping).size.min() > 0


def test_several_groupings_at_once_are_each_by_itself(rows: Rows) -> None:
    groupings = [rows.grouping(["race"]), rows.everybody(), rows.grouping(["race", "sex"])]
    together = measure(rows.stacked(groupings), 0.3)
    for name, figures in together.items():
        each = [measure(rows.segments(one), 0.3, [name])[name] for one in groupings]
        assert np.allclose(figures.value, np.concatenate([one.value for one in each]), equal_nan=True), name
        for end in (0, 1):
            apart = np.concatenate([one.bounds(0.95)[end] for one in each])
            assert np.allclose(figures.bounds(0.95)[end], apart, equal_nan=True), name
