from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import MetricFrame, false_negative_rate, false_positive_rate
from scipy import stats
from sklearn.metrics import precision_score, roc_auc_score

from clinimm.audit.groups import MISSING, Audited, attributes_of, cell_of, figure, overall_cell
from clinimm.core.errors import DataError
from clinimm.evaluate.operating import OperatingPoint
from clinimm.evaluate.panel import panel_of


@pytest.fixture
def audited(tables):
    predictions = tables.run_tables(n=300).predictions
    panel = panel_of(predictions, ["severe"])
    attributes = attributes_of(tables.cohort(300), predictions, panel)
    return Audited(panel, OperatingPoint(0.5, "").decisions(panel), attributes)


def test_figures_of_each_group_are_fairlearns(audited):
    label, flagged = audited.panel.label[:, 0], audited.decision
    metrics = {
        "fnr": false_negative_rate,
        "fpr": false_positive_rate,
        "ppv": lambda y, p: precision_score(y, p, zero_division=0),
    }
    expected = MetricFrame(
        metrics=metrics, y_true=label, y_pred=flagged, sensitive_features=audited.attributes["sex"]
    ).by_group
    auroc = MetricFrame(
        metrics=roc_auc_score,
        y_true=label,
        y_pred=audited.panel.probability[:, 0, 0],
        sensitive_features=audited.attributes["sex"],
    ).by_group
    for level in audited.levels("sex"):
        cell = cell_of(audited, "sex", level, 0.95, 10)
        for name in metrics:
            assert cell.figures[name].value == pytest.approx(expected.loc[level, name]), (level, name)
        assert cell.figures["auroc"].value == pytest.approx(auroc.loc[level])


def test_interval_of_a_rate_is_scipys_wilson_on_its_own_denominator(audited):
    members = audited.members("sex", "female")
    shown = figure(audited, members, "fnr", 0.95)
    missed = int(((audited.decision == 0) & (audited.panel.label[:, 0] == 1) & members).sum())
    expected = stats.binomtest(missed, shown.n).proportion_ci(0.95, "wilson")
    assert (shown.low, shown.high) == pytest.approx((expected.low, expected.high))


def test_no_miss_in_12_positives_is_not_the_interval_zero_to_zero(tables):
    # A percentile bootstrap says [0, 0] here (a defect of another tool); Wilson says [0, 0.242].
    predictions = tables.frame(np.r_[np.ones(12), np.zeros(20)], np.r_[np.full(12, 0.9), np.full(20, 0.1)])
    panel = panel_of(predictions, ["severe"])
    audited = Audited(panel, OperatingPoint(0.5, "").decisions(panel), {})
    shown = figure(audited, np.ones(32, bool), "fnr", 0.95)
    assert (shown.low, round(shown.high, 3)) == (0.0, 0.242)


def test_nobody_flagged_has_no_ppv(tables):
    # Another tool sets an undefined PPV to 1.
    panel = panel_of(tables.frame([1, 0] * 10, [0.1] * 20), ["severe"])
    audited = Audited(panel, OperatingPoint(0.5, "").decisions(panel), {})
    assert figure(audited, np.ones(20, bool), "ppv", 0.95).value is None


def test_a_missing_demographic_is_a_level_of_its_own_and_nobody_vanishes(audited):
    levels = audited.levels("sex")
    assert levels[-1] == MISSING
    assert sum(audited.members("sex", level).sum() for level in levels) == audited.panel.n


def test_attributes_are_the_cohorts_audit_columns_and_the_modalities(audited):
    expected = {"site", "sex", "age_band", "race", "ethnicity", "modalities_present"}
    assert set(audited.attributes) == expected


def test_attributes_follow_the_subject_not_the_row(tables):
    predictions = tables.frame([1, 0, 1, 0], [0.1, 0.2, 0.3, 0.4])
    table = tables.cohort(4, sex=["a", "b", "c", "d"]).iloc[::-1]
    found = attributes_of(table, predictions, panel_of(predictions, ["severe"]))
    assert found["sex"].tolist() == ["a", "b", "c", "d"]


def test_a_small_group_shows_no_figure_and_no_count(tables):
    predictions = tables.run_tables(n=60).predictions
    panel = panel_of(predictions, ["severe"])
    table = tables.cohort(60, sex=["female"] * 52 + ["male"] * 8)
    audited = Audited(panel, np.zeros(60), attributes_of(table, predictions, panel))
    cell = cell_of(audited, "sex", "male", 0.95, 10)
    assert cell.suppressed and cell.figures == {} and cell.positives is None


def test_a_predicted_subject_outside_the_cohort_is_an_error(tables):
    predictions = tables.run_tables(n=60).predictions
    with pytest.raises(DataError, match="10 predicted subjects are not in the cohort"):
        attributes_of(tables.cohort(50), predictions, panel_of(predictions, ["severe"]))


def test_a_group_with_one_class_has_no_auroc_but_a_calibration(tables):
    panel = panel_of(tables.frame(np.zeros(20), np.full(20, 0.2)), ["severe"])
    audited = Audited(panel, np.zeros(20), {})
    cell = overall_cell(audited, 0.95)
    assert cell.figures["auroc"].value is None and cell.figures["fnr"].value is None
    assert cell.figures["observed_less_predicted"].value == pytest.approx(-0.2)


def test_repeats_are_averaged_and_the_subject_stays_the_unit(tables):
    label = np.r_[np.ones(20), np.zeros(30)]
    once = tables.frame(label, tables.scores(np.random.default_rng(0), label, 1.0))
    often = pd.concat([once.assign(repeat=repeat) for repeat in range(5)])
    cells = []
    for table in (once, often):
        panel = panel_of(table, ["severe"])
        decision = OperatingPoint(0.5, "").decisions(panel)
        cells.append(overall_cell(Audited(panel, decision, {}), 0.95))
    for name, shown in cells[0].figures.items():
        other = cells[1].figures[name]
        assert (shown.value, shown.low, shown.high) == pytest.approx((other.value, other.low, other.high)), (
            name
        )
        assert shown.n == other.n


def test_interval_of_observed_less_predicted_is_scipys(audited):
    shown = figure(audited, np.ones(audited.panel.n, bool), "observed_less_predicted", 0.95)
    residual = audited.panel.label[:, 0] - audited.panel.probability[:, 0, 0]
    expected = stats.norm.interval(0.95, residual.mean(), stats.sem(residual))
    assert (shown.low, shown.high) == pytest.approx(expected)
    assert not math.isnan(shown.value)
