"""Quality of a whole slide: masks lie where things were drawn, shares add up, tiles are judged by them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from clinimm.modalities.pathology import quality as room
from clinimm.modalities.pathology.quality import (
    ARTEFACTS,
    FAULTS,
    Quality,
    examine,
    overview_quality,
    slide_quality,
    tile_fault,
)
from clinimm.modalities.pathology.slide import Slide
from clinimm.modalities.pathology.transform import Tile, tiles
from clinimm.simulate.slide import plan_slide, render_slide
from tests.modalities.pathology.drawn_artefacts import INKS

SIDE = 2048  # pixels of 0.5 µm: a millimetre


def write(path: Path, rgb: np.ndarray, mpp_um: float = 0.5) -> Path:
    tifffile.imwrite(path, rgb, tile=(256, 256), photometric="rgb", compression="zlib",
                     resolution=(1e4 / mpp_um,) * 2, resolutionunit="CENTIMETER")  # fmt: skip
    return path


@pytest.fixture(scope="module")
def sharp() -> np.ndarray:
    return render_slide(plan_slide(True, SIDE, np.random.default_rng(4))).rgb


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory, sharp: np.ndarray) -> Path:
    """The right half out of focus, green pen along the top."""
    rgb = sharp.astype(float)
    rgb[:, SIDE // 2 :] = ndimage.gaussian_filter(rgb[:, SIDE // 2 :], (8, 8, 0))
    rgb += np.random.default_rng(0).normal(0, 1.5, rgb.shape)
    rgb[:400] *= INKS["green"]
    return write(tmp_path_factory.mktemp("slides") / "a.tif", np.clip(rgb, 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def judged(spoilt: Path) -> Quality:
    with Slide(spoilt) as slide:
        return slide_quality(slide)


def test_masks_lie_where_things_were_drawn(judged: Quality) -> None:
    assert judged.um_per_pixel == pytest.approx(8.0)
    assert tuple(judged.artefacts) == ARTEFACTS
    assert judged.tissue.shape == (128, 128) == judged.overview.shape[:2]
    below = slice(40, None)  # clear of the pen
    tissue = judged.tissue[below]
    blur = judged.artefacts["blur"][below]
    sensitivity, specificity = blur[:, 64:][tissue[:, 64:]].mean(), 1 - blur[:, :64].mean()
    print(f"blur on a slide: sensitivity {sensitivity:.3f}, specificity {specificity:.3f}, "
          f"n = {int(tissue.sum())} pixels of 8 µm")  # fmt: skip
    assert sensitivity > 0.95 and specificity > 0.97
    assert judged.artefacts["pen_green"][:25].mean() > 0.98
    assert not judged.artefacts["pen_green"][35:].any()


def test_shares_are_those_of_the_masks(judged: Quality) -> None:
    faulty = np.logical_or.reduce([judged.artefacts[name] for name in FAULTS])
    usable = judged.tissue & ~faulty
    assert "near_white" not in FAULTS
    assert judged.share("usable") == pytest.approx(usable.mean())
    assert judged.tissue_share("usable") == pytest.approx(usable.sum() / judged.tissue.sum())
    assert judged.area_mm2("tissue") == pytest.approx(judged.tissue.sum() * 0.008**2)
    assert judged.tissue_share("tissue") == 1.0
    assert np.isnan(examine(np.full((9, 9, 3), 244, np.uint8), 8.0).tissue_share("blur"))


def test_a_sharp_clean_slide_is_usable(tmp_path: Path, sharp: np.ndarray) -> None:
    with Slide(write(tmp_path / "a.tif", sharp)) as slide:
        assert slide_quality(slide).tissue_share("usable") > 0.97


def test_regions_meet_without_gaps(monkeypatch: pytest.MonkeyPatch, spoilt: Path, judged: Quality) -> None:
    """Focus is read in regions of 64 µm instead of 1 mm: the same blocks, the same answer."""
    monkeypatch.setattr(room, "_REGION", 64 * 5)
    with Slide(spoilt) as slide:
        again = slide_quality(slide)
    assert (again.artefacts["blur"] == judged.artefacts["blur"]).mean() > 0.985


def test_a_slide_scanned_coarsely_has_no_focus_to_judge(tmp_path: Path, sharp: np.ndarray) -> None:
    coarse = np.asarray(Image.fromarray(sharp).reduce(8))
    with Slide(write(tmp_path / "a.tif", coarse, mpp_um=4.0)) as slide:
        found = slide_quality(slide)
    assert not found.focus_judged and not found.artefacts["blur"].any()


def test_tiles_are_judged_by_the_masks_and_their_own_focus(spoilt: Path) -> None:
    with Slide(spoilt) as slide:
        found = overview_quality(slide)
        every = tiles(slide, 0.5, 224, max_tiles=100)
        size = slide.dimensions
    # A pen takes tissue away from the tissue mask, so its tiles are added by hand.
    inked = Tile(700, 20, 224, 224, every[0].rgb, 0.9, (350.0, 10.0, 462.0, 122.0))
    assert tile_fault(inked, found, size) == "pen_green"
    sharp = [tile for tile in every if tile.x + tile.w < SIDE // 2 - 40 and tile.y > 600]
    soft = [tile for tile in every if tile.x > SIDE // 2 + 40 and tile.y > 600]
    assert len(sharp) > 5 and len(soft) > 5
    assert np.mean([tile_fault(tile, found, size) is None for tile in sharp]) > 0.9
    assert np.mean([tile_fault(tile, found, size) == "blur" for tile in soft]) > 0.95


def test_real_slides_are_mostly_usable(test_data: Path) -> None:
    for name in ("CMU-1-Small-Region.svs", "TCGA-CR-7395-01A-01-TS1.svs"):
        with Slide(test_data / "slides" / name, 0.5) as slide:
            found = slide_quality(slide)
        shares = {one: round(found.tissue_share(one), 3) for one in ("usable", *FAULTS)}
        print(name, shares)
        assert found.tissue_share("usable") > 0.9
