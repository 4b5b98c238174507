import numpy as np
import pytest

from clinimm.staining.coarse_search import Overview
from clinimm.staining.deformation import Affine, Deformation
from clinimm.staining.overviews import views_of
from clinimm.staining.picture import ArrayPicture
from clinimm.staining.refine_b_spline import refine_b_spline
from tests.staining.registration_toy import UM, Toy, as_fluorescence, toy

EXTENT = (160.0, 160.0)


def bent() -> Toy:
    return toy(shift_um=(0.0, 0.0), degrees=0.0, bend_um=5.0)


def views(source: np.ndarray, target: np.ndarray) -> tuple[Overview, Overview]:
    return views_of(ArrayPicture(source, UM), ArrayPicture(target, UM))[1]


def still(x_um: float = 0.0) -> Deformation:
    return Deformation.still(Affine(((1.0, 0.0), (0.0, 1.0)), (x_um, 0.0)), EXTENT, 12.5)


def misses(found: Deformation, pair: Toy) -> np.ndarray:
    return np.asarray(np.linalg.norm(found.apply(pair.source_points) - pair.target_points, axis=-1))


@pytest.mark.parametrize("fluorescent", [False, True])
def test_a_smooth_bend_is_straightened_across_stains(fluorescent: bool) -> None:
    pair = bent()
    target = as_fluorescence(pair.target) if fluorescent else pair.target
    found = refine_b_spline(*views(pair.source, target), still())
    before, after = misses(still(), pair), misses(found, pair)
    assert np.median(before) > 1.5
    assert np.median(after) < 0.3 * np.median(before)
    assert found.least_jacobian() > 0.5


def test_it_starts_from_the_linear_map() -> None:
    pair = toy(shift_um=(20.0, 0.0), degrees=0.0, bend_um=3.0)
    right = float(np.median(pair.target_points[:, 0] - pair.source_points[:, 0]))
    found = refine_b_spline(*views(pair.source, pair.target), still(right))
    assert found.affine.offset_um[0] == right
    assert np.median(misses(found, pair)) < 0.5 * np.median(misses(still(right), pair))


def test_the_same_input_gives_the_same_bend() -> None:
    pair = bent()
    one, other = (refine_b_spline(*views(pair.source, pair.target), still()) for _ in range(2))
    np.testing.assert_array_equal(one.displacement_um, other.displacement_um)
