import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from clinimm.simulate.noise import enlarge, grain, repeat, smooth_field


def test_a_field_has_variance_one_and_the_stated_scale():
    """Noise behind a Gaussian of s has the correlation exp(-d^2 / 4 s^2) at the distance d."""
    fields = [smooth_field(np.random.default_rng(seed), 128, 2.0, 20.0) for seed in range(60)]
    assert np.mean(fields) == pytest.approx(0, abs=0.05)
    assert np.var(fields) == pytest.approx(1, abs=0.12)
    apart = np.mean([field[:, :-20] * field[:, 20:] for field in fields])
    assert apart == pytest.approx(np.exp(-(40**2) / (4 * 20**2)), abs=0.08)


def test_enlarging_is_bilinear():
    coarse = np.random.default_rng(0).random((6, 6)).astype(np.float32)
    place = np.linspace(0.3, 4.7, 23, dtype=np.float32)
    theirs = map_coordinates(coarse, np.meshgrid(place, place, indexing="ij"), order=1)
    assert np.allclose(enlarge(coarse, place), theirs, atol=1e-6)


def test_repeating_makes_blocks():
    assert repeat(np.array([[1, 2], [3, 4]]), 2, 3).tolist() == [[1, 1, 2], [1, 1, 2], [3, 3, 4]]


def test_grain_has_variance_one_at_any_size():
    for sigma in (0.0, 2.0):
        fine = grain(np.random.default_rng(1), 300, sigma)
        assert fine.shape == (300, 300)
        assert fine[:256, :256].std() == pytest.approx(1, abs=0.02)
