"""Grids of tiles: on the file's tiles where they can, without overlap, never outside."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinimm.modalities.pathology.slide import Slide
from clinimm.modalities.pathology.tile_grid import grid_of, starts
from clinimm.modalities.pathology.view import at
from tests.modalities.pathology.made_slides import textured, write_svs


@given(length=st.integers(1, 5000), side=st.integers(1, 700))
def test_tiles_do_not_overlap_and_stay_inside(length: int, side: int) -> None:
    found = list(starts(length, side))
    assert len(found) == max(1, length // side)
    assert all(b - a == side for a, b in pairwise(found))
    if length >= side:
        assert found[0] >= 0 and found[-1] + side <= length
        assert abs(found[0] - (length - found[-1] - side)) <= 1


@pytest.mark.parametrize(
    ("um", "size", "aligned", "corner", "count"),
    [
        (0.5, 240, True, (0, 0), 4 * 3),
        (0.499, 480, True, (0, 0), 2 * 1),
        (0.5, 120, True, (0, 0), 8 * 6),
        (1.0, 240, True, (0, 0), 2 * 1),
        (0.5, 256, False, (116, 26), 3 * 3),
        (0.7, 240, False, (117, 52), 2 * 2),
    ],
)
def test_a_grid_is_aligned_where_level_and_size_allow_it(
    tmp_path: Path, um: float, size: int, aligned: bool, corner: tuple[int, int], count: int
) -> None:
    with Slide(write_svs(tmp_path / "a.svs", textured(1000, 820), tile=240)) as slide:
        grid = grid_of(at(slide, um), size)
    assert (grid.is_aligned, (grid.left, grid.top), len(grid)) == (aligned, corner, count)
    boxes = [grid.box(*place) for place in grid.places()]
    assert len(set(boxes)) == len(boxes) == len(grid)
    width, height = grid.view.size
    assert all(box[2] <= width and box[3] <= height for box in boxes)


def test_a_slide_smaller_than_a_tile_has_one(tmp_path: Path) -> None:
    with Slide(write_svs(tmp_path / "a.svs", textured(300, 200), tile=240)) as slide:
        grid = grid_of(at(slide, 0.5), 1000)
    assert len(grid) == 1 and grid.box(0, 0) == (0, 0, 1000, 1000)
