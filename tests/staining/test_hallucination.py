from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from clinimm.core.errors import DataError
from clinimm.staining.hallucination import HallucinationCheck, fit_check
from clinimm.staining.plant import plant
from tests.staining.safety_toy import RADIUS_PX, RESOLUTION_UM, draw, example


@pytest.fixture(scope="module")
def check() -> HallucinationCheck:
    train, tuning = ([example(first + n, "x") for n in range(12)] for first in (0, 100))
    real = [[(one.source, one.target, one.valid) for one in tiles] for tiles in (train, tuning)]
    return fit_check(*real, [(one.source, one.stained.rgb) for one in tuning], RESOLUTION_UM)


def test_the_way_back_draws_the_source_structure(check: HallucinationCheck) -> None:
    assert check.agreement > 0.95
    tissue = draw(500)
    assert len(check.nuclei(tissue.source)) == pytest.approx(len(tissue.nuclei), abs=1)


@pytest.mark.parametrize("kind", ["pasted", "erased"])
@pytest.mark.parametrize("seed", range(200, 206))
def test_a_planted_nucleus_is_found_at_its_place(check: HallucinationCheck, kind, seed: int) -> None:
    one, nuclei = example(seed, "x"), draw(seed).nuclei
    planted = plant(one.stained.rgb, nuclei, kind, 1, RADIUS_PX, seed)
    found = check.compare(one.source, planted.rgb)
    places, others = (found.invented, found.lost) if kind == "pasted" else (found.lost, found.invented)
    assert len(places) == 1
    assert len(others) == 0
    assert np.hypot(*(places[0] - planted.places[0])) < RADIUS_PX
    assert check.score(one.source, planted.rgb) > 1.5


def test_tiles_as_they_should_be_are_consistent(check: HallucinationCheck) -> None:
    scores = [check.score(one.source, one.stained.rgb) for one in (example(n, "x") for n in range(300, 312))]
    assert np.mean(np.array(scores) <= 1) > 0.7


def test_a_shifted_output_is_inconsistent(check: HallucinationCheck) -> None:
    one = example(310, "x")
    assert check.score(one.source, np.roll(one.stained.rgb, 20, axis=0)) > 3


def test_another_tiles_output_is_inconsistent(check: HallucinationCheck) -> None:
    one, other = example(311, "x"), example(312, "x")
    found = check.compare(one.source, other.stained.rgb)
    assert found.invented_weight > 3
    assert found.lost_weight > 3


def test_a_stain_that_shows_no_nuclei_says_so_in_its_agreement() -> None:
    def blank(seed: int) -> np.ndarray:
        noise = np.random.default_rng(seed).normal(200, 4, (128, 128, 3))
        return np.clip(gaussian_filter(noise, (2, 2, 0)), 0, 255).astype(np.uint8)

    valid = np.ones((128, 128), dtype=bool)
    pairs = [(draw(n).source, blank(n), valid) for n in range(8)]
    found = fit_check(pairs, pairs, [(source, stain) for source, stain, _ in pairs], RESOLUTION_UM)
    assert found.agreement < 0.2


def test_invalid_pixels_teach_nothing() -> None:
    tissue = [draw(n) for n in range(6)]
    valid = np.zeros((128, 128), dtype=bool)
    valid[:, :64] = True
    spoiled = [np.where(valid[..., None], one.target, 255 - one.target) for one in tissue]
    clean, dirty = (
        fit_check(
            [(one.source, target, valid) for one, target in zip(tissue, targets, strict=True)],
            [(one.source, one.target, valid) for one in tissue],
            [(one.source, one.target) for one in tissue],
            RESOLUTION_UM,
        )
        for targets in ([one.target for one in tissue], spoiled)
    )
    # Smoothing carries a rim of the invalid half across, no more.
    assert dirty.agreement == pytest.approx(clean.agreement, abs=0.03)


def test_json_keeps_the_check(check: HallucinationCheck) -> None:
    assert HallucinationCheck.from_json(json.loads(json.dumps(check.to_json()))) == check


def test_what_cannot_be_compared_is_refused_by_name(check: HallucinationCheck) -> None:
    with pytest.raises(DataError, match="differ in size"):
        check.compare(np.zeros((64, 64, 3), np.uint8), np.zeros((64, 96, 3), np.uint8))
    with pytest.raises(DataError, match="no training tile"):
        fit_check([], [], [], RESOLUTION_UM)
