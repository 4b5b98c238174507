"""Windows looked for in places by normalised cross-correlation (Lewis 1995), as scikit-image's
``match_template`` does it, but with one Fourier transform a window and one a place, however often they
are compared: a window of a slide is looked for in its own place and in wrong ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex64, Float, Float32, Float64
from scipy import fft

#: Contrast below this share of the largest is rounding, and correlates with nothing.
_LEAST_ENERGY = 1e-6


@dataclass(frozen=True)
class Match:
    """Where a window is seen: best correlation, that without a shift, and the shift (x, y) in pixels."""

    correlation: float
    in_place: float
    shift: tuple[float, float]


class Matcher:
    """Windows and places, ready to be compared in any combination.

    Args:
        windows: (row, column) each, all of one shape.
        places: larger, all of one shape; the middle of a place is where its window belongs.
    """

    def __init__(self, windows: list[Float32[np.ndarray, "_ _"]], places: list[Float32[np.ndarray, "_ _"]]):
        self._side = np.asarray(windows[0].shape)
        self._room = np.asarray(places[0].shape) - self._side + 1
        self._size = tuple(fft.next_fast_len(side, real=True) for side in places[0].shape)
        self._windows = [self._spectrum(_normed(window)).conj() for window in windows]
        self._places = [self._spectrum(place - place.mean()) for place in places]
        self._spread = [_spread(place - place.mean(), windows[0].shape) for place in places]

    def match(self, window: int, place: int) -> Match:
        """The best shift of a window in a place, to a fraction of a pixel by a parabola."""
        surface = self.surface(window, place)
        row, column = np.unravel_index(int(np.argmax(surface)), surface.shape)
        middle = surface.shape[0] // 2, surface.shape[1] // 2
        down = row + _vertex(surface[:, column], int(row)) - middle[0]
        right = column + _vertex(surface[row], int(column)) - middle[1]
        return Match(float(surface[row, column]), float(surface[middle]), (float(right), float(down)))

    def surface(self, window: int, place: int) -> Float[np.ndarray, "row column"]:
        """The correlation for every shift at which the window lies inside the place."""
        product = fft.irfft2(self._windows[window] * self._places[place], self._size)
        rows, columns = self._room
        return np.asarray(product[:rows, :columns] / self._spread[place])

    def _spectrum(self, image: np.ndarray) -> Complex64[np.ndarray, "row column"]:
        return np.asarray(fft.rfft2(image.astype(np.float32), self._size))


def _normed(window: Float32[np.ndarray, "row column"]) -> Float32[np.ndarray, "row column"]:
    """Mean 0 and length 1; all 0 where there is no contrast."""
    around = window - window.mean()
    length = float(np.linalg.norm(around))
    return around / length if length > 0 else around


def _spread(place: np.ndarray, side: tuple[int, ...]) -> Float64[np.ndarray, "row column"]:
    """Length of every part of the place that a window can lie on, about its own mean."""
    values = place.astype(np.float64)
    energy = _sums(values**2, side) - _sums(values, side) ** 2 / np.prod(side)
    return np.sqrt(np.where(energy > _LEAST_ENERGY * max(float(energy.max()), 1e-30), energy, np.inf))


def _sums(values: Float64[np.ndarray, "_ _"], side: tuple[int, ...]) -> Float64[np.ndarray, "_ _"]:
    """Sums over all parts of this shape (a summed-area table)."""
    table = np.pad(values.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    rows, columns = side
    return (
        table[rows:, columns:] - table[:-rows, columns:] - table[rows:, :-columns] + table[:-rows, :-columns]
    )


def _vertex(values: np.ndarray, index: int) -> float:
    """Offset of a parabola's vertex through the largest value and its two neighbours."""
    if not 0 < index < len(values) - 1:
        return 0.0
    before, here, after = (float(value) for value in values[index - 1 : index + 2])
    bend = before - 2 * here + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0
