from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from jsonschema import Draft202012Validator
from sklearn.metrics import roc_auc_score

from clinimm.config import EvaluateConfig
from clinimm.core.errors import DataError
from clinimm.evaluate.assemble import Task, evaluate_tables
from clinimm.evaluate.stage import SCHEMA_FILE
from clinimm.evaluate.summary import summary_lines

TASK = Task("diagnosis", "binary", ("severe",))
CONFIG = EvaluateConfig(bootstraps=100)
VALIDATOR = Draft202012Validator(json.loads(SCHEMA_FILE.read_text()))


def evaluate(run, task=TASK, config=CONFIG):
    metrics = evaluate_tables(run, task, config, seed=0).metrics
    VALIDATOR.validate(metrics)
    json.dumps(metrics, allow_nan=False)
    assert summary_lines(metrics)
    return metrics


def several(tables, kind, n=90):
    """Three classes; multi-class labels are exclusive, multi-label ones are not."""
    generator = np.random.default_rng(0)
    names = ("a", "b", "c")
    if kind == "multiclass":
        label = np.eye(3)[np.arange(n) % 3]
    else:
        label = (generator.random((n, 3)) < [0.3, 0.4, 0.5]).astype(float)
    make = lambda strength, **extra: pd.concat(  # noqa: E731
        [
            tables.frame(
                label[:, k], tables.scores(generator, label[:, k], strength), class_name=name, **extra
            )
            for k, name in enumerate(names)
        ]
    )
    controls = pd.concat([make(0.5, control=name) for name in ("single:ehr", "late_fusion")])
    from clinimm.evaluate.assemble import Tables

    run = Tables(make(3.0), make(3.0, split="tuning"), make(1.0, subset="ehr"), controls)
    return run, Task("diagnosis", kind, names)


def test_binary_metrics_fit_the_schema_and_equal_scikit_learns(tables):
    run = tables.run_tables(n=150, repeats=2)
    metrics = evaluate(run)
    each = [
        roc_auc_score(part["label"], part["probability"]) for _, part in run.predictions.groupby("repeat")
    ]
    assert metrics["fused"]["auroc"]["value"] == pytest.approx(np.mean(each), abs=1e-6)
    assert (metrics["n"], metrics["positives"], metrics["repeats"], metrics["folds"]) == (150, 60, 2, 5)
    assert metrics["fused"]["sensitivity"]["n"] == 60
    assert {row["role"] for row in metrics["controls"]} == {"single", "simple", "alarm"}
    assert len(metrics["comparisons"]) == len(metrics["controls"])


def test_the_same_input_gives_the_same_bytes_whatever_the_order_of_rows(tables):
    run = tables.run_tables(n=80)
    shuffled = replace(
        run,
        **{
            name: getattr(run, name).sample(frac=1, random_state=1)
            for name in ("predictions", "tuning", "subsets", "controls")
        },
    )
    assert json.dumps(evaluate(run)) == json.dumps(evaluate(shuffled))


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_several_classes_give_a_mean_and_each_class(tables, kind):
    run, task = several(tables, kind)
    metrics = evaluate(run, task)
    each = [row["fused"]["auroc"]["value"] for row in metrics["classes"]]
    assert metrics["fused"]["auroc"]["value"] == pytest.approx(np.mean(each), abs=1e-5)
    assert metrics["fused"]["sensitivity"]["reason"] == "given per class"
    assert metrics["verdict"]["key"] == "helps"
    if kind == "multiclass":
        label = run.predictions.pivot(index="subject_id", columns="class_name", values="label").to_numpy()
        score = run.predictions.pivot(
            index="subject_id", columns="class_name", values="probability"
        ).to_numpy()
        expected = roc_auc_score(label, score, average="macro")
        assert metrics["fused"]["auroc"]["value"] == pytest.approx(expected, abs=1e-6)


def test_one_class_only_is_not_estimable_and_no_crash(tables):
    run = tables.run_tables(n=40, share=1.0)
    metrics = evaluate(run)
    assert metrics["fused"]["auroc"]["value"] is None
    assert "only one class" in metrics["fused"]["auroc"]["reason"]
    assert metrics["fused"]["brier"]["value"] is not None
    assert metrics["verdict"]["key"] == "cannot_tell" and metrics["comparisons"] == []


def test_fewer_than_the_minimum_shows_no_figure(tables):
    metrics = evaluate(tables.run_tables(n=8))
    assert all(figure["value"] is None for figure in metrics["fused"].values())
    assert "below the minimum of 10" in metrics["fused"]["auroc"]["reason"]


def test_complete_separation_has_no_slope_and_no_nan(tables):
    run = tables.run_tables(n=60, fused=40.0)
    metrics = evaluate(run)
    assert metrics["fused"]["auroc"]["value"] == 1.0
    assert metrics["fused"]["calibration_slope"]["value"] is None


def test_subjects_without_a_label_are_counted(tables):
    run = tables.run_tables(n=60)
    unknown = run.predictions["subject_id"].isin(["S00000", "S00001"])
    run = replace(run, predictions=run.predictions.assign(label=run.predictions["label"].mask(unknown)))
    metrics = evaluate(run)
    assert (metrics["n"], metrics["unlabelled"]) == (58, 2)


def test_no_label_at_all_is_a_data_error(tables):
    run = tables.run_tables(n=20)
    with pytest.raises(DataError, match="nothing to evaluate"):
        evaluate(replace(run, predictions=run.predictions.assign(label=np.nan)))


def test_empty_tables_of_subsets_and_controls_are_no_error(tables):
    run = tables.run_tables(n=60)
    metrics = evaluate(replace(run, subsets=run.subsets.iloc[:0], controls=run.controls.iloc[:0]))
    assert metrics["subsets"] == [] and metrics["verdict"]["key"] == "cannot_tell"


def test_tuning_rows_of_controls_are_not_judged(tables):
    run = tables.run_tables(n=60)
    both = pd.concat([run.controls, run.controls.assign(split="tuning", probability=0.5)])
    assert evaluate(replace(run, controls=both))["controls"] == evaluate(run)["controls"]


def test_a_subset_is_judged_on_its_own_subjects_and_paired_on_the_same(tables):
    run = tables.run_tables(n=100)
    part = run.subsets[(run.subsets["subset"] != "ehr") | (run.subsets["subject_id"] < "S00070")]
    metrics = evaluate(replace(run, subsets=part))
    row = next(row for row in metrics["subsets"] if row["subset"] == "ehr")
    assert (row["n"], row["positives"], row["full_less_subset"]["n"]) == (70, 40, 70)
    assert row["full_less_subset"]["difference"] > 0


def test_calibration_bins_of_a_perfectly_calibrated_model_have_an_interval_that_reaches_zero(tables):
    generator = np.random.default_rng(0)
    probability = generator.random(400)
    label = (generator.random(400) < probability).astype(float)
    run = tables.run_tables(n=400)
    metrics = evaluate(
        replace(
            run,
            predictions=tables.frame(label, probability),
            controls=run.controls.iloc[:0],
            subsets=run.subsets.iloc[:0],
        )
    )
    ece = metrics["fused"]["ece"]
    assert ece["low"] < 0.02 < ece["value"]
    slope = metrics["fused"]["calibration_slope"]
    assert slope["low"] < 1 < slope["high"]
