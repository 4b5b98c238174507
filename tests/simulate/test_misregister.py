import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from clinimm.simulate.misregister import Misregistration, draw_misregistration, offset_field, to_target

_PIXELS, _UM = 200, 0.5


def test_a_shift_is_the_same_everywhere_and_in_micrometres():
    offset = offset_field(Misregistration(shift_um=(4.0, -3.0)), _PIXELS, _UM)
    assert np.allclose(offset[0], 8)
    assert np.allclose(offset[1], -6)


def test_rotation_agrees_with_scipy():
    offset = offset_field(Misregistration(rotation_degrees=3.0), _PIXELS, _UM)
    centre = (_PIXELS - 1) / 2
    corner = np.array([0.0, 0.0, 0.0]) - [centre, centre, 0]
    turned = Rotation.from_euler("z", 3, degrees=True).apply(corner) - corner
    assert offset[:, 0, 0] == pytest.approx(turned[:2], abs=1e-3)


def test_the_deformation_is_as_long_as_stated_and_smooth():
    offset = offset_field(Misregistration(deformation_um=5.0, seed=3), _PIXELS, _UM) * _UM
    assert np.hypot(*offset).max() == pytest.approx(5, abs=1e-3)
    assert max(np.abs(np.diff(offset, axis=axis)).max() for axis in (1, 2)) < 0.25


def test_points_there_and_back():
    move = Misregistration((4.0, 2.0), 1.0, 4.0, 9)
    source = np.random.default_rng(0).uniform(40, 160, size=(50, 2))
    target = to_target(source, move, _PIXELS, _UM)
    offset = offset_field(move, _PIXELS, _UM)
    near = np.round(target).astype(int)
    back = target + offset[:, near[:, 1], near[:, 0]].T
    assert np.abs(back - source).max() < 0.1
    assert np.abs(target - source).max() > 5


def test_drawn_movements_keep_within_their_sizes():
    for seed in range(30):
        move = draw_misregistration(np.random.default_rng(seed), 8.0, 0.8, 3.0)
        assert 0.39 * 8 <= np.hypot(*move.shift_um) <= 8.01
        assert 0.3 <= abs(move.rotation_degrees) <= 0.8
        assert 1.2 <= move.deformation_um <= 3
