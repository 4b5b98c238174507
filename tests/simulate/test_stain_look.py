import numpy as np
import pytest
from skimage.color import hdx_from_rgb, separate_stains

from clinimm.simulate.stain_look import DAB, EOSIN, HAEMATOXYLIN, SITE_LOOKS, Look, colour, draw_look

_STAINS = {EOSIN: 0.3, DAB: 0.7}


@pytest.mark.parametrize("direction", [HAEMATOXYLIN, EOSIN, DAB])
def test_directions_have_length_one(direction):
    assert np.linalg.norm(direction) == pytest.approx(1, abs=0.005)


def test_amounts_are_found_again_by_skimage():
    """Deconvolution with the same directions gives the amounts that were put in."""
    put_in = np.full((64, 64), 0.4, np.float32), np.full((64, 64), 0.7, np.float32)
    rgb = colour(*put_in, DAB, Look(white=(255, 255, 255)), np.random.default_rng(0))
    third = np.cross(HAEMATOXYLIN, DAB)
    found = separate_stains(rgb, np.linalg.inv(np.array([HAEMATOXYLIN, DAB, third / np.linalg.norm(third)])))
    amounts = found.mean(axis=(0, 1)) * 6  # skimage counts in units of six decades
    assert amounts[0] == pytest.approx(0.4, abs=0.02)
    assert amounts[1] == pytest.approx(0.7, abs=0.02)
    assert hdx_from_rgb.shape == (3, 3)


def test_bare_glass_is_as_white_as_the_scanner_says():
    nothing = np.zeros((32, 32), np.float32)
    for look in SITE_LOOKS.values():
        glass = colour(nothing, nothing, EOSIN, look, np.random.default_rng(0))
        assert np.abs(glass.mean(axis=(0, 1)) - look.white).max() < 3


def test_sites_look_different_and_days_differ_little():
    first, second = (draw_look("southbank", np.random.default_rng(seed)) for seed in (0, 1))
    assert first.scanner == second.scanner == "SIM02"
    assert first.haematoxylin != second.haematoxylin
    assert abs(first.haematoxylin / second.haematoxylin - 1) < 0.25
    amount = np.full((32, 32), 0.5, np.float32)
    shown = [
        colour(amount, amount, EOSIN, look, np.random.default_rng(0)).mean(axis=(0, 1))
        for look in SITE_LOOKS.values()
    ]
    assert min(np.abs(shown[i] - shown[j]).max() for i in range(3) for j in range(i)) > 8
