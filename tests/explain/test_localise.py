from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinimm.core.errors import DataError
from clinimm.explain.localise import coverage, localise, size_band, truth_area

#: A picture of 4 by 4 cells of 10 pixels.
CELLS = np.array([[x, y, x + 10, y + 10] for y in range(0, 40, 10) for x in range(0, 40, 10)], dtype=float)


def _scores(**by_cell: float) -> np.ndarray:
    found = np.zeros(16)
    for name, value in by_cell.items():
        found[int(name[1:])] = value
    return found


def test_a_map_of_one_right_cell_by_hand() -> None:
    """The finding is 15 wide and 10 high: all of cell 5, half of cell 6."""
    found = localise(_scores(c5=2.0), CELLS, np.array([[10.0, 10, 25, 20]]))
    assert found.hit
    assert found.hit_by_chance == pytest.approx(2 / 16)
    assert found.iou == pytest.approx(100 / 150)
    assert found.mass_inside == pytest.approx(1)
    assert found.area == pytest.approx(150 / 1600)
    assert found.size == "large"


def test_a_map_beside_the_finding_misses_it() -> None:
    found = localise(_scores(c0=2.0, c6=1.0), CELLS, np.array([[10.0, 10, 25, 20]]), threshold=0.6)
    assert not found.hit
    assert found.iou == 0
    assert found.mass_inside == pytest.approx(0.5 / 3)


def test_what_speaks_against_is_not_support() -> None:
    found = localise(_scores(c5=1.0, c0=-9.0), CELLS, np.array([[10.0, 10, 20, 20]]))
    assert found.hit
    assert found.mass_inside == 1.0
    silent = localise(-np.ones(16), CELLS, np.array([[10.0, 10, 20, 20]]))
    assert (silent.hit, silent.iou, silent.mass_inside) == (False, 0.0, 0.0)


def test_overlapping_findings_count_once() -> None:
    twice = np.array([[10.0, 10, 25, 20], [15, 10, 25, 20]])
    np.testing.assert_allclose(coverage(CELLS, twice), coverage(CELLS, twice[:1]))
    assert truth_area(twice) == 150


boxes = st.lists(
    st.tuples(*[st.integers(0, 34)] * 2, *[st.integers(1, 20)] * 2).map(
        lambda b: (b[0], b[1], min(b[0] + b[2], 40), min(b[1] + b[3], 40))
    ),
    min_size=1,
    max_size=4,
)


@settings(deadline=None)
@given(boxes)
def test_boxes_and_the_mask_that_they_paint_agree(found: list[tuple[int, int, int, int]]) -> None:
    mask = np.zeros((40, 40), dtype=bool)
    for left, top, right, bottom in found:
        mask[top:bottom, left:right] = True
    truth = np.array(found, dtype=float)
    np.testing.assert_allclose(coverage(CELLS, truth), coverage(CELLS, mask), atol=1e-9)
    assert truth_area(truth) == pytest.approx(truth_area(mask))


@settings(deadline=None)
@given(boxes, st.integers(0, 2**32 - 1))
def test_figures_stay_within_their_bounds(found: list[tuple[int, int, int, int]], seed: int) -> None:
    scores = np.random.default_rng(seed).normal(size=16)
    one = localise(scores, CELLS, np.array(found, dtype=float))
    assert 0 <= one.iou <= 1
    assert 0 <= one.mass_inside <= 1 + 1e-9
    assert 0 < one.hit_by_chance <= 1


def test_size_bands_are_shares_of_the_picture() -> None:
    assert [size_band(share) for share in (0.001, 0.01, 0.049, 0.05, 1.0)] == [
        "small",
        "medium",
        "medium",
        "large",
        "large",
    ]


def test_no_finding_is_a_named_error() -> None:
    with pytest.raises(DataError, match="both must be there"):
        localise(np.ones(16), CELLS, np.zeros((0, 4)))
    with pytest.raises(DataError, match="both must be there"):
        localise(np.ones(16), CELLS, np.zeros((40, 40), dtype=bool))
