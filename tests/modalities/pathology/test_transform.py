"""Tiles: the same again for the same seed, on tissue, where they say they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from clinimm.modalities.pathology.slide import Slide
from clinimm.modalities.pathology.transform import box_means, choose, tiles
from tests.modalities.pathology.made_slides import textured, write_svs

MakeSlide = Callable[..., Path]


def test_tiles_lie_on_tissue_and_hold_its_pixels(make_slide: MakeSlide, tmp_path: Path) -> None:
    path = make_slide(tmp_path / "a.tif", side=1024)
    pixels = tifffile.imread(path)
    with Slide(path) as slide:
        found = tiles(slide, mpp_um=0.5, size=64, max_tiles=100)
    assert len(found) == 64  # the middle half, 512 pixels, is eight tiles wide and high
    for tile in found:
        assert tile.x >= 256 and tile.x + tile.w <= 768
        assert tile.tissue > 0.95
        assert np.array_equal(tile.rgb, pixels[tile.y : tile.y + tile.h, tile.x : tile.x + tile.w])


def test_the_resolution_sets_the_size_of_a_tile(make_slide: MakeSlide, tmp_path: Path) -> None:
    with Slide(make_slide(tmp_path / "a.tif", side=1024, mpp_um=0.25)) as slide:
        found = tiles(slide, mpp_um=0.5, size=128)
    assert {(tile.w, tile.h, tile.rgb.shape) for tile in found} == {(256, 256, (128, 128, 3))}


def test_the_draw_is_repeatable_and_depends_on_the_seed(make_slide: MakeSlide, tmp_path: Path) -> None:
    with Slide(make_slide(tmp_path / "a.tif", side=1024)) as slide:
        drawn = [
            [(tile.x, tile.y) for tile in tiles(slide, 0.5, 32, max_tiles=20, seed=seed)]
            for seed in (0, 0, 1)
        ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 20
    assert drawn[0] == sorted(drawn[0], key=lambda place: (place[1], place[0]))


def test_a_slide_without_tissue_has_no_tiles(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    glass = np.full((512, 512, 3), 243, np.uint8)
    tifffile.imwrite(path, glass, tile=(256, 256), photometric="rgb", resolution=(2e4, 2e4),
                     resolutionunit="CENTIMETER")  # fmt: skip
    with Slide(path) as slide:
        assert tiles(slide) == []


def test_tiles_are_cut_from_the_files_own_tiles_where_they_fit(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "a.svs", textured(1000, 820), tile=256)
    with Slide(path) as slide:
        found = tiles(slide, 0.5, 256, max_tiles=100)
    assert found and all(tile.x % 256 == 0 and tile.y % 256 == 0 for tile in found)
    with Slide(path) as slide:
        assert any(tile.x % 256 for tile in tiles(slide, 0.5, 200, max_tiles=100))


def test_a_tile_knows_its_place_in_micrometres(make_slide: MakeSlide, tmp_path: Path) -> None:
    with Slide(make_slide(tmp_path / "a.tif", side=1024, mpp_um=0.25)) as slide:
        found = tiles(slide, mpp_um=0.5, size=64)
    for tile in found:
        edges = (tile.x, tile.y, tile.x + tile.w, tile.y + tile.h)
        assert tile.box_um == tuple(edge * 0.25 for edge in edges)


@given(available=st.integers(0, 3000), wanted=st.integers(1, 200), seed=st.integers(0, 9))
def test_a_draw_takes_each_part_of_the_slide(available: int, wanted: int, seed: int) -> None:
    found = choose(available, wanted, seed)
    assert len(found) == min(available, wanted)
    assert found == sorted(set(found))
    assert all(0 <= index < available for index in found)
    assert found == choose(available, wanted, seed)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), rows=st.integers(1, 40), columns=st.integers(1, 40), seed=st.integers(0, 99))
def test_box_means_equal_slices(data: st.DataObject, rows: int, columns: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((rows, columns)) < 0.5
    x, y = data.draw(st.integers(0, columns - 1)), data.draw(st.integers(0, rows - 1))
    w, h = data.draw(st.integers(1, columns - x)), data.draw(st.integers(1, rows - y))
    scaled = [(x * 8, y * 8, (x + w) * 8, (y + h) * 8)]
    (found,) = box_means(mask, scaled, (columns * 8, rows * 8))
    assert found == pytest.approx(mask[y : y + h, x : x + w].mean())


def test_the_real_slides(test_data: Path) -> None:
    with Slide(test_data / "slides" / "CMU-1-Small-Region.svs") as slide:
        found = tiles(slide, 1.0, 224, max_tiles=8)
    assert 4 <= len(found) <= 8
    assert all(tile.rgb.mean() < 240 for tile in found)
