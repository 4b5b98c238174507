"""Pen, folds and bubbles: sensitivity and specificity on drawn ones, and fixtures of real ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from clinimm.modalities.pathology.artefacts import PEN_COLOURS, bubbles, folds, glass, pens
from clinimm.modalities.pathology.tissue import tissue_mask
from tests.modalities.pathology.drawn_artefacts import UM, bubble, fold, overview, pen, rates

Draw = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]
SLIDES, DRAWINGS = 4, 12


def measured(name: str, draw: Draw, detect: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float]:
    """Mean sensitivity and specificity over drawings, the worst drawing's sensitivity is printed too."""
    found = []
    pixels = 0
    for number in range(DRAWINGS):
        picture, true = draw(overview(number % SLIDES), number)
        found.append(rates(detect(picture), true))
        pixels += true.size
    sensitivity, specificity = np.mean(found, axis=0)
    print(f"{name}: sensitivity {sensitivity:.3f} (worst {min(one[0] for one in found):.2f}), "
          f"specificity {specificity:.4f}, n = {DRAWINGS} drawings, {pixels} pixels")  # fmt: skip
    return float(sensitivity), float(specificity)


@pytest.mark.parametrize("colour", PEN_COLOURS)
def test_pen_of_each_colour_is_found_and_named(colour: str) -> None:
    sensitivity, specificity = measured(
        f"pen {colour}",
        lambda picture, seed: pen(picture, colour, seed),
        lambda picture: pens(picture, UM)[colour],
    )
    assert sensitivity > 0.9
    assert specificity > 0.8  # the rim counts as pen
    picture, true = pen(overview(0), colour, 0)
    far = ndimage.distance_transform_edt(~true) > 120 / UM
    assert not pens(picture, UM)[colour][far].any()


def test_folds() -> None:
    sensitivity, specificity = measured(
        "fold", fold, lambda picture: folds(picture, tissue_mask(picture), UM)
    )
    assert sensitivity > 0.75
    assert specificity > 0.97


def test_bubbles() -> None:
    sensitivity, specificity = measured("bubble", bubble, lambda picture: bubbles(picture, UM))
    assert sensitivity > 0.8
    assert specificity > 0.97


@pytest.mark.parametrize("seed", range(SLIDES))
def test_clean_tissue_has_no_artefact(seed: int) -> None:
    picture = overview(seed)
    masks = {**pens(picture, UM), "fold": folds(picture, tissue_mask(picture), UM),
             "bubble": bubbles(picture, UM)}  # fmt: skip
    assert {name: float(mask.mean()) for name, mask in masks.items() if mask.mean() > 0.002} == {}


def test_dense_nuclei_are_no_fold() -> None:
    """A field of nuclei beside stroma: twice the density, all of it haematoxylin's."""
    picture = np.full((120, 120, 3), (220, 150, 190), np.uint8)
    nuclei = picture.copy()
    nuclei[40:80, 20:100] = (120, 75, 160)
    double = picture.copy()
    double[40:80, 20:100] = np.rint(245 * (picture[40:80, 20:100] / 245.0) ** 2)
    assert not folds(nuclei, tissue_mask(nuclei), UM).any()
    assert folds(double, tissue_mask(double), UM)[45:75, 25:95].all()


def test_a_ring_of_tissue_is_no_bubble_and_an_arc_of_a_large_one_is_marked() -> None:
    y, x = np.ogrid[:200, :200]
    ring = np.abs(np.hypot(y - 100, x - 100) - 50) < 2
    tissue, air, arc = (np.full((200, 200, 3), 243, np.uint8) for _ in range(3))
    tissue[ring] = (190, 90, 150)
    air[ring] = (70, 72, 75)
    arc[np.abs(np.hypot(y - 100, x + 300) - 400) < 1.5] = (70, 72, 75)
    assert not bubbles(tissue, UM).any()
    assert bubbles(air, UM)[100, 100]
    assert 0 < bubbles(arc, UM).mean() < 0.05


@pytest.mark.parametrize("detect", [lambda p: bubbles(p, UM), lambda p: folds(p, tissue_mask(p), UM)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_empty_picture_has_nothing(detect: Callable[[np.ndarray], np.ndarray], level: int) -> None:
    assert not detect(np.full((40, 30, 3), level, np.uint8)).any()


def test_glass_is_near_white_in_each_channel() -> None:
    np.testing.assert_array_equal(
        glass(np.array([[[230, 226, 225], [250, 250, 224]]], np.uint8)), [[True, False]]
    )


def test_fixtures_of_real_pen(test_data: Path) -> None:
    expected = {
        # name: (µm a pixel as far as can be told, colour, least share, largest share)
        "no-tissue-green-pen.png": (0.5, "green", 0.7, 0.9),
        "no-tissue-red-pen.png": (0.5, "red", 0.5, 0.8),
        "medium-nuclei-score-green-pen-level1.png": (2.0, "green", 0.2, 0.6),
        "tcga-green-pen.png": (1.0, "green", 0.15, 0.4),
        "tcga-red-pen.png": (2.0, "red", 0.2, 0.4),
    }
    for path in sorted((test_data / "slides" / "tiles").glob("*.png")):
        picture = np.asarray(Image.open(path).convert("RGB"))
        um, colour, least, most = expected.get(path.name, (0.5, "", 0.0, 0.0))
        shares = {name: float(mask.mean()) for name, mask in pens(picture, um).items()}
        print(path.name, {name: round(share, 3) for name, share in shares.items()})
        assert max(shares.values()) < 0.01 if not colour else least < shares[colour] < most, path.name
        assert not colour or shares[colour] == max(shares.values())


def test_fixtures_without_tissue_are_near_white(test_data: Path) -> None:
    for name, least in (("almost-white-1.png", 0.95), ("no-tissue.png", 0.95), ("no-tissue-line.png", 0.6)):
        picture = np.asarray(Image.open(test_data / "slides" / "tiles" / name).convert("RGB"))
        assert glass(picture).mean() > least
    line = np.asarray(Image.open(test_data / "slides" / "tiles" / "no-tissue-line.png").convert("RGB"))
    assert bubbles(line, 8.0).mean() > 0.002  # the edge of a large bubble, whose scale is not stated
