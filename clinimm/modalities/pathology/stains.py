"""Stain normalisation: fitted once a slide, on its tissue, and applied to any part of it.

A normaliser is a function of single pixels with constants that were fitted to the whole slide, so
a tile looks the same whatever is cut around it. Where the stains of a slide cannot be told (no
tissue, one stain only, a solver that fails) it is left as it is, and the reason is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from jaxtyping import Float, UInt8

from clinimm.core.errors import ConfigError
from clinimm.modalities.pathology.macenko import macenko_vectors
from clinimm.modalities.pathology.reinhard import fit_reinhard
from clinimm.modalities.pathology.stain_space import (
    HAEMATOXYLIN_EOSIN,
    WHITE,
    Pixels,
    StainFailureError,
    amounts,
    angle_degrees,
    optical_density,
    to_rgb,
)
from clinimm.modalities.pathology.tissue import NEAR_WHITE, tissue_mask
from clinimm.modalities.pathology.vahadane import vahadane_vectors

if TYPE_CHECKING:
    from clinimm.modalities.pathology.slide import Slide

METHODS = ("none", "macenko", "vahadane", "reinhard")
#: Why a slide may be left as it is, in the order of the codes that the token cache keeps.
REASONS = ("", "few-pixels", "one-stain", "not-finite", "no-solution")

#: Amounts of both stains, 99th percentile over tissue, that a normalised slide has: those of Macenko
#: et al. 2009, who count in natural logarithms.
_STRENGTHS = np.array([1.9705, 1.0308]) / np.log(10)
_STRONG = 99.0
_LEAST_DENSITY = 0.15 / np.log(10)  # Macenko's beta: paler than this in a channel says nothing of hue
_FEWEST_PIXELS = 500
_MOST_PIXELS = 20_000
#: Vectors that are closer belong to one stain and its noise: of a single stain with a noise of 4 grey
#: levels Macenko's extremes are 9 degrees apart and Vahadane's factors 5.
_LEAST_ANGLE_DEGREES = {"macenko": 11.0, "vahadane": 6.5}
_LEAST_STRENGTH = 0.03
_FIT_UM, _FIT_TILE, _FIT_TILES = 1.0, 64, 160
_THUMBNAIL = 1024
_LEAST_GLASS = 0.005
_VECTORS = {"macenko": macenko_vectors, "vahadane": vahadane_vectors}


class Normaliser(Protocol):
    """What moves a slide's colours to the reference."""

    def apply(self, rgb: Pixels) -> Pixels:
        """The same picture in the reference's colours."""
        ...


@dataclass(frozen=True)
class Separated:
    """A normaliser by stain separation.

    Attributes:
        vectors: unit rows, haematoxylin first.
        strengths: 99th percentile of each stain's amount over tissue.
        white: the slide's glass.
    """

    vectors: Float[np.ndarray, "stain=2 3"]
    strengths: Float[np.ndarray, "stain=2"]
    white: Float[np.ndarray, "3"]

    def separate(self, rgb: Pixels) -> Float[np.ndarray, "*place 2"]:
        """Haematoxylin and the other stain of each pixel, in units of optical density."""
        return amounts(optical_density(rgb, self.white), self.vectors)

    def apply(self, rgb: Pixels) -> Pixels:
        """The same amounts, scaled to the reference's, in the reference's colours.

        What neither stain explains (pigment, ink) is kept as it is.
        """
        density = optical_density(rgb, self.white)
        found = amounts(density, self.vectors)
        rest = density - found @ self.vectors
        return to_rgb(found * (_STRENGTHS / self.strengths) @ _reference() + rest)


@dataclass(frozen=True)
class Unchanged:
    """Leaves a slide as it is.

    Attributes:
        code: one of ``REASONS``; empty where nothing was asked for.
        reason: the same in words, with figures.
    """

    code: str = ""
    reason: str = ""

    def apply(self, rgb: Pixels) -> Pixels:
        """The picture itself."""
        return rgb


