from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from clinimm.config import EvaluateConfig
from clinimm.evaluate.assemble import Task, compare_controls
from clinimm.evaluate.bootstrap import Difference, draw_weights
from clinimm.evaluate.estimate import Estimate
from clinimm.evaluate.panel import panel_of
from clinimm.evaluate.verdict import Evidence, judge, more_positives

TASK = Task("diagnosis", "binary", ("severe",))


def auroc(value, half=0.05):
    return Estimate(value, value - half, value + half, 300, 120, "")


def gap(name, value, half=0.05):
    return Difference(name, value, value - half, value + half, 0.5, half / 1.96, 300, 120)


def evidence(fused, half=0.05, **others):
    """Controls by their AUROC; ``single_ehr`` stands for ``single:ehr``."""
    values = {name.replace("single_", "single:"): value for name, value in others.items()}
    differences = {name: gap(name, fused - value, half) for name, value in values.items()}
    return Evidence(auroc(fused, half), {k: auroc(v, half) for k, v in values.items()}, differences, 0.02)


def test_a_clear_gain_over_everything_helps():
    verdict = judge(evidence(0.9, single_ehr=0.7, late_fusion=0.8, gradient_boosting=0.8))
    assert (verdict.key, verdict.model) == ("helps", "fused")
    assert verdict.sentence.startswith("Fusion helps")


def test_the_rival_is_the_best_single_modality():
    verdict = judge(evidence(0.9, single_ehr=0.7, single_notes=0.88))
    assert verdict.key == "cannot_tell" and "single:notes" in verdict.sentence


def test_every_single_modality_must_be_beaten():
    level = evidence(0.863, single_ehr=0.8, single_radiology=0.8)
    told = level.differences | {"single:ehr": replace(level.differences["single:ehr"], low=-0.002)}
    verdict = judge(
        replace(level, controls=level.controls | {"single:radiology": auroc(0.801)}, differences=told)
    )
    assert (verdict.key, verdict.model) == ("cannot_tell", "single:ehr")
    assert "0.800 (0.75 to 0.85) for single:ehr, a difference of +0.063 (-0.002 to +0.11)" in verdict.sentence
    assert (
        "the best single modality, single:radiology, is beaten by a difference of +0.063" in verdict.sentence
    )
    assert judge(level).key == "helps"


def test_a_single_modality_without_an_interval_is_not_called_beaten():
    level = evidence(0.9, single_ehr=0.8, single_notes=0.7)
    told = level.differences | {"single:notes": replace(level.differences["single:notes"], low=float("nan"))}
    verdict = judge(replace(level, differences=told))
    assert verdict.key == "cannot_tell" and "single:notes has no interval" in verdict.sentence


def test_a_simpler_combination_that_is_not_beaten_is_offered():
    verdict = judge(evidence(0.9, single_ehr=0.7, late_fusion=0.8, gradient_boosting=0.89))
    assert (verdict.key, verdict.model) == ("helps", "gradient_boosting")
    assert "does not clearly beat gradient_boosting" in verdict.sentence


def test_no_gain_within_the_margin_does_not_help():
    verdict = judge(evidence(0.8, half=0.015, single_ehr=0.8))
    assert (verdict.key, verdict.model) == ("does_not_help", "single:ehr")
    assert "margin of 0.02" in verdict.sentence


def test_a_loss_does_not_help():
    verdict = judge(evidence(0.7, single_ehr=0.9, late_fusion=0.85))
    assert (verdict.key, verdict.model) == ("does_not_help", "single:ehr")
    assert "below zero" in verdict.sentence


def test_an_open_comparison_says_how_many_more_positives():
    verdict = judge(evidence(0.84, single_ehr=0.81))
    assert verdict.key == "cannot_tell" and verdict.more_positives
    assert f"{verdict.more_positives:,} more positives" in verdict.sentence


def test_no_signal_in_the_fused_model_is_cannot_tell():
    verdict = judge(evidence(0.53, half=0.06, single_ehr=0.5, single_notes=0.57))
    assert (verdict.key, verdict.model) == ("cannot_tell", None)
    assert "no signal was found" in verdict.sentence


def test_a_fused_model_that_failed_to_learn_is_found_out():
    verdict = judge(evidence(0.51, single_ehr=0.9))
    assert (verdict.key, verdict.model) == ("does_not_help", "single:ehr")


