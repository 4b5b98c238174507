"""A whole slide: its levels, its resolution, and pixels anywhere, from any of the formats that are read.

Label, macro and thumbnail pictures are never read: a label is a photograph of the patient's name.
"""

from __future__ import annotations

import math
from concurrent.futures import Executor
from itertools import pairwise
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import UInt8

from clinimm.core.errors import InputRejected
from clinimm.modalities.pathology.formats import open_pixels
from clinimm.modalities.pathology.pixels import Box, Level, Rgb, SlideInfo, SlidePixels
from clinimm.modalities.pathology.resample import resampled
from clinimm.modalities.pathology.resolution import Resolution

__all__ = ["Box", "Level", "Rgb", "Slide", "SlideInfo", "open_slide"]

#: Most that tiles which were used in part take, MiB.
CACHE_MIB = 32.0
#: Pixels of a level that are read at once for a thumbnail: 48 MiB as RGB.
_BAND_PIXELS = 1 << 24
#: A level this much too coarse still serves: 4.003 for 4.
_LEVEL_SLACK = 1.001
#: A place whose size differs by less than this from the one asked for is taken as it is, pixels.
_SAME_SIZE = 0.5
_OPTION = "modalities.pathology.encoder.options.mpp_um"


class Slide:
    """An open slide.

    Args:
        source: the slide's file, one file of a DICOM slide, or the folder that holds one; or pixels
            that are open already (a slide on a server).
        mpp_um: resolution of level 0, or micrometres a pixel, of a slide that states none. A slide's
            own resolution is preferred.
        cache_mib: most that decoded tiles take which were used in part, MiB.

    Raises:
        InputRejected: ``not-a-slide``, ``cannot-open`` or the reason why the file is refused.

    >>> with Slide(Path("biopsy.svs")) as slide:  # doctest: +SKIP
    ...     pixels = slide.read_region(0, (0, 0, 512, 512))
    """

    def __init__(
        self,
        source: Path | SlidePixels,
        mpp_um: Resolution | float | None = None,
        cache_mib: float = CACHE_MIB,
    ) -> None:
        self._given = Resolution.of(mpp_um) if isinstance(mpp_um, float | int) else mpp_um
        self._pixels = open_pixels(source, cache_mib) if isinstance(source, Path) else source
        self.info = self._pixels.info

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back."""
        self._pixels.close()

    @property
    def dimensions(self) -> tuple[int, int]:
        """Width and height at level 0, pixels."""
        return self.info.width, self.info.height

    @property
    def resolution(self) -> Resolution:
        """Of level 0: the file's own, else the one that was given.

        Raises:
            InputRejected: ``no-resolution``, the file states none and none was given.
        """
        found = self.info.resolution or self._given
        if found is None:
            raise InputRejected(
                "no-resolution",
                "the slide states no resolution (micrometres a pixel)",
                f"state it in {_OPTION} if it is the same for all such slides",
            )
        return found

    @property
    def mpp_um(self) -> float:
        """Micrometres a pixel at level 0, mean of both directions.

        Raises:
            InputRejected: ``no-resolution``.
        """
        return self.resolution.um_per_pixel

    def level_for(self, downsample: float) -> int:
        """The coarsest level that is still as fine as asked for; ``downsample`` in level-0 pixels."""
        fits = [
            index
            for index, level in enumerate(self.info.levels)
            if level.downsample <= max(1.0, downsample) * _LEVEL_SLACK
        ]
        return fits[-1]

    def read_region(self, level: int, box: Box, pool: Executor | None = None) -> Rgb:
        """Pixels of a level as they are stored, white outside the slide.

        Args:
            level: index into ``info.levels``.
            box: ``(left, top, right, bottom)`` in that level's pixels.
            pool: threads that decode the file's tiles side by side.

        Raises:
            InputRejected: ``cannot-read`` or ``truncated``, the pixel data are damaged.
            ValueError: the box is empty.
        """
        if box[0] >= box[2] or box[1] >= box[3]:
            raise ValueError(f"box {box} is empty; expected left < right and top < bottom")
        return self._pixels.read(level, box, pool)

    def read(self, box: Box, size: int) -> UInt8[np.ndarray, "size size 3"]:
        """The level-0 box ``(left, top, right, bottom)`` as (size, size, 3) uint8, antialiased.

        It is read from the coarsest level that is still finer than asked for. Outside the slide,
        and where a scanner left pixels out, it is white.

        Raises:
            InputRejected: ``cannot-read`` or ``truncated``, the pixel data are damaged.
        """
        left, top, right, bottom = box
        level = self.level_for(max((right - left) / size, (bottom - top) / size))
        scale = self.info.levels[level].downsample
        place = (left / scale, top / scale, right / scale, bottom / scale)
        return self._at(level, place, size, size)

    def thumbnail(self, longest: int) -> Rgb:
        """The whole slide with its longer side at most ``longest`` pixels, read band by band.

        Raises:
            InputRejected: ``cannot-read`` or ``truncated``, the pixel data are damaged.
        """
        width, height = self.dimensions
        factor = min(1.0, longest / max(width, height))
        columns, rows = max(1, round(width * factor)), max(1, round(height * factor))
        level = self.level_for(1 / factor)
        known = self.info.levels[level]
        bands = min(rows, max(1, math.ceil(known.width * known.height / _BAND_PIXELS)))
        edges = [round(rows * band / bands) for band in range(bands + 1)]
        canvas = np.empty((rows, columns, 3), dtype=np.uint8)
        for start, stop in pairwise(edges):
            place = (0.0, start * known.height / rows, float(known.width), stop * known.height / rows)
            canvas[start:stop] = self._at(level, place, columns, stop - start)
        return canvas

    def _at(self, level: int, place: tuple[float, float, float, float], width: int, height: int) -> Rgb:
        """A place of a level at another size; as it is stored where the sizes are the same."""
        left, top, right, bottom = place
        if abs(right - left - width) < _SAME_SIZE and abs(bottom - top - height) < _SAME_SIZE:
            x, y = round(left), round(top)
            return self.read_region(level, (x, y, x + width, y + height))
        return resampled(self, level, place, width, height)


def open_slide(path: Path, resolution: Resolution | None = None, cache_mib: float = CACHE_MIB) -> Slide:
    """Open a slide of any format that is read.

    Args:
        path: the slide's file, one file of a DICOM slide, or the folder that holds one.
        resolution: of level 0, used only where the file states none.
        cache_mib: most that decoded tiles take which were used in part, MiB.

    Raises:
        InputRejected: as ``Slide``.
    """
    return Slide(path, resolution, cache_mib)
