import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator

from clinimm.staining.deformation import IDENTITY, Affine, Deformation


def bent(amount_um: float) -> Deformation:
    still = Deformation.still(Affine(((0.0, -1.0), (1.0, 0.0)), (30.0, 5.0)), (100.0, 80.0), 10.0)
    x, y = still.nodes_um().T
    shift = amount_um * np.stack([np.sin(x / 16), np.cos(y / 16)], axis=-1)
    return Deformation(still.affine, 10.0, shift.reshape(still.displacement_um.shape))


@given(st.floats(-180, 180), st.floats(0.8, 1.2))
def test_the_nearest_rotation_and_the_stretch_of_an_affine_map_are_read_off_it(
    degrees: float, stretch: float
) -> None:
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    affine = Affine.of(turn @ np.diag([stretch, 1.0]), np.array([3.0, 4.0]))
    difference = (affine.rotation_degrees() - degrees + 180) % 360 - 180
    assert difference == pytest.approx(0, abs=1e-6)
    assert affine.stretches() == pytest.approx((max(stretch, 1.0), min(stretch, 1.0)))
    assert not affine.mirrors()


def test_a_mirrored_map_is_seen() -> None:
    assert Affine(((-1.0, 0.0), (0.0, 1.0)), (0.0, 0.0)).mirrors()


def test_points_between_nodes_follow_scipys_interpolator() -> None:
    deformation = bent(3.0)
    rows, columns = deformation.displacement_um.shape[:2]
    reference = RegularGridInterpolator(
        (np.arange(rows) * 10.0, np.arange(columns) * 10.0), deformation.displacement_um
    )
    points = np.random.default_rng(0).uniform((0, 0), (100, 80), size=(50, 2))
    expected = deformation.affine.apply(points) + reference(points[:, ::-1])
    np.testing.assert_allclose(deformation.apply(points), expected, atol=1e-9)


def test_the_least_jacobian_is_that_of_a_dense_look() -> None:
    deformation = bent(4.0)
    rows, columns = deformation.displacement_um.shape[:2]
    step, worst = 1e-4, np.inf
    for corner in (0.001, 9.998):  # just inside every cell, at all four corners
        for other in (0.001, 9.998):
            y, x = np.mgrid[0 : rows - 1, 0 : columns - 1] * 10.0
            points = np.stack([x.ravel() + corner, y.ravel() + other], axis=-1)
            along = [
                (deformation.apply(points + move) - deformation.apply(points)) / step
                for move in (np.array([step, 0]), np.array([0, step]))
            ]
            worst = min(worst, float(np.linalg.det(np.stack(along, axis=-1)).min()))
    assert deformation.least_jacobian() == pytest.approx(worst, abs=1e-3)


def test_a_fold_has_a_jacobian_below_zero() -> None:
    assert bent(1.0).least_jacobian() > 0
    assert bent(40.0).least_jacobian() < 0


def test_nothing_moves_without_a_displacement() -> None:
    still = Deformation.still(IDENTITY, (100.0, 80.0), 10.0)
    points = np.array([[0.0, 0.0], [100.0, 80.0], [-5.0, 200.0]])
    np.testing.assert_array_equal(still.apply(points), points)
    assert still.least_jacobian() == 1.0


def test_a_shift_goes_before_the_map() -> None:
    deformation = bent(2.0)
    shift = np.full(deformation.displacement_um.shape, 10.0)  # one node along both axes
    after = deformation.followed_by_shift(shift)
    nodes = deformation.nodes_um()
    np.testing.assert_allclose(after.apply(nodes), deformation.apply(nodes + 10.0), atol=1e-9)
