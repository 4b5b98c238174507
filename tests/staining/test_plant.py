from __future__ import annotations

import numpy as np
import pytest

from clinimm.core.errors import DataError
from clinimm.staining.plant import plant
from tests.staining.safety_toy import RADIUS_PX, draw


def test_pasted_nuclei_lie_off_every_nucleus_and_are_dark() -> None:
    tissue = draw(1)
    found = plant(tissue.target, tissue.nuclei, "pasted", 2, RADIUS_PX, seed=3)
    assert len(found.places) == 2
    for row, column in found.places:
        assert np.hypot(*(tissue.nuclei - (row, column)).T).min() >= 2 * RADIUS_PX
        patch = (slice(row - 2, row + 3), slice(column - 2, column + 3))
        assert found.rgb[patch].mean() < tissue.target[patch].mean() - 30


def test_erased_nuclei_are_nuclei_and_become_ground() -> None:
    tissue = draw(1)
    found = plant(tissue.target, tissue.nuclei, "erased", 3, RADIUS_PX, seed=3)
    known = {tuple(place) for place in tissue.nuclei.tolist()}
    for row, column in found.places:
        assert (row, column) in known
        patch = (slice(row - 2, row + 3), slice(column - 2, column + 3))
        assert found.rgb[patch].mean() > tissue.target[patch].mean() + 30


def test_nothing_else_changes_and_the_seed_decides() -> None:
    tissue = draw(2)
    found = plant(tissue.target, tissue.nuclei, "pasted", 1, RADIUS_PX, seed=1)
    rows, columns = np.nonzero((found.rgb != tissue.target).any(axis=2))
    assert np.hypot(rows - found.places[0][0], columns - found.places[0][1]).max() <= 1.7 * RADIUS_PX
    np.testing.assert_array_equal(
        found.rgb, plant(tissue.target, tissue.nuclei, "pasted", 1, RADIUS_PX, seed=1).rgb
    )


def test_a_tile_without_nuclei_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="0 whole nuclei"):
        plant(draw(0).target, np.zeros((0, 2), dtype=np.int64), "erased", 1, RADIUS_PX)
