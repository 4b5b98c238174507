"""What every slide format gives: its levels, and the pixels of a box of a level."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from jaxtyping import UInt8

from clinimm.core.errors import InputRejected
from clinimm.modalities.pathology.resolution import Resolution

#: Left, top, right, bottom; right and bottom are the first pixels outside.
Box = tuple[int, int, int, int]
Rgb = UInt8[np.ndarray, "row column 3"]

WHITE = 255
#: Most pixels of a piece that can only be decoded as a whole (a tile, a strip, a PNG): 384 MiB as RGB.
LARGEST_PIECE = 1 << 27
#: A level whose two directions shrink by factors further apart than this shows something else.
_ASPECT_WITHIN = 0.02


@dataclass(frozen=True)
class Level:
    """One picture of the pyramid.

    Attributes:
        width, height: pixels.
        downsample: level-0 pixels that one pixel is wide.
        tile_width, tile_height: of the file's own tiles, pixels; 0 where it has none.
    """

    width: int
    height: int
    downsample: float
    tile_width: int = 0
    tile_height: int = 0


@dataclass(frozen=True)
class SlideInfo:
    """What a slide says about itself.

    Attributes:
        width, height: of level 0, pixels.
        levels: from the finest to the coarsest.
        resolution: of level 0, where the file states one.
        vendor: ``aperio``, ``dicom``, ``ome-tiff``, ``generic-tiff``, ``png``, ``jpeg``, or OpenSlide's name.
        properties: what else the file says, by OpenSlide's names.
        fingerprint: a digest that copies of the slide share, whatever their names; where there is one.
    """

    width: int
    height: int
    levels: tuple[Level, ...]
    resolution: Resolution | None
    vendor: str
    properties: Mapping[str, str] = field(repr=False)
    fingerprint: str | None = None

    @property
    def mpp_um(self) -> float | None:
        """Micrometres a pixel at level 0, mean of both directions; None where the file states none."""
        return self.resolution.um_per_pixel if self.resolution else None


class SlidePixels(Protocol):
    """An open file of a slide. Label, macro and thumbnail pictures cannot be asked for."""

    @property
    def info(self) -> SlideInfo:
        """Levels, resolution, properties."""
        ...

    def read(self, level: int, box: Box, pool: Executor | None = None) -> Rgb:
        """The box of a level, in that level's pixels; white where it lies outside.

        Args:
            level: index into ``info.levels``.
            box: at least one pixel wide and high.
            pool: threads that decode tiles side by side, where the format has tiles.

        Raises:
            InputRejected: ``cannot-read`` or ``truncated``, the pixel data are damaged.
        """
        ...

    def close(self) -> None:
        """Give the file back."""
        ...


def with_white_rim(box: Box, width: int, height: int, inside: Callable[[Box], Rgb]) -> Rgb:
    """Pixels of a box that may reach beyond a picture of ``width`` x ``height``.

    Args:
        box: what is wanted.
        width, height: of the picture.
        inside: reads a box that lies inside.
    """
    left, top, right, bottom = box
    clipped = (max(0, left), max(0, top), min(width, right), min(height, bottom))
    if clipped == box:
        return inside(box)
    canvas = np.full((bottom - top, right - left, 3), WHITE, dtype=np.uint8)
    if clipped[0] < clipped[2] and clipped[1] < clipped[3]:
        rows = slice(clipped[1] - top, clipped[3] - top)
        canvas[rows, clipped[0] - left : clipped[2] - left] = inside(clipped)
    return canvas


def shrinking(width: int, height: int, base_width: int, base_height: int) -> float | None:
    """Level-0 pixels to a pixel of a level; None where it cannot show the same as level 0.

    Whole numbers are preferred: a level of 1001 // 4 columns was made by 4, not by 4.004.

    >>> shrinking(250, 200, 1001, 803), shrinking(574, 768, 2220, 2967), shrinking(387, 463, 2220, 2967)
    (4.0, 3.8654..., None)
    """
    across, down = base_width / width, base_height / height
    whole = round(across)
    sizes = {base_width // whole, -(-base_width // whole)}, {base_height // whole, -(-base_height // whole)}
    if width in sizes[0] and height in sizes[1]:
        return float(whole)
    slack = _ASPECT_WITHIN + 1 / min(width, height)  # a level of few pixels is rounded by that much
    return (across + down) / 2 if abs(across / down - 1) <= slack else None


def too_large(width: int, height: int, what: str) -> InputRejected:
    """A piece that would not fit in the memory when decoded."""
    return InputRejected(
        "too-many-pixels",
        f"{what} of {width} x {height} pixels can only be decoded as a whole; the most is {LARGEST_PIECE}",
        "convert the slide to a tiled pyramidal TIFF, or treat it as hostile if nobody expects such a size",
    )
