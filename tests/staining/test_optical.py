"""Optical density and dyes."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.color import rgb2hed

from clinimm.staining import optical
from clinimm.staining.optical import DAB, EOSIN, HAEMATOXYLIN, Signal

NOISE = np.random.default_rng(0).integers(1, 256, size=(24, 30, 3), dtype=np.uint8)


def test_dyes_are_those_of_scikit_image_in_decadic_density() -> None:
    # scikit-image counts in natural logarithms over ln(1e-6), and does not make dyes unit vectors.
    lengths = np.linalg.norm([HAEMATOXYLIN, EOSIN, DAB], axis=1)
    theirs = rgb2hed(NOISE) * 6 * lengths
    ours = optical.amounts(NOISE, (HAEMATOXYLIN, EOSIN, DAB))
    np.testing.assert_allclose(ours, np.maximum(theirs, 0), atol=2e-3)


def test_a_mixed_colour_is_unmixed() -> None:
    dyes = [np.array(dye) / np.linalg.norm(dye) for dye in (HAEMATOXYLIN, DAB)]
    colour = 255 * 10 ** -(0.4 * dyes[0] + 0.7 * dyes[1])
    image = np.broadcast_to(colour.round().astype(np.uint8), (2, 2, 3))
    assert optical.stain_amount(image, Signal.DAB) == pytest.approx(0.7, abs=0.01)
    assert optical.stain_amount(image, Signal.HAEMATOXYLIN) == pytest.approx(0.4, abs=0.01)


def test_white_holds_nothing_and_black_is_finite() -> None:
    assert optical.optical_density(np.full((1, 1, 3), 255, np.uint8)).max() == 0
    assert optical.optical_density(np.zeros((1, 1, 3), np.uint8)) == pytest.approx(np.log10(255))


@pytest.mark.parametrize(
    ("stain", "signal", "selective"),
    [
        ("SLIDE//KI67", Signal.DAB, True),
        ("CD31", Signal.DAB, True),
        ("SLIDE//HE", Signal.HAEMATOXYLIN, False),
        ("DAPI", Signal.FLUORESCENCE, False),
        ("marker", Signal.FLUORESCENCE, True),
        ("PAS", Signal.ABSORBANCE, False),
    ],
)
def test_a_stains_name_says_what_is_measured(stain: str, signal: Signal, selective: bool) -> None:
    assert optical.signal_of(stain) is signal
    assert optical.is_selective(stain) is selective
