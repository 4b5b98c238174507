"""How a stored tile is compressed: JPEG, lossless JPEG 2000, or deflate.

A tile's bytes are made once and go unchanged into either format, so that one digest binds both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from clinimm.core.errors import ConfigError
from clinimm.staining.plan import TILE_PIXELS

CodecName = Literal["jpeg", "jpeg2000", "deflate"]
Tile = UInt8[np.ndarray, "row column 3"]

#: Chroma is halved along the row only, which is what DICOM's YBR_FULL_422 means (PS3.3 C.7.6.3.1.2).
JPEG_SUBSAMPLING = (2, 1)


@dataclass(frozen=True)
class Codec:
    """A way to compress a tile.

    Attributes:
        name: ``jpeg`` (8 bit baseline, lossy), ``jpeg2000`` (reversible) or ``deflate`` (lossless).
        quality: of JPEG, 1 to 100.

    Raises:
        ConfigError: no such codec or quality.

    >>> codec = Codec("deflate")
    >>> tile = np.zeros((256, 256, 3), np.uint8)
    >>> bool((codec.decode(codec.encode(tile)) == tile).all())
    True
    """

    name: CodecName = "jpeg"
    quality: int = 90

    def __post_init__(self) -> None:
        if self.name not in ("jpeg", "jpeg2000", "deflate") or not 1 <= self.quality <= 100:
            raise ConfigError(
                f"compression {self.name!r} at quality {self.quality}: expected jpeg (quality 1 to 100), "
                "jpeg2000 or deflate."
            )

    @property
    def lossy(self) -> bool:
        """Whether pixels change by it."""
        return self.name == "jpeg"

    def encode(self, tile: Tile) -> bytes:
        """A whole tile as bytes of even length, as DICOM fragments must be (PS3.5 A.4)."""
        import imagecodecs

        tile = np.ascontiguousarray(tile)
        if self.name == "jpeg":
            packed = imagecodecs.jpeg8_encode(tile, level=self.quality, subsampling="422")
        elif self.name == "jpeg2000":
            packed = imagecodecs.jpeg2k_encode(tile, level=0, codecformat="j2k", reversible=True, mct=True)
        else:
            packed = imagecodecs.zlib_encode(tile.tobytes(), level=6)
        return bytes(packed) + b"\0" * (len(packed) % 2)

    def decode(self, packed: bytes) -> Tile:
        """The tile that ``encode`` was given, as a viewer would see it."""
        import imagecodecs

        if self.name == "jpeg":
            return imagecodecs.jpeg8_decode(packed)
        if self.name == "jpeg2000":
            return imagecodecs.jpeg2k_decode(packed)
        return np.frombuffer(imagecodecs.zlib_decode(packed), np.uint8).reshape(TILE_PIXELS, TILE_PIXELS, 3)


def padded(pixels: Tile) -> Tile:
    """A tile of full size: what reaches over the image's edge repeats the last row and column.

    White would ring into the image through a lossy codec.
    """
    rows, columns = pixels.shape[:2]
    margins = ((0, TILE_PIXELS - rows), (0, TILE_PIXELS - columns), (0, 0))
    return np.pad(pixels, margins, mode="edge") if margins != ((0, 0),) * 3 else pixels
