import numpy as np
import pytest

from clinimm.staining.deformation import Affine, Deformation
from clinimm.staining.local_shifts import CELL, TISSUE, Pair, local_shifts, window_grid
from clinimm.staining.picture import ArrayPicture
from clinimm.staining.structure import fit_scale
from tests.staining.registration_toy import UM, toy

EXTENT = (160.0, 160.0)
EVERYWHERE = np.ones((10, 10), dtype=bool)


def pair_of(source: np.ndarray, target: np.ndarray) -> Pair:
    return Pair(ArrayPicture(source, UM), ArrayPicture(target, UM), fit_scale(source), fit_scale(target)).at(
        CELL
    )


def shifted(x_um: float, y_um: float) -> Deformation:
    return Deformation.still(Affine(((1.0, 0.0), (0.0, 1.0)), (x_um, y_um)), EXTENT, 20.0)


@pytest.mark.parametrize(("x_um", "y_um"), [(0.0, 0.0), (2.3, -1.1), (-4.0, 6.0)])
def test_a_known_shift_is_measured_across_stains(x_um: float, y_um: float) -> None:
    pair = toy(shift_um=(0.0, 0.0), degrees=0.0, bend_um=0.0)
    points = window_grid(EVERYWHERE, EXTENT, CELL, 200, odd=False)
    found = local_shifts(pair_of(pair.source, pair.target), shifted(x_um, y_um), CELL, points)
    assert found.judged_share > 0.9
    # the map looks x_um too far right, so the tissue is seen that much too far left
    np.testing.assert_allclose(np.median(found.shifts_um[found.judged], axis=0), (-x_um, -y_um), atol=0.25)


def test_other_tissue_cannot_be_judged() -> None:
    one, other = toy(seed=0), toy(seed=7)
    points = window_grid(EVERYWHERE, EXTENT, CELL, 200, odd=False)
    found = local_shifts(pair_of(one.source, other.target), shifted(0, 0), CELL, points)
    assert found.windows > 10
    assert found.judged_share < 0.15


def test_the_odd_grid_lies_between_the_even_one() -> None:
    even, odd = (window_grid(EVERYWHERE, EXTENT, CELL, 200, which) for which in (False, True))
    apart = np.abs(even[:, None] - odd[None]).max(axis=-1).min()
    assert apart >= CELL.window_um / 4 - 1e-9
    assert even.min() >= CELL.window_um / 2


def test_windows_lie_on_tissue_and_are_not_more_than_asked_for() -> None:
    tissue = np.zeros((100, 100), dtype=bool)
    tissue[:50] = True
    points = window_grid(tissue, (20_000.0, 10_000.0), TISSUE, 150, odd=False)
    assert 100 <= len(points) <= 180
    assert points[:, 1].max() < 5_000


def test_the_same_seed_judges_the_same() -> None:
    pair = toy()
    points = window_grid(EVERYWHERE, EXTENT, CELL, 200, odd=False)
    one, other = (
        local_shifts(pair_of(pair.source, pair.target), shifted(0, 0), CELL, points, 3) for _ in range(2)
    )
    np.testing.assert_array_equal(one.shifts_um, other.shifts_um)
    assert one.limit == other.limit
