"""Where on a slide there is tissue: stained, not white, not pen, not the edge of the glass."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, UInt8

#: Brighter than this in its darkest channel is glass, whatever its hue.
NEAR_WHITE = 225
#: Darker than this in its brightest channel is a fold's shadow, a black pen or the frame.
NEAR_BLACK = 50
#: Otsu's threshold on saturation is held in this range: on a slide without glass it would split
#: the tissue itself, on a slide without tissue it would split the glass.
_THRESHOLDS = (0.05, 0.20)

#: A pixel's brightest and darkest channel, and its HSV saturation, by ``brightest << 8 | darkest``.
_BRIGHTEST, _DARKEST = (index.astype(np.int16).ravel() for index in np.indices((256, 256)))
_SATURATION = np.maximum(_BRIGHTEST - _DARKEST, 0) / np.maximum(_BRIGHTEST, 1)


def tissue_mask(rgb: UInt8[np.ndarray, "row column 3"]) -> Bool[np.ndarray, "row column"]:
    """True where a pixel shows stained tissue.

    Args:
        rgb: (row, column, 3) uint8.

    Tissue is coloured (HSV saturation above Otsu's threshold), neither near white nor near black,
    and no pen. The blurred rim of a red pen on bare glass looks like eosin and is not told apart.
    """
    red, green, blue = (rgb[..., channel] for channel in range(3))
    # Chains of two-way maxima are ten times as fast as a maximum along an axis of three.
    brightest = np.maximum(np.maximum(red, green), blue)
    darkest = np.minimum(np.minimum(red, green), blue)
    pair = brightest.astype(np.uint16) << 8 | darkest
    # All that follows depends on the pair alone, of which there are only 65,536.
    threshold = np.clip(otsu(_SATURATION, np.bincount(pair.ravel(), minlength=1 << 16)), *_THRESHOLDS)
    stained = (threshold < _SATURATION) & (_DARKEST < NEAR_WHITE) & (_BRIGHTEST > NEAR_BLACK)
    return stained[pair] & ~pen_mask(rgb)


def pen_mask(rgb: UInt8[np.ndarray, "row column 3"]) -> Bool[np.ndarray, "row column"]:
    """True where a pixel has the colour of a green, red or blue marker pen.

    Haematoxylin, eosin and DAB all have less green than red, which green and blue pen have not; red
    pen is far more saturated than eosin. ``quality.pens`` tells the colours apart and follows the
    strokes into their rims.
    """
    red, green, blue = (rgb[..., channel].astype(np.int16) for channel in range(3))
    green_pen = (green > red + 8) & (green >= blue - 15)
    red_pen = (red > 120) & (green < red // 2) & (blue < red // 2)
    blue_pen = (blue > 100) & (red < blue // 2) & (green > red)
    return green_pen | red_pen | blue_pen


def otsu(values: Float[np.ndarray, " *any"], counts: np.ndarray | None = None, bins: int = 256) -> float:
    """The threshold in 0 to 1 that separates two classes best (Otsu 1979, equation 12).

    Args:
        values: any shape, in 0 to 1.
        counts: how often each value stands for; None is once.
    """
    counts, edges = np.histogram(values, bins=bins, range=(0.0, 1.0), weights=counts)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    moment = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (moment / below - (moment[-1] - moment) / above) ** 2
    return float(edges[1:][np.nanargmax(np.where(np.isfinite(between), between, -1.0))])
