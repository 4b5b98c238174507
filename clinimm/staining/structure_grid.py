"""Nuclear structure of a tile on a grid of a few pixels a nucleus, and the peaks in it.

Structure is the optical density of red: haematoxylin and DAB absorb red, eosin hardly does
(Ruifrok and Johnston 2001), so that it holds for H&E and for an immunostain alike, without
a separation that may fail.

Every tile of a slide is looked at, so the peaks must be cheap: 3 ms a tile of 256 pixels, where
``nuclei.find_nuclei``, which measures positivity, takes 59 ms. In exchange they miss pale nuclei, a fifth of
all on simulated tissue; counts for people come from ``find_nuclei``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.ndimage import gaussian_filter, maximum_filter

from clinimm.staining.appearance import density_planes

#: Pixels to a nucleus's radius below which an image is not reduced further.
_RADIUS_PIXELS = 3.0

Plane = Float[np.ndarray, "row column"]
Places = Int[np.ndarray, "nucleus 2"]


@dataclass(frozen=True)
class StructureGrid:
    """Images reduced to a few pixels a nucleus: an eighth of the time, the same nuclei.

    Attributes:
        step: pixels of the tile a pixel of the grid.
        radius: a usual nucleus, pixels of the grid.
    """

    step: int
    radius: float

    @classmethod
    def of(cls, radius_px: float) -> StructureGrid:
        """The grid on which a nucleus's radius is at least three pixels, where the tile allows it."""
        step = max(1, int(radius_px / _RADIUS_PIXELS))
        return cls(step, radius_px / step)

    def structure(self, rgb: np.ndarray) -> Plane:
        """Optical density of red."""
        return gaussian_filter(self.density(rgb)[0], self.radius / 4)

    def look(self, rgb: np.ndarray) -> Float[np.ndarray, "row column look"]:
        """What the way back sees of a pixel: densities near and around it, and their products."""
        density = self.density(rgb)
        near, around = (
            gaussian_filter(density, (0, sigma, sigma), truncate=3)
            for sigma in (self.radius / 4, 2 * self.radius)
        )
        first, second = np.triu_indices(3)
        one = np.ones((1, *density.shape[1:]), dtype=np.float32)
        seen = np.concatenate([one, near, around, near[first] * near[second]])
        return np.moveaxis(seen, 0, -1)

    def density(self, rgb: np.ndarray) -> Float[np.ndarray, "3 row column"]:
        """Optical density averaged over the grid's pixels; an incomplete rim is left out."""
        density, step = density_planes(rgb), self.step
        rows, columns = (side // step * step for side in density.shape[1:])
        parts = [
            density[:, row:rows:step, column:columns:step] for row in range(step) for column in range(step)
        ]
        return np.asarray(sum(parts[1:], start=parts[0]) / np.float32(len(parts)))

    def inside(self, mask: np.ndarray) -> Bool[np.ndarray, "row column"]:
        """Where all pixels of the tile are inside a mask."""
        rows, columns = (side // self.step for side in mask.shape)
        whole = mask[: rows * self.step, : columns * self.step]
        return np.asarray(whole.reshape(rows, self.step, columns, self.step).all(axis=(1, 3)))

    def places(self, found: Places) -> Places:
        """Row and column on the tile."""
        return found * self.step + self.step // 2


def nuclear_response(structure: Plane, radius_px: float) -> Plane:
    """Difference of Gaussians: large where something dark and as large as a nucleus lies.

    The inner Gaussian is the scale at which a disc of that radius answers most (Lindeberg 1998).
    """
    inner = radius_px / np.sqrt(2)
    near, around = (gaussian_filter(structure, sigma, truncate=3) for sigma in (inner, 1.6 * inner))
    return np.asarray(near - around)


def find_peaks(response: Plane, radius_px: float, least: float) -> Places:
    """(nucleus, 2) row and column of the peaks above ``least``, a nucleus off the rim at least."""
    reach = max(1, round(0.8 * radius_px))
    rim = max(1, round(radius_px))
    peaks = (response == maximum_filter(response, 2 * reach + 1)) & (response > least)
    inside = np.zeros_like(peaks)
    inside[rim:-rim, rim:-rim] = True
    return np.argwhere(peaks & inside)
