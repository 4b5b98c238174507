from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from clinimm.core.errors import ModelError
from clinimm.staining.fit_safety import fit_safety
from clinimm.staining.plant import plant
from clinimm.staining.refusal import refusal_curve
from clinimm.staining.safety import SafetyCase, StainedTile, over_tissue
from clinimm.staining.tissue_damage import Damage
from tests.staining.safety_toy import RADIUS_PX, RESOLUTION_UM, draw, example, examples

SHARE = 0.1


@pytest.fixture(scope="module")
def case() -> SafetyCase:
    return fit_safety(examples("a", 6), examples("b", 6, first=2000), RESOLUTION_UM, SHARE)


def test_json_keeps_every_verdict(case: SafetyCase) -> None:
    again = SafetyCase.from_json(json.loads(json.dumps(case.to_json(), allow_nan=False)))
    one = example(4000, "c")
    assert again.refuse(one.source, one.stained) == case.refuse(one.source, one.stained)
    with pytest.raises(ModelError, match="this version reads"):
        SafetyCase.from_json({**case.to_json(), "format": "other"})


def test_few_usual_tiles_are_refused(case: SafetyCase) -> None:
    thresholds = case.stains["KI67"].thresholds
    assert 0 < thresholds.refused <= SHARE * thresholds.tiles
    verdicts = [case.refuse(one.source, one.stained) for one in examples("c", 5, first=4000)]
    assert np.mean([one.refused for one in verdicts]) < 0.4
    assert all(one.refused == bool(one.reasons) == (one.risk > 1) for one in verdicts)


def test_each_harm_is_refused_for_its_own_reason(case: SafetyCase) -> None:
    one = example(4001, "c")
    assert "uncertain" in _reasons(
        case, one.source, replace(one.stained, expected_error=one.stained.expected_error * 5)
    )
    noise = np.random.default_rng(0).integers(0, 256, one.source.shape).astype(np.uint8)
    assert "outside" in _reasons(case, noise, one.stained)
    assert "outside" in _reasons(case, one.source, replace(one.stained, features=one.stained.features + 9))
    planted = plant(one.stained.rgb, draw(4001).nuclei, "pasted", 2, RADIUS_PX)
    assert "hallucination" in _reasons(case, one.source, replace(one.stained, rgb=planted.rgb))
    assert case.refuse(one.source, one.stained, Damage(0.9, "fold")).reasons[-1] == "fold"


def test_a_tile_is_judged_alone(case: SafetyCase) -> None:
    tiles = [example(4100 + n, "c") for n in range(3)]
    forwards = [case.refuse(one.source, one.stained) for one in tiles]
    backwards = [case.refuse(one.source, one.stained) for one in reversed(tiles)]
    assert forwards == backwards[::-1]


def test_uncertainty_is_calibrated_error(case: SafetyCase) -> None:
    tiles = examples("c", 5, first=4200)
    expected = np.mean([case.uncertainty(one.stained).mean() for one in tiles])
    assert expected == pytest.approx(np.mean([one.mean_error() for one in tiles]), rel=0.15)


def test_refusing_the_risky_lowers_the_error_of_the_rest(case: SafetyCase) -> None:
    tiles = examples("c", 6, first=4300)
    risk = np.array([case.refuse(one.source, one.stained).uncertainty for one in tiles])
    found = refusal_curve(
        risk, np.array([one.mean_error() for one in tiles]), [one.subject_id for one in tiles]
    )
    assert found.gain.low > 0.5


def test_the_refuser_is_the_case_bound_to_a_stain(case: SafetyCase) -> None:
    one = example(4400, "c")
    refuser = case.refuser("KI67")
    parts = (one.source, one.stained.rgb, one.stained.expected_error, one.stained.features)
    damage = Damage(1.0, "pen")
    assert refuser(*parts, damage) == case.refuse(one.source, one.stained, damage).reasons != ()
    assert refuser(*parts) == case.refuse(one.source, one.stained).reasons
    assert refuser.digest == case.refuser("KI67").digest
    with pytest.raises(ModelError, match="known are KI67"):
        case.refuser("HER2")


def test_glass_does_not_dilute_the_error_of_tissue() -> None:
    source = np.full((64, 64, 3), 250, np.uint8)
    source[:16] = 120
    error = np.where(np.arange(64)[:, None] < 16, 0.2, 0.0) * np.ones((64, 64))
    assert over_tissue(error, source, np.full_like(source, 250)) == pytest.approx(0.2)
    assert over_tissue(error, np.full_like(source, 250), np.full_like(source, 250)) == pytest.approx(0.05)


def test_judging_a_tile_needs_no_torch() -> None:
    code = "import sys, clinimm.staining.safety, clinimm.staining.refusal; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _reasons(case: SafetyCase, source: np.ndarray, stained: StainedTile) -> tuple[str, ...]:
    return case.refuse(source, stained).reasons
