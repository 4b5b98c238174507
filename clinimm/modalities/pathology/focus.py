"""Is it sharp? How much of a picture's edges a blur would take away.

What is sharp loses most of its edges when it is blurred again, what is blurred already does not (Crété
et al., "The blur effect: perception and estimation with a new no-reference perceptual blur metric",
SPIE 6492, 2007; ``skimage.measure.blur_effect`` is the same for one whole picture). The share does not
depend on how strong the edges are, so pale tissue is judged like dark tissue.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage

#: Resolution at which focus is judged, µm a pixel: nuclei are some eight pixels wide.
FOCUS_UM = 1.0
#: Side of a block that is judged as a whole, pixels at that resolution.
BLOCK = 64
#: A block whose ``blur`` is above this is out of focus.
BLURRED = 0.55

_WINDOW = 11  # the paper's re-blurring filter is nine taps, scikit-image's eleven
_NOISE = 0.7  # sigma, pixels: noise of the sensor is no edge
_LEAST_EDGE = 0.001  # mean gradient, share of full scale, below which there is nothing to judge


def blur(
    rgb: UInt8[np.ndarray, "row column 3"], block: int = BLOCK
) -> Float[np.ndarray, "block_row block_column"]:
    """How blurred each block is, 0 sharp to 1 blurred; NaN where it shows no edge at all.

    Args:
        rgb: a picture at ``FOCUS_UM``; what is left over at its right and lower edge is not judged.
        block: side of a block, pixels.

    >>> bool(np.isnan(blur(np.full((64, 64, 3), 244, np.uint8))).all())
    True
    """
    grey = ndimage.gaussian_filter(rgb.astype(np.float32).mean(axis=-1) / 255, _NOISE)
    found = [_blur_along(grey, axis, block) for axis in (0, 1)]
    return np.maximum(*found)


def _blur_along(grey: Float[np.ndarray, "row column"], axis: int, block: int) -> np.ndarray:
    again = ndimage.uniform_filter1d(grey, _WINDOW, axis=axis)
    edges = np.abs(ndimage.sobel(grey, axis=axis)) / 8
    left = np.abs(ndimage.sobel(again, axis=axis)) / 8
    total = _block_means(edges, block)
    lost = _block_means(np.maximum(edges - left, 0), block)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(total > _LEAST_EDGE, 1 - lost / total, np.nan)


def _block_means(values: Float[np.ndarray, "row column"], block: int) -> np.ndarray:
    rows, columns = values.shape[0] // block, values.shape[1] // block
    whole = values[: rows * block, : columns * block]
    return whole.reshape(rows, block, columns, block).mean(axis=(1, 3))
