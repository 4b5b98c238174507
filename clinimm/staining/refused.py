"""How a region looks that the model must not be believed on: hatched grey, which no tissue is."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, UInt8

GLASS_WHITE = 255
_LIGHT, _DARK = 208, 120
#: A stripe of the hatching repeats after so many pixels and is so wide, along a row.
_PERIOD, _STRIPE = 16, 5


def draw_refused(
    pixels: UInt8[np.ndarray, "row column 3"],
    refused: Bool[np.ndarray, "row column"],
    top: int,
    left: int,
) -> None:
    """Draw the hatching into ``pixels`` where ``refused``; stripes run on from tile to tile.

    Args:
        pixels: changed in place.
        refused: of the same rows and columns.
        top, left: of the first pixel, on the whole image.
    """
    if not refused.any():
        return
    rows = np.arange(top, top + pixels.shape[0])[:, None]
    columns = np.arange(left, left + pixels.shape[1])[None, :]
    stripes = np.where((rows + columns) % _PERIOD < _STRIPE, _DARK, _LIGHT).astype(np.uint8)
    pixels[refused] = stripes[refused][:, None]
