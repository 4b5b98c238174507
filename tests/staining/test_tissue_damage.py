"""Pen, blur, folds and bubbles are named, sound tissue is left alone, in a region as on a slide."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from clinimm.modalities.pathology.slide import open_slide
from clinimm.simulate.stain_look import draw_look
from clinimm.simulate.tissue import draw_tissue
from clinimm.simulate.tissue_plan import StainPlan, plan_tissue
from clinimm.staining.pairs import StainPair
from clinimm.staining.refusal import MOST_DAMAGE
from clinimm.staining.safety import SafetyCase
from clinimm.staining.tile_examples import tile_examples
from clinimm.staining.tissue_damage import DAMAGES, UNDAMAGED, Damage, TissueDamage
from tests.staining.test_tile_examples import Toy

UM, SIDE = 0.5, 512
TILES = [(top, left) for top in (0, 256) for left in (0, 256)]


@cache
def sound(seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng([77, seed])
    look = draw_look("northfield", generator)
    plan = plan_tissue(generator, SIDE, (StainPlan("KI67", look=look, seed=seed),), look=look)
    return draw_tissue(plan).he


def spoil(rgb: np.ndarray, kind: str) -> np.ndarray:
    """A picture with as much of one kind of damage as fills most of its left half."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    found = rgb.copy()
    if kind == "pen":
        found[:, 40:200] = (25, 130, 70)
    elif kind == "blur":
        soft = np.stack([gaussian_filter(rgb[..., c], 6) for c in range(3)], axis=-1)
        found[:, :256] = soft[:, :256]
    elif kind == "fold":  # two layers have twice the optical density
        double = (columns < 100) & (rows < 256)
        found[double] = (np.clip(rgb[double] / 244, 0, 1) ** 2 * 244).astype(np.uint8)
    else:
        ring = np.abs(np.hypot(rows - 256, columns - 256) - 220) < 16
        found[ring] = 60
    return found


def judge(rgb: np.ndarray) -> list[Damage]:
    damage = TissueDamage.of_picture(rgb, UM)
    return [damage.of(rgb[top : top + 256, left : left + 256], top, left) for top, left in TILES]


def test_sound_tissue_is_left_alone() -> None:
    found = [one for seed in range(8) for one in judge(sound(seed))]
    assert all(one.share <= MOST_DAMAGE for one in found)  # n = 32 tiles of 8 people


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_named_where_it_is(kind: str) -> None:
    seeds = range(8)
    left = [judge(spoil(sound(seed), kind))[0] for seed in seeds]
    caught = [one for one in left if one.share > MOST_DAMAGE]
    assert {one.kind for one in caught} == {kind}
    # A fold is told by its density beside the rest of the picture, of which a region shows little.
    assert len(caught) >= (2 if kind == "fold" else 7)


def test_a_slide_is_judged_by_its_own_overview_as_a_region_is(tmp_path: Path) -> None:
    picture = spoil(sound(), "pen")
    path = tmp_path / "slide.tif"
    resolution = (10_000 / UM, 10_000 / UM)
    tifffile.imwrite(
        path, picture, tile=(256, 256), photometric="rgb", resolution=resolution, resolutionunit="CENTIMETER"
    )
    with open_slide(path) as slide:
        damage = TissueDamage.of_slide(slide, (SIDE, SIDE), UM)
    found = [damage.of(picture[top : top + 256, left : left + 256], top, left) for top, left in TILES]
    assert [one.kind for one in found] == [one.kind for one in judge(picture)]
    assert [one.share for one in found] == pytest.approx([one.share for one in judge(picture)], abs=0.05)


def test_a_tile_carries_the_damage_of_its_region_and_is_refused_for_it(case: SafetyCase) -> None:
    picture = spoil(sound(), "pen")
    valid = np.ones(picture.shape[:2], dtype=bool)
    pair = StainPair("a", "block", picture, {"KI67": picture}, valid, UM)
    tiles = tile_examples(Toy.run, 8, [pair])
    assert [one.damage for one in tiles] == judge(picture)
    assert "pen" in case.refuse(tiles[0].source, tiles[0].stained, tiles[0].damage).reasons
    assert "pen" not in case.refuse(tiles[0].source, tiles[0].stained, UNDAMAGED).reasons


@pytest.fixture(scope="module")
def case() -> SafetyCase:
    from clinimm.staining.fit_safety import fit_safety

    valid = np.ones((SIDE, SIDE), dtype=bool)
    pairs = [StainPair("a", str(seed), sound(seed), {"KI67": sound(seed)}, valid, UM) for seed in range(5)]
    train = tile_examples(Toy.run, 8, pairs[:3])
    tuning = [_of_b(one) for one in tile_examples(Toy.run, 8, pairs[3:])]
    return fit_safety(train, tuning, UM, 0.1)


def _of_b(one):  # type: ignore[no-untyped-def]  # the toy stainer knows subject "a" only
    from dataclasses import replace

    return replace(one, subject_id="b")
