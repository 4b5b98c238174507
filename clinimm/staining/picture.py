"""A slide, or an array, as pixels at one working resolution, read part by part."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
from jaxtyping import Bool, UInt8
from scipy import ndimage

from clinimm.staining.deformation import Deformation

if TYPE_CHECKING:
    from clinimm.modalities.pathology.slide import Slide

#: Side of a block that is read or warped at once, pixels.
BLOCK = 512
_WHITE = 255


class Picture(Protocol):
    """Pixels at ``resolution_um`` micrometres a pixel."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    @property
    def resolution_um(self) -> float:
        """Micrometres a pixel."""

    def read(self, top: int, left: int, rows: int, columns: int) -> UInt8[np.ndarray, "row column 3"]:
        """A part of it; the part has to lie inside."""

    def overview(self, longest: int) -> UInt8[np.ndarray, "row column 3"]:
        """All of it with its longer side at most ``longest``, antialiased."""

    def coarser(self, factor: int) -> Picture:
        """The same with pixels ``factor`` times as wide and high, antialiased."""


@dataclass(frozen=True, eq=False)
class ArrayPicture:
    """An array in memory."""

    pixels: UInt8[np.ndarray, "row column 3"]
    resolution_um: float

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def read(self, top: int, left: int, rows: int, columns: int) -> UInt8[np.ndarray, "row column 3"]:
        """A part of it."""
        return self.pixels[top : top + rows, left : left + columns]

    def overview(self, longest: int) -> UInt8[np.ndarray, "row column 3"]:
        """All of it, shrunk by the mean of what each pixel covers."""
        return shrink(self.pixels, longest)

    def coarser(self, factor: int) -> ArrayPicture:
        """The same with pixels ``factor`` times as wide and high: the mean of what each covers."""
        from PIL import Image

        if factor == 1:
            return self
        reduced = np.asarray(Image.fromarray(self.pixels).reduce(factor))
        return ArrayPicture(reduced, self.resolution_um * factor)


@dataclass(frozen=True, eq=False)
class SlidePicture:
    """An open slide at a resolution of one's choice; only what is asked for is read."""

    slide: Slide
    resolution_um: float

    @cached_property
    def _steps(self) -> tuple[float, float]:
        """Level-0 rows and columns a pixel."""
        resolution = self.slide.resolution
        return self.resolution_um / resolution.um_per_pixel_y, self.resolution_um / resolution.um_per_pixel_x

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        width, height = self.slide.dimensions
        down, right = self._steps
        return max(1, int(height / down)), max(1, int(width / right))

    def read(self, top: int, left: int, rows: int, columns: int) -> UInt8[np.ndarray, "row column 3"]:
        """A part of it, averaged from the coarsest level that is fine enough."""
        from clinimm.modalities.pathology.resample import resampled

        down, right = self._steps
        level = self.slide.level_for(min(down, right))
        scale = self.slide.info.levels[level].downsample
        down, right = down / scale, right / scale
        place = (left * right, top * down, (left + columns) * right, (top + rows) * down)
        return resampled(self.slide, level, place, columns, rows)

    def overview(self, longest: int) -> UInt8[np.ndarray, "row column 3"]:
        """All of it, from the slide's own pyramid."""
        return self.slide.thumbnail(longest)

    def coarser(self, factor: int) -> SlidePicture:
        """The same with pixels ``factor`` times as wide and high."""
        return SlidePicture(self.slide, self.resolution_um * factor)


def shrink(rgb: UInt8[np.ndarray, "row column 3"], longest: int) -> UInt8[np.ndarray, "row column 3"]:
    """A picture with its longer side at most ``longest``; a pixel is the mean of what it covers."""
    from PIL import Image

    rows, columns = rgb.shape[:2]
    factor = max(rows, columns) / longest
    if factor <= 1:
        return rgb
    size = (max(1, round(columns / factor)), max(1, round(rows / factor)))
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BOX))


def warp_block(
    target: Picture,
    deformation: Deformation,
    block: tuple[int, int, int, int],
    resolution_um: float,
    nearest: bool = False,
) -> tuple[UInt8[np.ndarray, "row column 3"], Bool[np.ndarray, "row column"]]:
    """The target as seen in a block of the source's frame, and where the target has pixels at all.

    Args:
        target: what is moved.
        deformation: source point -> target point.
        block: top, left, rows and columns, in pixels of the source's frame.
        resolution_um: of the source's frame.
        nearest: take the nearest pixel (labels, masks) instead of bilinear interpolation.

    Only the part of the target that the block falls on is read. Outside the target it is white.
    """
    top, left, rows, columns = block
    y, x = np.mgrid[top : top + rows, left : left + columns] + 0.5
    points = np.stack([x.ravel(), y.ravel()], axis=-1) * resolution_um
    where = deformation.apply(points)[:, ::-1].T / target.resolution_um - 0.5
    height, width = target.shape
    inside = (where[0] >= -0.5) & (where[0] <= height - 0.5) & (where[1] >= -0.5) & (where[1] <= width - 0.5)
    out = np.full((rows * columns, 3), _WHITE, dtype=np.uint8)
    if inside.any():
        low = np.clip(np.floor(where[:, inside].min(axis=1)).astype(int), 0, (height - 1, width - 1))
        high = np.clip(np.ceil(where[:, inside].max(axis=1)).astype(int) + 1, low + 1, (height, width))
        part = target.read(int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]))
        out[inside] = _sample(part, where[:, inside] - low[:, None], nearest)
    return out.reshape(rows, columns, 3), inside.reshape(rows, columns)


def _sample(part: np.ndarray, where: np.ndarray, nearest: bool) -> np.ndarray:
    channels = [
        ndimage.map_coordinates(
            part[..., channel].astype(np.float32), where, order=0 if nearest else 1, mode="nearest"
        )
        for channel in range(3)
    ]
    return np.rint(np.stack(channels, axis=-1)).clip(0, 255).astype(np.uint8)
