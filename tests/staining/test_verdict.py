"""The verdict, where the truth is known."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from clinimm.staining.baselines import fit_baselines
from clinimm.staining.biology import BiologySettings, Measured, measure_stain
from clinimm.staining.verdict import (
    AS_REGISTERED,
    BLOCK,
    CANNOT_TELL,
    LEARNABLE,
    NOT_LEARNABLE,
    StainVerdict,
    evidence_of,
    judge_stain,
    signed,
)
from tests.staining.measured_toy import draw_measured, draw_pair

SEEDS = range(20)


def _judge(measured: Measured, **changes: object) -> StainVerdict:
    subjects = measured.images["unit"].nunique()
    evidence = evidence_of(measured, "model", subjects)
    return judge_stain(replace(evidence, **changes))  # type: ignore[arg-type]  # any field may be changed


def test_a_stain_that_the_model_knows_is_learnable_in_every_draw() -> None:
    knows = {"model": 0.7, "quadratic": 0.3}
    keys = Counter(_judge(draw_measured(seed, knows)).key for seed in range(10))
    assert keys == {LEARNABLE: 10}


def test_a_stain_that_nothing_determines_is_never_called_learnable() -> None:
    keys = Counter(_judge(draw_measured(seed, {}, subjects=20, regions=30)).key for seed in SEEDS)
    assert keys[LEARNABLE] <= 1  # the stated level is one in twenty
    assert keys[NOT_LEARNABLE] >= 0.8 * len(SEEDS)


@pytest.mark.parametrize("knows", [{}, {"model": 0.3}])
def test_too_little_data_cannot_tell(knows: dict[str, float]) -> None:
    verdicts = [_judge(draw_measured(seed, knows, subjects=5, regions=6, nuclei=20)) for seed in SEEDS]
    keys = Counter(verdict.key for verdict in verdicts)
    assert keys[CANNOT_TELL] >= 0.8 * len(SEEDS)
    assert any(verdict.more_units for verdict in verdicts)
    assert "more subjects would be needed" in next(v.sentence for v in verdicts if v.more_units)


def test_a_model_that_only_looks_right_is_told_apart_in_words() -> None:
    verdicts = [
        _judge(draw_measured(seed, {}, subjects=20, regions=30, looks={"model": 26.0})) for seed in range(8)
    ]
    for verdict in verdicts:
        if verdict.key != LEARNABLE:
            assert "do not take likeness for biology" in " ".join(verdict.warnings)
    plain = _judge(draw_measured(0, {}, subjects=20, regions=30))
    assert "likeness" not in " ".join(plain.warnings)


def test_a_baseline_that_suffices_is_named() -> None:
    knows = {"model": 0.8, "quadratic": 0.8}
    verdict = _judge(draw_measured(1, knows))
    assert (verdict.key, verdict.use) == (CANNOT_TELL, "quadratic")
    assert "quadratic already follows the stain" in verdict.sentence


def test_fewer_than_four_subjects_ask_for_more_or_for_blocks() -> None:
    verdict = _judge(draw_measured(0, {"model": 0.9}, subjects=3))
    assert verdict.key == CANNOT_TELL
    assert "3 subjects allow no interval" in verdict.sentence
    assert verdict.more_units == 1


def test_blocks_speak_of_their_subjects_only() -> None:
    measured = draw_measured(0, {"model": 0.9})
    verdict = judge_stain(evidence_of(measured, "model", 2, BLOCK))
    assert verdict.key == LEARNABLE
    assert "within 2 subjects, 12 blocks of tissue; this says nothing of other subjects" in verdict.sentence


def test_what_registration_is_too_coarse_for_is_not_judged() -> None:
    measured = draw_measured(0, {})
    cells = _judge(measured, registration_error_um=10.0)
    assert (
        "Not judged, because registration is 10.0 µm off" in " ".join(cells.warnings)
        or cells.key != CANNOT_TELL
    )
    assert [one.name for one in cells.evidence.usable] == ["region_correlation"]
    verdict = _judge(measured, registration_error_um=60.0)
    assert verdict.key == CANNOT_TELL
    assert "better registration or larger regions are needed" in verdict.sentence


def test_a_worse_measure_is_shown_beside_a_better_one() -> None:
    measured = draw_measured(0, {"model": 0.9, "quadratic": 0.5})
    nuclei = measured.nuclei.assign(model=np.random.default_rng(0).normal(size=len(measured.nuclei)))
    verdict = _judge(replace(measured, nuclei=nuclei))
    assert verdict.key == LEARNABLE
    assert any("worse than quadratic" in warning for warning in verdict.warnings)


def test_a_baseline_that_is_better_is_named_whatever_the_verdict() -> None:
    measured = replace(draw_measured(1, {"model": 0.8, "quadratic": 0.8}), stain="DAPI")
    images, random = measured.images, np.random.default_rng(0)
    for name, dice in {"model": 0.72, "quadratic": 0.75}.items():
        own = images["method"] == name
        images.loc[own, "dice"] = dice + 0.01 * random.normal(size=own.sum())
    verdict = _judge(measured)
    assert verdict.key == CANNOT_TELL
    gain = next(one for one in verdict.evidence.usable if one.name == "dice").gains["quadratic"]
    assert gain.high < 0  # the paired interval lies below zero as a whole
    said = [warning for warning in verdict.warnings if "worse than quadratic" in warning]
    assert said == [f"On the stained area (dice) the model is worse than quadratic: {signed(gain)}."]


def test_a_baseline_that_is_better_is_named_where_a_stain_is_not_learnable() -> None:
    measured = draw_measured(0, {"deconvolution": 0.15}, subjects=60, regions=30)
    verdict = _judge(measured)
    assert verdict.key == NOT_LEARNABLE
    assert any("worse than deconvolution" in warning for warning in verdict.warnings)


@pytest.mark.parametrize(
    ("knows", "key"),
    [
        ({"model": 0.7, "quadratic": 0.3}, LEARNABLE),
        ({}, NOT_LEARNABLE),
        ({"model": 0.8, "quadratic": 0.8}, CANNOT_TELL),
    ],
)
def test_pairs_that_were_taken_as_registered_are_said_to_be_so(knows: dict[str, float], key: str) -> None:
    measured = draw_measured(2, knows, subjects=20, regions=30)
    verdict = _judge(measured)
    assert verdict.key == key
    assert verdict.warnings[-1] == AS_REGISTERED
    assert AS_REGISTERED not in _judge(measured, registration_error_um=0.0).warnings


def test_a_stain_of_all_cells_is_judged_by_its_area() -> None:
    measured = replace(draw_measured(0, {}), stain="DAPI")
    names = [one.name for one in evidence_of(measured, "model", 12).biology]
    assert names == ["region_correlation", "dice"]


@pytest.mark.parametrize("rule", ["determined", "undetermined"])
def test_simulated_tissue_is_judged_rightly(rule: str) -> None:
    pairs = [draw_pair(seed, rule, pixels=256) for seed in range(7)]  # type: ignore[arg-type]
    fitted = fit_baselines(pairs[:2])
    held_out = pairs[2:]
    # The best model there can be: the same tissue, with all that chance decides drawn anew.
    model = [draw_pair(seed, rule, 1, 256).targets["KI67"] for seed in range(2, 7)]  # type: ignore[arg-type]
    made = {name: [one.predict(pair.source, "KI67") for pair in held_out] for name, one in fitted.items()}
    measured = measure_stain(held_out, "KI67", {**made, "model": model}, BiologySettings(region_um=32.0))
    verdict = _judge(measured)
    assert (verdict.key == LEARNABLE) == (rule == "determined")
