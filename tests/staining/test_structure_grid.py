from __future__ import annotations

import numpy as np
import pytest
from skimage.feature import blob_dog

from clinimm.staining.structure_grid import StructureGrid, find_peaks, nuclear_response


def _discs(radius: float, places: list[tuple[int, int]], side: int = 96) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side]
    found = np.zeros((side, side), np.float32)
    for row, column in places:
        found += (np.hypot(rows - row, columns - column) <= radius).astype(np.float32)
    return found


def test_discs_are_found_where_they_are_and_where_scikit_image_finds_them() -> None:
    places = [(20, 24), (60, 30), (40, 70)]
    field = _discs(4.0, places)
    found = find_peaks(nuclear_response(field, 4.0), 4.0, 0.1)
    peer = blob_dog(field, min_sigma=2, max_sigma=5, threshold=0.1)[:, :2]
    assert sorted(map(tuple, found.tolist())) == sorted(places)
    np.testing.assert_allclose(np.array(sorted(peer.tolist())), np.array(sorted(places)), atol=1)


def test_the_response_is_largest_for_the_radius_that_was_asked_for() -> None:
    answers = [nuclear_response(_discs(radius, [(48, 48)]), 4.0)[48, 48] for radius in (1.5, 4.0, 14.0)]
    assert answers[1] == max(answers)


def test_a_tile_is_reduced_only_as_far_as_a_nucleus_keeps_three_pixels() -> None:
    assert [StructureGrid.of(radius).step for radius in (2.0, 3.5, 7.0, 14.0)] == [1, 1, 2, 4]
    assert StructureGrid.of(7.0).radius == 3.5


def test_density_is_averaged_over_the_grid_and_masks_need_every_pixel() -> None:
    rgb = np.random.default_rng(0).integers(1, 256, (33, 20, 3)).astype(np.uint8)
    grid = StructureGrid.of(7.0)
    density = grid.density(rgb)
    assert density.shape == (3, 16, 10)
    expected = -np.log10(rgb[4:6, 8:10, 1] / 255).mean()
    assert density[1, 2, 4] == pytest.approx(expected, rel=1e-5)
    mask = np.ones((33, 20), dtype=bool)
    mask[5, 9] = False
    assert np.argwhere(~grid.inside(mask)).tolist() == [[2, 4]]
