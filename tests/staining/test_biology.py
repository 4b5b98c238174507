"""Stains read off real and virtual images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import f1_score

from clinimm.simulate.tissue import draw_tissue
from clinimm.simulate.tissue_plan import StainPlan, TissuePlan
from clinimm.staining import biology
from clinimm.staining.agreement import auroc
from clinimm.staining.biology import REAL, BiologySettings, measure_stain
from clinimm.staining.pairs import StainPair
from tests.staining.measured_toy import draw_pair

PAIRS = [draw_pair(1), draw_pair(2)]
REALS = [pair.targets["KI67"] for pair in PAIRS]
SETTINGS = BiologySettings(region_um=32.0)


def test_the_real_stain_agrees_with_itself() -> None:
    measured = measure_stain(PAIRS, "KI67", {"same": REALS}, SETTINGS)
    images = measured.images.set_index("method")
    for column in ("count", "density_per_mm2", "positive_area", "positivity_index", "h_score"):
        assert images.loc["same", column].tolist() == images.loc[REAL, column].tolist()
    assert (images["dice"] == 1).all()
    for table in (measured.regions, measured.nuclei):
        assert len(table) > 20
        assert np.array_equal(table["same"], table[REAL])


def test_positivity_is_that_of_the_simulated_tissue() -> None:
    found, known = [], []
    for seed in range(3):
        tissue = draw_tissue(TissuePlan(pixels=256, seed=seed, stains=(StainPlan("KI67"),)))
        full = np.ones(tissue.he.shape[:2], dtype=bool)
        pair = StainPair("s", "a", tissue.he, tissue.ihc, full, 0.5)
        row = measure_stain([pair], "KI67", {}, SETTINGS).images.iloc[0]
        found.append((row["positivity_index"], row["h_score"] / 300, row["positive_area"]))
        section = tissue.sections["KI67"]
        known.append((section.positivity_index, section.h_score / 300, section.stained_area.mean()))
    assert np.abs(np.array(found) - np.array(known)).max() < 0.06


def test_methods_are_compared_on_the_nuclei_that_both_images_show() -> None:
    tissue = draw_tissue(TissuePlan(pixels=256, seed=3, stains=(StainPlan("KI67"),)))
    source = tissue.he.copy()
    source[100:116, 100:116] = (60, 40, 130)  # looks like a nucleus, and the stain shows none
    ihc = tissue.ihc["KI67"].copy()
    ihc[90:126, 90:126] = ihc[tissue.labels == 0].mean(axis=0).astype(np.uint8)
    pair = StainPair("s", "a", source, {"KI67": ihc}, np.ones((256, 256), dtype=bool), 0.5)
    nuclei = measure_stain([pair], "KI67", {}, SETTINGS).nuclei
    seen = biology.find_nuclei(source, 0.5)
    assert 0.7 * seen.count < len(nuclei) < seen.count


def test_painting_every_nucleus_alike_tells_no_cell_apart_but_gains_dice() -> None:
    pairs = [draw_pair(seed, "undetermined") for seed in (1, 2, 3)]
    painted = []
    for pair in pairs:
        labels = biology.find_nuclei(pair.source, 0.5).mask
        image = np.full_like(pair.source, 235)
        image[ndimage.binary_dilation(labels, iterations=2)] = (150, 110, 80)
        painted.append(image)
    blank = [np.full_like(image, 235) for image in painted]
    measured = measure_stain(pairs, "KI67", {"painted": painted, "blank": blank})
    positive = measured.nuclei[REAL].to_numpy() >= 0.2
    assert 0.35 < auroc(positive, measured.nuclei["painted"].to_numpy()) < 0.65
    dices = measured.images.groupby("method")["dice"].mean()
    assert dices["painted"] > dices["blank"] + 0.2


def test_what_is_not_valid_changes_nothing() -> None:
    valid = np.ones((256, 256), dtype=bool)
    valid[:, 192:] = False
    pair = replace(PAIRS[0], valid=valid)
    far = REALS[0].copy()
    far[:, 200:] = (120, 70, 40)  # beyond the reach of smoothing from the valid part
    real = measure_stain([pair], "KI67", {"virtual": REALS[:1]}, SETTINGS)
    other = measure_stain([pair], "KI67", {"virtual": [far]}, SETTINGS)
    assert np.allclose(real.regions["virtual"], other.regions["virtual"], atol=1e-3)
    assert len(real.regions) == 4 * 3
    assert (
        measure_stain([replace(pair, valid=~valid & False)], "KI67", {}, SETTINGS).images["count"] == 0
    ).all()


def test_dice_and_h_score_are_the_known_ones() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.random((2, 20, 20)) > 0.5
    assert biology.dice(first, second) == pytest.approx(f1_score(first.ravel(), second.ravel()))
    assert np.isnan(biology.dice(first & False, first & False))
    # One negative, one weak, one moderate, two strong: (0 + 1 + 2 + 3 + 3) / 5 * 100.
    assert biology.h_score(np.array([0.1, 0.2, 0.4, 0.6, 0.9]), SETTINGS) == 180


def test_a_region_is_a_mean_over_its_pixels() -> None:
    measured = measure_stain(PAIRS[:1], "KI67", {}, SETTINGS)
    plane = ndimage.gaussian_filter(biology.stain_amount(REALS[0], measured.signal), 2.0)
    expected = plane.reshape(4, 64, 4, 64).mean(axis=(1, 3)).ravel()
    np.testing.assert_allclose(measured.regions[REAL], expected, rtol=1e-4)


def test_a_wrong_shape_a_missing_image_and_a_taken_name_are_named() -> None:
    with pytest.raises(ValueError, match="1 images for 2 pairs"):
        measure_stain(PAIRS, "KI67", {"model": REALS[:1]})
    with pytest.raises(ValueError, match="uint8"):
        measure_stain(PAIRS[:1], "KI67", {"model": [REALS[0][:9]]})
    with pytest.raises(ValueError, match="column"):
        measure_stain(PAIRS[:1], "KI67", {"real": REALS[:1]})
