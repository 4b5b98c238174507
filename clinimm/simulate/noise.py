"""Smooth random fields that shapes and textures are drawn from."""

from __future__ import annotations

from math import ceil, pi, sqrt

import numpy as np
from jaxtyping import Float32

_CELLS_A_SCALE = 2.0


def smooth_field(
    generator: np.random.Generator, side: int, step_um: float, scale_um: float
) -> Float32[np.ndarray, "side side"]:
    """Gaussian noise of mean 0 and variance 1 whose values stay alike over about ``scale_um``.

    Args:
        generator: drawn from once.
        side: rows and columns of the result.
        step_um: distance of two of its points, micrometres.
        scale_um: standard deviation of the Gaussian that smooths white noise, micrometres.
    """
    from scipy.ndimage import gaussian_filter

    cell_um = scale_um / _CELLS_A_SCALE
    cells = ceil(side * step_um / cell_um) + 3
    white = generator.standard_normal((cells, cells), dtype=np.float32)
    # White noise behind a Gaussian of s cells has the standard deviation 1 / (2 s sqrt(pi)).
    smooth = gaussian_filter(white, _CELLS_A_SCALE, mode="wrap") * np.float32(2 * _CELLS_A_SCALE * sqrt(pi))
    return enlarge(smooth, 1 + np.arange(side, dtype=np.float32) * np.float32(step_um / cell_um))


def enlarge(
    coarse: Float32[np.ndarray, "cell cell"], place: Float32[np.ndarray, " side"]
) -> Float32[np.ndarray, "side side"]:
    """Bilinear values of ``coarse`` at the rows and columns ``place``, in its own cells."""
    low = np.clip(place.astype(np.intp), 0, len(coarse) - 2)
    part = (place - low).astype(np.float32)
    rows = coarse[low] * (1 - part)[:, None] + coarse[low + 1] * part[:, None]
    return np.asarray(rows[:, low] * (1 - part) + rows[:, low + 1] * part, dtype=np.float32)


def repeat(coarse: np.ndarray, times: int, side: int) -> np.ndarray:
    """Every cell as a block of ``times`` by ``times``, cut at ``side`` rows and columns."""
    return np.repeat(np.repeat(coarse, times, axis=0), times, axis=1)[:side, :side]


def grain(generator: np.random.Generator, side: int, sigma: float) -> Float32[np.ndarray, "side side"]:
    """Fine texture of mean 0 and variance 1, ``sigma`` pixels wide; it repeats every 256 pixels."""
    from scipy.ndimage import gaussian_filter

    tile = generator.standard_normal((256, 256), dtype=np.float32)
    if sigma:
        tile = gaussian_filter(tile, sigma, mode="wrap")
        tile /= tile.std()
    times = ceil(side / 256)
    return np.tile(tile, (times, times))[:side, :side]