def test_missingness_that_predicts_as_well_is_shouted_and_no_model_is_recommended():
    verdict = judge(evidence(0.9, single_ehr=0.7, missingness_only=0.88))
    assert "WARNING: who was measured predicts as well as what was measured" in verdict.sentence
    assert verdict.model is None and len(verdict.warnings) == 1


def test_missingness_that_predicts_less_well_is_mentioned_only():
    verdict = judge(evidence(0.9, single_ehr=0.7, missingness_only=0.65))
    assert "WARNING" not in verdict.sentence and verdict.model == "fused"
    assert "already predicts" in verdict.warnings[0]


def test_metadata_that_predicts_as_well_is_shouted():
    assert "view, site or device" in judge(evidence(0.9, single_ehr=0.7, metadata_only=0.9)).sentence


def test_missingness_that_beats_a_fused_model_without_signal_is_shouted():
    verdict = judge(evidence(0.52, single_ehr=0.53, missingness_only=0.9))
    assert verdict.key == "cannot_tell"
    assert "WARNING: who was measured predicts as well as what was measured" in verdict.sentence


def test_missingness_level_with_a_fused_model_without_signal_is_mentioned_only():
    verdict = judge(evidence(0.53, single_ehr=0.5, missingness_only=0.56))
    assert "WARNING" not in verdict.sentence and "already predicts" in verdict.warnings[0]


def test_a_simple_model_that_only_reads_who_was_measured_is_not_recommended():
    found = evidence(0.85, half=0.015, single_ehr=0.85, missingness_only=0.83)
    assert judge(found).key == "does_not_help" and judge(found).model is None
    assert "which single:ehr does not clearly beat" in judge(found).sentence
    beaten = {("single:ehr", "missingness_only"): gap("missingness_only", 0.02, 0.015)}
    assert judge(replace(found, over_alarms=beaten)).model == "single:ehr"


def test_simple_models_are_compared_with_the_alarms_on_the_same_draws(tables):
    label = (np.arange(120) < 45).astype(float)
    generator = np.random.default_rng(3)
    good = np.clip(label * 0.5 + generator.random(120) * 0.5, 0, 1)
    make = lambda score, **extra: tables.frame(label, score, **extra)  # noqa: E731
    panel = panel_of(make(good), TASK.classes)
    weights = draw_weights(panel.strata, 200, 0)
    controls = pd.concat(
        [make(good, control="single:ehr"), make(generator.random(120), control="missingness_only")]
    )
    _, found = compare_controls(panel, controls, TASK, weights, EvaluateConfig(bootstraps=200))
    difference = found.over_alarms["single:ehr", "missingness_only"]
    # The fused scores are the single model's, so both comparisons are the same one.
    assert difference == found.differences["missingness_only"]
    assert difference.low > 0


def test_nothing_to_compare_with_is_cannot_tell():
    assert judge(evidence(0.9)).key == "cannot_tell"


def test_more_positives_follow_the_variance():
    # Half the standard error needs a quarter of the total.
    total = 120 + more_positives(gap("x", 0.01, 0.2), 0.02, 0.95)
    half = 120 + more_positives(gap("x", 0.01, 0.1), 0.02, 0.95)
    assert total / half == pytest.approx(4, rel=0.06)


@pytest.mark.slow
def test_nothing_to_find_is_called_so_in_at_least_19_of_20_seeds(tables):
    generator = np.random.default_rng(7)
    keys = [_verdict_on_noise(tables, generator) for _ in range(20)]
    assert keys.count("cannot_tell") >= 19
    assert keys.count("helps") == 0


def _verdict_on_noise(tables, generator):
    label = (np.arange(120) < 45).astype(float)
    make = lambda **extra: tables.frame(label, generator.random(120), **extra)  # noqa: E731
    names = [f"{kind}:{name}" for kind in ("single", "linear") for name in ("ehr", "notes", "radiology")]
    names += ["late_fusion", "gradient_boosting", "missingness_only", "metadata_only"]
    controls = pd.concat([make(control=name) for name in names])
    panel = panel_of(make(), TASK.classes)
    weights = draw_weights(panel.strata, 300, 0)
    return judge(compare_controls(panel, controls, TASK, weights, EvaluateConfig())[1]).key
