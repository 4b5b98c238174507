"""Where on a slide there is tissue: stained, not white, not pen, not the edge of the glass."""

from __future__ import annotations

import numpy as np

#: Brighter than this in its darkest channel is glass, whatever its hue.
NEAR_WHITE = 225
#: Darker than this in its brightest channel is a fold's shadow, a black pen or the frame.
NEAR_BLACK = 50
#: Otsu's threshold on saturation is held in this range: on a slide without glass it would split
#: the tissue itself, on a slide without tissue it would split the glass.
_LEAST_SATURATION, _MOST_SATURATION = 0.05, 0.20


def tissue_mask(rgb: np.ndarray) -> np.ndarray:
    """True where a pixel shows stained tissue.

    Args:
        rgb: (row, column, 3) uint8.

    Tissue is coloured (HSV saturation above Otsu's threshold), neither near white nor near black,
    and no pen. The blurred rim of a red pen on bare glass looks like eosin and is not told apart.
    """
    pixels = rgb.astype(np.int16)
    brightest, darkest = pixels.max(axis=-1), pixels.min(axis=-1)
    hue_range = brightest - darkest
    saturation = hue_range / np.maximum(brightest, 1)
    threshold = np.clip(otsu(saturation), _LEAST_SATURATION, _MOST_SATURATION)
    coloured = (saturation > threshold) & (darkest < NEAR_WHITE) & (brightest > NEAR_BLACK)
    return coloured & ~pen_mask(rgb)


def pen_mask(rgb: np.ndarray) -> np.ndarray:
    """True where a pixel has the colour of a green, red or blue marker pen.

    Haematoxylin, eosin and DAB all have less green than red, which green and blue pen have not; red
    pen is far more saturated than eosin.
    """
    red, green, blue = (rgb[..., channel].astype(np.int16) for channel in range(3))
    green_pen = (green > red + 8) & (green >= blue - 15)
    red_pen = (red > 120) & (green < red // 2) & (blue < red // 2)
    blue_pen = (blue > 100) & (red < blue // 2) & (green > red)
    return green_pen | red_pen | blue_pen


def otsu(values: np.ndarray, bins: int = 256) -> float:
    """The threshold in 0 to 1 that separates two classes best (Otsu 1979, equation 12).

    Args:
        values: any shape, in 0 to 1.
    """
    counts, edges = np.histogram(values, bins=bins, range=(0.0, 1.0))
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    moment = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (moment / below - (moment[-1] - moment) / above) ** 2
    return float(edges[1:][np.nanargmax(np.where(np.isfinite(between), between, -1.0))])