def fit_normaliser(
    pixels: UInt8[np.ndarray, "pixel 3"],
    method: str,
    white: Float[np.ndarray, "3"] = WHITE,
    seed: int = 0,
) -> Normaliser:
    """A normaliser for the slide that these tissue pixels are of.

    Args:
        pixels: tissue, some thousands of pixels from all over the slide.
        method: one of ``METHODS``.
        white: the slide's glass.
        seed: of the draw of pixels; the same seed gives the same normaliser.

    Returns:
        ``Unchanged`` with its reason where the stains cannot be told.

    Raises:
        ConfigError: the method is unknown.

    >>> fit_normaliser(np.full((1000, 3), 250, np.uint8), "macenko").code
    'few-pixels'
    """
    if method not in METHODS:
        raise ConfigError(f"stain normalisation {method!r} is unknown; known are {', '.join(METHODS)}.")
    if method == "none":
        return Unchanged()
    try:
        stained = _stained(pixels, white, seed)
        if method == "reinhard":
            return fit_reinhard(stained, white)
        density = optical_density(stained, white)
        vectors = _VECTORS[method](density)
        _check_angle(vectors, _LEAST_ANGLE_DEGREES[method])
        return Separated(vectors, _strengths(density, vectors), white)
    except StainFailureError as error:
        return Unchanged(error.code, str(error))


def fit_slide(slide: Slide, method: str, seed: int = 0) -> Normaliser:
    """A normaliser for an open slide, from tissue at 1 µm a pixel all over it.

    Raises:
        ConfigError: the method is unknown.
        InputRejected: the slide states no resolution or is damaged.
    """
    from clinimm.modalities.pathology.transform import tiles

    if method == "none":
        return Unchanged()
    parts = [tile.rgb for tile in tiles(slide, _FIT_UM, _FIT_TILE, _FIT_TILES, seed)]
    pixels = [part[tissue_mask(part)] for part in parts] or [np.zeros((0, 3), np.uint8)]
    return fit_normaliser(np.concatenate(pixels), method, glass_of(slide.thumbnail(_THUMBNAIL)), seed)


def glass_of(overview: UInt8[np.ndarray, "row column 3"]) -> Float[np.ndarray, "3"]:
    """The median colour of a slide's glass, or ``WHITE`` where it shows none.

    Pure white is a scanner's filling of what it left out, and no glass.
    """
    flat = overview.reshape(-1, 3)
    glass = flat[(flat.min(axis=1) > NEAR_WHITE) & (flat.min(axis=1) < 255)]
    return np.median(glass, axis=0) if len(glass) > _LEAST_GLASS * len(flat) else WHITE.copy()


def _reference() -> Float[np.ndarray, "stain=2 3"]:
    return HAEMATOXYLIN_EOSIN / np.linalg.norm(HAEMATOXYLIN_EOSIN, axis=1, keepdims=True)


def _stained(pixels: np.ndarray, white: np.ndarray, seed: int) -> np.ndarray:
    """At most ``_MOST_PIXELS`` of the pixels that are dense enough in every channel to show a hue."""
    chosen = pixels[(optical_density(pixels, white) > _LEAST_DENSITY).all(axis=1)]
    if len(chosen) < _FEWEST_PIXELS:
        raise StainFailureError(
            "few-pixels", f"{len(chosen)} stained pixels were found; {_FEWEST_PIXELS} are needed"
        )
    drawn = np.random.default_rng(seed).permutation(len(chosen))[:_MOST_PIXELS]
    return chosen[np.sort(drawn)]


def _check_angle(vectors: np.ndarray, least: float) -> None:
    angle = angle_degrees(*vectors)
    if not angle > least:
        raise StainFailureError(
            "one-stain", f"the stain vectors are {angle:.1f} degrees apart; {least} are needed"
        )


def _strengths(density: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    strengths = np.percentile(amounts(density, vectors), _STRONG, axis=0)
    if not np.isfinite(strengths).all():
        raise StainFailureError("not-finite", f"the stains' strengths are {strengths.tolist()}")
    if not (strengths > _LEAST_STRENGTH).all():
        raise StainFailureError(
            "one-stain",
            f"the stains' strengths are {strengths.round(3).tolist()}; {_LEAST_STRENGTH} is needed",
        )
    return strengths
