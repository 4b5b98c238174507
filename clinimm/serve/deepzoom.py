"""A slide as a Deep Zoom pyramid: tiles cut on request, of the tissue's own levels alone.

``Slide`` never reads a label or macro picture, so none can be asked for here.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

from jaxtyping import UInt8
from numpy import ndarray

from clinimm.modalities.pathology.resample import resampled
from clinimm.modalities.pathology.slide import Slide
from clinimm.serve.errors import not_found

#: Edge of a tile and how far it reaches over its neighbours, pixels.
TILE, OVERLAP = 254, 1
_QUALITY = 85


@dataclass(frozen=True)
class Pyramid:
    """The levels of a slide: level 0 has one pixel, the last has every pixel.

    Attributes:
        width, height: of the slide, pixels.
    """

    width: int
    height: int

    @property
    def last(self) -> int:
        """The finest level."""
        return math.ceil(math.log2(max(self.width, self.height, 1)))

    def size(self, level: int) -> tuple[int, int]:
        """Width and height of a level, pixels.

        >>> Pyramid(1000, 600).size(9)
        (500, 300)
        """
        scale = 2 ** (self.last - level)
        return math.ceil(self.width / scale), math.ceil(self.height / scale)

    def box(self, level: int, column: int, row: int) -> tuple[int, int, int, int]:
        """``(left, top, right, bottom)`` of a tile in pixels of its level.

        Raises:
            Refused: there is no such tile.
        """
        if not 0 <= level <= self.last:
            raise not_found("tile")
        width, height = self.size(level)
        if not (0 <= column * TILE < width and 0 <= row * TILE < height):
            raise not_found("tile")
        left, right = _edges(column, width)
        top, bottom = _edges(row, height)
        return left, top, right, bottom

    def descriptor(self) -> str:
        """The pyramid in XML, as viewers read it (Deep Zoom, 2008)."""
        return (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="jpeg" '
            f'Overlap="{OVERLAP}" TileSize="{TILE}">'
            f'<Size Width="{self.width}" Height="{self.height}"/></Image>'
        )


def pyramid_of(slide: Slide) -> Pyramid:
    """The pyramid over a slide."""
    return Pyramid(*slide.dimensions)


def read_tile(slide: Slide, level: int, column: int, row: int) -> UInt8[ndarray, "row column 3"]:
    """A tile's pixels: as they are stored where a level fits, else the next finer level, shrunk.

    Raises:
        Refused: there is no such tile.
        InputRejected: the slide is damaged there.
    """
    pyramid = pyramid_of(slide)
    left, top, right, bottom = pyramid.box(level, column, row)
    scale = 2.0 ** (pyramid.last - level)
    stored = slide.level_for(scale)
    known = slide.info.levels[stored]
    across, down = known.width * scale / slide.info.width, known.height * scale / slide.info.height
    if math.isclose(across, 1, rel_tol=1e-3) and math.isclose(down, 1, rel_tol=1e-3):
        return slide.read_region(stored, (left, top, right, bottom))
    place = (left * across, top * down, right * across, bottom * down)
    return resampled(slide, stored, place, right - left, bottom - top)


def as_jpeg(pixels: UInt8[ndarray, "row column 3"]) -> bytes:
    """A tile for the browser, without metadata."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG", quality=_QUALITY)
    return stream.getvalue()


def _edges(index: int, length: int) -> tuple[int, int]:
    return max(0, index * TILE - OVERLAP), min(length, (index + 1) * TILE + OVERLAP)
