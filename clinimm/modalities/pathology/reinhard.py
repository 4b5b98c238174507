"""Colour transfer after Reinhard et al., "Color transfer between images", IEEE Computer Graphics
and Applications 21, 2001: mean and spread of each channel of a perceptual colour space are moved
to those of a reference; here in CIELAB, over stained pixels alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from clinimm.modalities.pathology.stain_space import (
    WHITE,
    Pixels,
    StainFailureError,
    optical_density,
)

#: CIELAB mean and spread that every slide is moved to: round figures of sharp H&E at 1 µm a pixel.
_MEAN = np.array([50.0, 32.0, -13.0])
_SPREAD = np.array([13.0, 8.0, 7.0])
_LEAST_SPREAD = 0.5
_STAINED_FROM = 0.15  # optical density, mean over channels, from which a pixel is moved all the way


@dataclass(frozen=True)
class Reinhard:
    """A fitted colour transfer.

    Attributes:
        mean: of the slide's stained pixels, CIELAB.
        spread: their standard deviation.
        white: the slide's glass.
    """

    mean: Float[np.ndarray, "3"]
    spread: Float[np.ndarray, "3"]
    white: Float[np.ndarray, "3"]

    def apply(self, rgb: Pixels) -> Pixels:
        """The picture with the reference's colours; glass stays as it is, and pale pixels nearly so."""
        from skimage.color import lab2rgb, rgb2lab

        moved = (rgb2lab(rgb) - self.mean) / self.spread * _SPREAD + _MEAN
        moved[..., 0] = np.clip(moved[..., 0], 0, 100)
        stained = np.clip(optical_density(rgb, self.white).mean(-1, keepdims=True) / _STAINED_FROM, 0, 1)
        with np.errstate(invalid="ignore"):
            there = np.clip(lab2rgb(moved), 0, 1) * 255
        return np.rint(stained * there + (1 - stained) * rgb).astype(np.uint8)


def fit_reinhard(stained: Pixels, white: Float[np.ndarray, "3"] = WHITE) -> Reinhard:
    """Mean and spread of stained pixels.

    Args:
        stained: (pixel, 3), tissue without glass.
        white: the slide's glass.

    Raises:
        StainFailureError: ``one-stain``, all pixels have the same colour.
    """
    from skimage.color import rgb2lab

    lab = rgb2lab(stained)
    mean, spread = lab.mean(axis=0), lab.std(axis=0)
    if not (spread > _LEAST_SPREAD).all():
        raise StainFailureError("one-stain", f"the spread of colours is {spread.round(2).tolist()} in CIELAB")
    return Reinhard(mean, spread, white)
