"""Optical density, and how much of each dye a pixel holds.

Light falls off exponentially with the amount of dye (Beer and Lambert), so densities add where
colours do not. Densities here are decadic, as in QuPath, whose thresholds for DAB are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy.typing import ArrayLike

#: Ruifrok and Johnston (2001), table 1: relative absorption of red, green and blue, normalised on use.
HAEMATOXYLIN = (0.65, 0.70, 0.29)
EOSIN = (0.07, 0.99, 0.11)
DAB = (0.27, 0.57, 0.78)

Rgb = UInt8[np.ndarray, "row column 3"]
Plane = Float[np.ndarray, "row column"]
Mask = Bool[np.ndarray, "row column"]

_TABLE = -np.log10(np.maximum(np.arange(256), 1) / 255).astype(np.float32)
#: Stains that colour every cell or all tissue, so that there is no positive or negative cell to tell.
_UNSELECTIVE = frozenset({"HE", "HEMATOXYLIN", "HAEMATOXYLIN", "HEMA", "DAPI", "LAP2", "PAS", "MASSON"})
_FLUORESCENCE = frozenset({"DAPI", "LAP2", "MARKER", "IF"})
_COUNTERSTAIN = frozenset({"HEMATOXYLIN", "HAEMATOXYLIN", "HEMA", "HE"})
_SPECIAL = frozenset({"PAS", "MASSON"})


class Signal(StrEnum):
    """What carries the answer in a stained image, and therefore how its amount is measured.

    * ``dab``: the brown of an immunostain, decadic optical density after deconvolution.
    * ``haematoxylin``: the blue of a counterstain, likewise.
    * ``absorbance``: any other dye; decadic optical density, mean of the channels.
    * ``fluorescence``: light on a dark ground; the brightest of the channels in 0 to 1.
    """

    DAB = "dab"
    HAEMATOXYLIN = "haematoxylin"
    ABSORBANCE = "absorbance"
    FLUORESCENCE = "fluorescence"


def signal_of(stain: str) -> Signal:
    """The signal of a stain by its name: an immunostain with DAB unless the name says otherwise.

    >>> signal_of("SLIDE//KI67"), signal_of("DAPI")
    (<Signal.DAB: 'dab'>, <Signal.FLUORESCENCE: 'fluorescence'>)
    """
    name = stain.rsplit("//", 1)[-1].upper()
    if name in _FLUORESCENCE:
        return Signal.FLUORESCENCE
    if name in _SPECIAL:
        return Signal.ABSORBANCE
    return Signal.HAEMATOXYLIN if name in _COUNTERSTAIN else Signal.DAB


def is_selective(stain: str) -> bool:
    """Whether a stain tells cells apart (an antibody such as Ki-67) and does not colour them all.

    >>> is_selective("SLIDE//KI67"), is_selective("DAPI")
    (True, False)
    """
    return stain.rsplit("//", 1)[-1].upper() not in _UNSELECTIVE


def optical_density(rgb: Rgb) -> Float[np.ndarray, "row column 3"]:
    """Decadic optical density of each channel, 0 for white and 2.41 for black (float32)."""
    return _TABLE[rgb]


def unmix_matrix(*dyes: ArrayLike) -> Float[np.ndarray, "3 dye"]:
    """The matrix that turns densities of three channels into amounts of the given dyes.

    Two dyes get their cross product as a third, so that what neither explains is set aside
    (Ruifrok and Johnston 2001); its column is left out.
    """
    vectors = [np.asarray(dye, dtype=float) / np.linalg.norm(np.asarray(dye, dtype=float)) for dye in dyes]
    kept = len(vectors)
    if kept == 2:
        cross = np.cross(vectors[0], vectors[1])
        vectors.append(cross / np.linalg.norm(cross))
    return np.linalg.pinv(np.stack(vectors))[:, :kept]


def amounts(rgb: Rgb, dyes: Sequence[ArrayLike]) -> Float[np.ndarray, "row column dye"]:
    """Optical density of each dye in each pixel, not below zero (float32).

    Args:
        rgb: brightfield image.
        dyes: two or three absorption vectors, such as ``(HAEMATOXYLIN, DAB)``.
    """
    unmixed = optical_density(rgb) @ unmix_matrix(*dyes).astype(np.float32)
    return np.maximum(unmixed, 0)


def stain_amount(rgb: Rgb, signal: Signal) -> Plane:
    """How much of a stain's signal each pixel holds; see :class:`Signal` for the unit."""
    if signal is Signal.FLUORESCENCE:
        return rgb.max(axis=-1).astype(np.float32) / np.float32(255)
    if signal is Signal.ABSORBANCE:
        return optical_density(rgb).mean(axis=-1)
    return amounts(rgb, (HAEMATOXYLIN, DAB))[..., 1 if signal is Signal.DAB else 0]
