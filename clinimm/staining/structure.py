"""One grey picture of where nuclei and dense tissue are, alike for every stain.

Stains differ in colour and in sign: on glass tissue is darker than its surroundings, under
fluorescence brighter. Registration compares neither colour nor brightness but *structure*: 0 is
background, 1 is as dense as the densest nuclei of this slide. On glass it is the optical density of
the red channel, which haematoxylin and DAB absorb and eosin hardly does (Ruifrok and Johnston 2001,
table 1), so that H&E and IHC of one section look alike; under fluorescence it is the brightest channel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from scipy import ndimage

from clinimm.core.errors import InputRejected

#: Optical density, or share of the full brightness, below which a picture shows nothing.
LEAST_SPAN = 0.05
#: Share of a picture that has to hold structure.
LEAST_TISSUE_SHARE = 0.005
#: Darker than this in every channel, on glass, lies outside what was scanned.
_UNSCANNED = 5
#: Brightness that glass has at least, 0 to 255; darker without anything bright on it is a failed scan.
_LEAST_LIGHT = 50
#: Below this share of the red channel's rivals, red alone says too little (a blue filter, a red dye).
_LEAST_RED_SHARE = 0.35


@dataclass(frozen=True)
class StructureScale:
    """What turns the colours of one slide into structure; fitted once on the whole of it.

    Attributes:
        dark_field: whether the background is dark, as under fluorescence.
        background: brightness of the background in red, green and blue, 0 to 255.
        weights: share of each channel's optical density; unused in dark field.
        span: optical density (or brightness in 0 to 1) that counts as 1.
    """

    dark_field: bool
    background: tuple[float, float, float]
    weights: tuple[float, float, float]
    span: float


def fit_scale(rgb: UInt8[np.ndarray, "row column 3"]) -> StructureScale:
    """The scale of a slide from its overview.

    Raises:
        InputRejected: ``no-tissue``, the picture has no contrast anywhere.
    """
    dark = is_dark_field(rgb)
    pixels = rgb[rgb.max(axis=-1) >= _UNSCANNED] if not dark else rgb.reshape(-1, 3)
    background = np.percentile(pixels, 5 if dark else 98, axis=0) if len(pixels) else np.zeros(3)
    if not dark and background.max() < _LEAST_LIGHT:
        raise no_tissue(f"its brightest part is {background.max():.0f} of 255")
    density = _density(rgb, dark, background)
    spread = np.percentile(density.reshape(-1, 3), 99, axis=0)
    weights = _weights(spread)
    amount = density.max(axis=-1) if dark else density @ weights
    span = float(np.percentile(amount, 99.5))
    if span < LEAST_SPAN:
        raise no_tissue(f"its densest part stands out by {span:.3f} only, at least {LEAST_SPAN} is expected")
    first, second, third = (float(value) for value in background)
    red, green, blue = (float(value) for value in weights)
    return StructureScale(dark, (first, second, third), (red, green, blue), span)


def structure(
    rgb: UInt8[np.ndarray, "row column 3"], scale: StructureScale
) -> Float32[np.ndarray, "row column"]:
    """Structure in 0 to 1 of a picture, or of any part of it, under the whole slide's scale."""
    density = _density(rgb, scale.dark_field, np.asarray(scale.background))
    amount = density.max(axis=-1) if scale.dark_field else density @ np.asarray(scale.weights)
    return np.clip(amount / scale.span, 0.0, 1.0).astype(np.float32)


def is_dark_field(rgb: UInt8[np.ndarray, "row column 3"]) -> bool:
    """Whether the background is dark: most pixels are dark and the few others are brighter, not darker."""
    low, middle, high = np.percentile(rgb.max(axis=-1), (1, 50, 99))
    return bool(middle < 0.45 * 255 and middle - low < high - middle)


def tissue_of(
    image: Float32[np.ndarray, "row column"], resolution_um: float
) -> Bool[np.ndarray, "row column"]:
    """Where a structure picture holds tissue: denser, over 20 µm, than a tenth of the densest nuclei.

    Raises:
        InputRejected: ``no-tissue``, next to nothing of the picture does.
    """
    dense = ndimage.gaussian_filter(image, max(1.0, 10.0 / resolution_um)) > 0.1
    if (share := float(dense.mean())) < LEAST_TISSUE_SHARE:
        raise no_tissue(f"{share:.2%} of it holds structure, at least {LEAST_TISSUE_SHARE:.2%} is expected")
    return dense


def no_tissue(found: str) -> InputRejected:
    """The refusal of a picture with nothing on it."""
    return InputRejected(
        "no-tissue",
        f"nothing to register on is seen in the picture: {found}",
        "check that the file is the stained slide and not an empty or failed scan",
    )


def _density(
    rgb: UInt8[np.ndarray, "row column 3"], dark: bool, background: np.ndarray
) -> Float32[np.ndarray, "row column 3"]:
    """Optical density against the background on glass; brightness above it (0 to 1) in dark field."""
    if dark:
        return np.maximum((rgb.astype(np.float32) - background.astype(np.float32)) / 255, 0)
    table = np.log10((background + 1) / (np.arange(256)[:, None] + 1)).clip(0).astype(np.float32)
    density = np.stack([table[rgb[..., channel], channel] for channel in range(3)], axis=-1)
    density[rgb.max(axis=-1) < _UNSCANNED] = 0
    return density


def _weights(spread: np.ndarray) -> np.ndarray:
    enough = spread[0] >= _LEAST_RED_SHARE * max(spread.max(), 1e-6)
    return np.array([1, 0, 0] if enough else [1 / 3] * 3, dtype=np.float32)
