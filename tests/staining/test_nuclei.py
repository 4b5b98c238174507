"""Nuclei, on drawn discs and on simulated tissue."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from skimage.draw import disk
from skimage.measure import regionprops

from clinimm.simulate.tissue import draw_tissue
from clinimm.simulate.tissue_plan import StainPlan, TissuePlan
from clinimm.staining.nuclei import (
    DEFAULT,
    Nuclei,
    compare_nuclei,
    find_nuclei,
    match_points,
    tune_nuclei,
)
from clinimm.staining.optical import Signal

TISSUE = draw_tissue(TissuePlan(pixels=256, seed=4, stains=(StainPlan("KI67"), StainPlan("PANCK"))))
DRAWN = Nuclei(TISSUE.labels, 0.5)


def _discs(places: list[tuple[int, int]], radius: int, side: int = 128) -> np.ndarray:
    image = np.full((side, side, 3), (225, 190, 215), np.uint8)
    for place in places:
        image[disk(place, radius, shape=image.shape[:2])] = (90, 70, 150)
    return image


def test_discs_are_counted_where_they_are() -> None:
    places = [(20, 20), (20, 90), (64, 50), (100, 100)]
    found = find_nuclei(_discs(places, 8), 0.5)
    assert found.count == 4
    assert len(match_points(found.centres, np.array(places, dtype=float), 1.0)[0]) == 4
    assert found.area_um2 == pytest.approx(np.pi * 16, rel=0.15)


def test_touching_discs_are_split() -> None:
    assert find_nuclei(_discs([(60, 50), (60, 65)], 9), 0.5).count == 2


def test_the_same_nuclei_are_found_at_another_resolution() -> None:
    fine = np.kron(TISSUE.he, np.ones((2, 2, 1), np.uint8))
    there, here = find_nuclei(fine, 0.25), find_nuclei(TISSUE.he, 0.5)
    assert there.labels.shape == fine.shape[:2]
    assert there.count == pytest.approx(here.count, abs=2)


@pytest.mark.parametrize("grey", [0, 200, 255])
def test_an_image_of_one_colour_has_none(grey: int) -> None:
    image = np.full((80, 80, 3), grey, np.uint8)
    for signal in (None, Signal.DAB, Signal.FLUORESCENCE):
        assert find_nuclei(image, 0.5, signal).count == 0


def test_fluorescent_nuclei_shine_on_a_dark_ground() -> None:
    image = 255 - _discs([(30, 30), (80, 90)], 8)
    image[image < 80] = 5
    assert find_nuclei(image, 0.5, Signal.FLUORESCENCE).count == 2


def test_simulated_tissue_is_found_nearly_whole() -> None:
    score = compare_nuclei(find_nuclei(TISSUE.he, 0.5), DRAWN)
    assert score.dice > 0.9
    assert score.f1 > 0.95
    assert abs(score.count_error) < 0.08


@pytest.mark.parametrize("marker", ["KI67", "PANCK"])
def test_the_counterstain_shows_positive_and_negative_nuclei(marker: str) -> None:
    found = find_nuclei(TISSUE.ihc[marker], 0.5, Signal.DAB)
    assert compare_nuclei(found, DRAWN).f1 > 0.85


def test_properties_are_those_of_scikit_image() -> None:
    theirs = regionprops(DRAWN.labels, intensity_image=TISSUE.he[..., 0].astype(float))
    np.testing.assert_allclose(DRAWN.centres, [one.centroid for one in theirs])
    np.testing.assert_allclose(DRAWN.area_um2, [one.area / 4 for one in theirs])
    np.testing.assert_allclose(
        DRAWN.mean(TISSUE.he[..., 0].astype(float)), [one.intensity_mean for one in theirs]
    )


def test_equal_nuclei_agree_wholly_and_empty_ones_do_not_divide_by_zero() -> None:
    score = compare_nuclei(DRAWN, DRAWN)
    assert (score.dice, score.f1, score.count_error) == (1, 1, 0)
    empty = Nuclei(np.zeros_like(DRAWN.labels), 0.5)
    assert compare_nuclei(empty, DRAWN).f1 == 0
    assert np.isnan(compare_nuclei(empty, empty).dice)


def test_points_match_one_to_one_nearest_first() -> None:
    first, second = np.array([[0.0, 0], [0, 2]]), np.array([[0.0, 1.5], [9, 9]])
    own, other = match_points(first, second, 3.0)
    assert (own.tolist(), other.tolist()) == ([1], [0])


def test_tuning_takes_the_setting_that_is_right() -> None:
    absurd = replace(DEFAULT, smallest_um2=5000.0)
    assert tune_nuclei([(TISSUE.he, DRAWN)], [absurd, DEFAULT]) == DEFAULT


def test_drawn_nuclei_of_real_slides_are_mostly_found(test_data: Path) -> None:
    from PIL import Image

    scores = []
    for path in sorted((test_data / "stains" / "nuclei" / "images").glob("*.jpg"))[:3]:
        mask = np.asarray(Image.open(path.parents[1] / "masks" / path.name).convert("L")) >= 128
        drawn = Nuclei(ndimage.label(mask)[0].astype(np.int32), 0.25)
        scores.append(compare_nuclei(find_nuclei(np.asarray(Image.open(path).convert("RGB")), 0.25), drawn))
    assert np.mean([score.dice for score in scores]) > 0.70
    assert np.mean([score.f1 for score in scores]) > 0.78
