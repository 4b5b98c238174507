import numpy as np
import pytest
from skimage.filters import laplace

from clinimm.modalities.pathology.tissue import pen_mask
from clinimm.simulate.artefacts import KINDS, PENS, Artefact, draw_artefact, with_artefact
from clinimm.simulate.tissue import draw_tissue
from clinimm.simulate.tissue_plan import TissuePlan


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return draw_tissue(TissuePlan(pixels=256, seed=1, tissue=1.0, glands=0.0, stains=())).he


@pytest.mark.parametrize("kind", KINDS)
def test_the_mask_holds_every_changed_pixel_and_the_seed_decides(picture, kind):
    artefact = draw_artefact(kind, np.random.default_rng(3))
    before = picture.copy()
    spoiled, mask = with_artefact(picture, artefact)
    assert np.array_equal(picture, before)
    changed = (spoiled != picture).any(axis=2)
    assert not (changed & ~mask).any()
    assert changed[mask].mean() > (0.4 if kind == "pigment" else 0.8)  # granules lie apart
    again, mask_again = with_artefact(picture, artefact)
    assert np.array_equal(spoiled, again)
    assert np.array_equal(mask, mask_again)


def _spoil(picture: np.ndarray, kind: str, **more: object) -> tuple[np.ndarray, np.ndarray]:
    spoiled, _ = with_artefact(picture, Artefact(kind, size=0.25, **more))  # type: ignore[arg-type]
    inside = np.hypot(*(np.mgrid[:256, :256] - 128)) < 40
    return spoiled.astype(float), inside


def test_blur_takes_the_detail_away(picture):
    spoiled, inside = _spoil(picture, "blur")
    assert laplace(spoiled[..., 0])[inside].std() < 0.3 * laplace(picture[..., 0].astype(float))[inside].std()


def test_a_fold_is_darker_and_a_gap_near_white(picture):
    fold, inside = _spoil(picture, "fold")
    assert fold[inside].mean() < 0.8 * picture[inside].mean()
    gap, inside = _spoil(picture, "gap")
    assert gap[inside].min() > 225


@pytest.mark.parametrize("pen", sorted(PENS.keys() - {"black"}))
def test_pens_have_the_colour_that_quality_control_knows(picture, pen):
    spoiled, inside = _spoil(picture, "pen", pen=pen)
    found = pen_mask(spoiled.astype(np.uint8))
    assert found[inside].mean() > 0.7
    assert pen_mask(picture).mean() < 0.05


def test_pigment_is_brown_and_fat_is_empty(picture):
    pigment, inside = _spoil(np.full_like(picture, 240), "pigment")
    dark = inside & (pigment[..., 2] < 120)
    assert dark.sum() > 300
    red, green, blue = pigment[dark].mean(axis=0)
    assert red > green > blue
    fat, inside = _spoil(picture, "fat")
    assert (fat.min(axis=2)[inside] > 200).mean() > 0.5


def test_a_bubble_has_a_dark_rim_and_a_pale_middle(picture):
    bubble, mask = with_artefact(picture, Artefact("bubble", size=0.25))
    away = np.hypot(*(np.mgrid[:256, :256] - 128))
    assert bubble[mask & (away > 58) & (away < 62)].mean() < 0.75 * picture.mean()
    assert bubble[away < 30].mean() > picture[away < 30].mean()


def test_another_scanner_changes_the_colours_of_all_and_the_shapes_of_none(picture):
    other, mask = with_artefact(picture, Artefact("scanner", seed=2))
    assert mask.all()
    assert np.abs(other.mean(axis=(0, 1)) - picture.mean(axis=(0, 1))).max() > 10
    assert np.corrcoef(other.mean(axis=2).ravel(), picture.mean(axis=2).ravel())[0, 1] > 0.9


def test_a_wrong_kind_says_which_are_known():
    with pytest.raises(ValueError, match="expected one of blur, fold"):
        Artefact("smear")  # type: ignore[arg-type]
