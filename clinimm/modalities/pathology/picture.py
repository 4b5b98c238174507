"""PNG and JPEG: one level, decoded as a whole. Their dpi is a printer's, so they state no resolution."""

from __future__ import annotations

import warnings
from concurrent.futures import Executor
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from clinimm.core.errors import InputRejected
from clinimm.modalities.pathology.pixels import (
    LARGEST_PIECE,
    Box,
    Level,
    Rgb,
    SlideInfo,
    too_large,
    with_white_rim,
)

_STARTS = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG"}
_EIGHT_BITS = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"})


def picture_format(head: bytes) -> str | None:
    """``PNG`` or ``JPEG`` by a file's first bytes.

    >>> picture_format(b"\\xff\\xd8\\xff\\xe0")
    'JPEG'
    """
    return next((name for start, name in _STARTS.items() if head.startswith(start)), None)


class PicturePixels:
    """A picture file. It is decoded at the first read, and held.

    Raises:
        InputRejected: ``cannot-open``, ``too-many-pixels`` or ``bit-depth``.
    """

    def __init__(self, path: Path, kind: str) -> None:
        self._path, self._kind = path, kind
        self._pixels: Rgb | None = None
        with self._open() as image:
            width, height = image.size
            mode = image.mode
        if width * height > LARGEST_PIECE:
            raise too_large(width, height, f"a {kind}")
        if mode not in _EIGHT_BITS:
            raise InputRejected(
                "bit-depth",
                f"the {kind} has pixels of kind {mode}; expected 8 bits a channel",
                "export it with 8 bits a channel",
            )
        self.info = SlideInfo(width, height, (Level(width, height, 1.0),), None, kind.lower(), {})

    def _open(self) -> Pillow.Image:
        with warnings.catch_warnings():  # the size is checked against our own limit
            warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)
            try:
                return Pillow.open(self._path, formats=[self._kind])
            except Pillow.DecompressionBombError as error:
                raise InputRejected(
                    "too-many-pixels", f"the {self._kind} is too large: {error}", "convert it to a tiled TIFF"
                ) from error
            except (OSError, ValueError, SyntaxError) as error:  # SyntaxError: Pillow's word for a bad PNG
                raise InputRejected(
                    "cannot-open", f"the {self._kind} does not open: {error}", "export it again"
                ) from error

    def read(self, level: int, box: Box, pool: Executor | None = None) -> Rgb:
        """The box of the picture, white outside.

        Raises:
            InputRejected: ``cannot-read``, the file is damaged.
        """
        if self._pixels is None:
            self._pixels = self._decoded()
        whole = self._pixels
        return with_white_rim(
            box,
            self.info.width,
            self.info.height,
            lambda inside: whole[inside[1] : inside[3], inside[0] : inside[2]].copy(),
        )

    def _decoded(self) -> Rgb:
        with self._open() as image:
            try:
                image.load()
            except (OSError, ValueError, SyntaxError) as error:
                raise InputRejected(
                    "cannot-read", f"the {self._kind} is damaged: {error}", "export it again"
                ) from error
            if image.mode in {"LA", "RGBA"} or "transparency" in image.info:
                colours = image.convert("RGBA")
                white = Pillow.new("RGBA", colours.size, (255, 255, 255, 255))
                return np.asarray(Pillow.alpha_composite(white, colours).convert("RGB"))
            return np.asarray(image.convert("RGB"))

    def close(self) -> None:
        """Let go of the pixels."""
        self._pixels = None
