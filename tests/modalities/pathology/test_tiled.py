"""Regions put together from tiles, and the tiles that are kept."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from clinimm.modalities.pathology.pixels import Level, Rgb, SlideInfo
from clinimm.modalities.pathology.tiled import TileCache, TiledPixels
from tests.modalities.pathology.made_slides import textured, tiles_of

_WIDTH, _HEIGHT, _SIDE = 150, 110, 32
_PIXELS = textured(_WIDTH, _HEIGHT)


class _Tiles:
    """Tiles from memory, counted."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[int, int]] = Counter()
        self._tiles = tiles_of(_PIXELS, _SIDE)

    def tile(self, column: int, row: int) -> Rgb | None:
        self.asked[column, row] += 1
        return self._tiles[row * -(-_WIDTH // _SIDE) + column].copy()


def _slide(cache_bytes: int = 1 << 20) -> tuple[TiledPixels, _Tiles]:
    tiles = _Tiles()
    info = SlideInfo(_WIDTH, _HEIGHT, (Level(_WIDTH, _HEIGHT, 1.0, _SIDE, _SIDE),), None, "made", {})
    return TiledPixels(info, (tiles,), cache_bytes, lambda: None), tiles


@settings(max_examples=80, deadline=None)
@given(
    left=st.integers(-70, 200),
    top=st.integers(-70, 150),
    width=st.integers(1, 120),
    height=st.integers(1, 120),
)
def test_any_box_is_a_slice_with_white_outside(left: int, top: int, width: int, height: int) -> None:
    slide, _ = _slide()
    rim = 300
    wide = np.pad(_PIXELS, ((rim, rim), (rim, rim), (0, 0)), constant_values=255)
    expected = wide[top + rim : top + rim + height, left + rim : left + rim + width]
    box = (left, top, left + width, top + height)
    assert np.array_equal(slide.read(0, box), expected)
    with ThreadPoolExecutor(2) as pool:
        assert np.array_equal(slide.read(0, box, pool), expected)


def test_tiles_used_in_part_are_decoded_once_and_whole_ones_not_kept() -> None:
    slide, tiles = _slide()
    for left in range(0, 120, 20):
        slide.read(0, (left, 0, left + 20, 20))
    assert set(tiles.asked.values()) == {1}
    slide, tiles = _slide()
    for _ in range(2):
        slide.read(0, (32, 32, 96, 64))
    assert tiles.asked == {(1, 1): 2, (2, 1): 2}


def test_a_region_can_be_written_into_without_changing_the_next() -> None:
    slide, _ = _slide()
    for box in ((32, 32, 64, 64), (30, 30, 50, 50)):
        slide.read(0, box)[...] = 0
        assert np.array_equal(slide.read(0, box), _PIXELS[box[1] : box[3], box[0] : box[2]])


def test_the_cache_keeps_to_its_bytes_and_drops_the_oldest() -> None:
    cache = TileCache(3 * 100)
    for index in range(5):
        cache.put((0, index, 0), np.full((100,), index, dtype=np.uint8))
        cache.get((0, 2, 0))  # the third stays in use
    held = [index for index in range(5) if cache.get((0, index, 0)) is not None]
    assert held == [2, 3, 4]
    cache.put((0, 9, 0), np.zeros(1000, np.uint8))
    assert cache.get((0, 9, 0)) is not None and cache.get((0, 4, 0)) is None
