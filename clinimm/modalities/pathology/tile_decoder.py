"""From the compressed bytes of one tile to its pixels, whichever file they came from.

A decoder is always told how large the result is, so that a tile whose own header claims another size
cannot allocate it. All decoders release Python's lock, so threads decode side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np

from clinimm.core.errors import InputRejected
from clinimm.modalities.pathology.pixels import LARGEST_PIECE, WHITE, Rgb

#: Compressed bytes of a tile.
Stored = bytes | bytearray

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_ALPHA_SAMPLES = 4


@dataclass(frozen=True)
class Coding:
    """How the tiles of a level are coded.

    Attributes:
        codec: a key of ``DECODERS``.
        samples: values a pixel: 1 grey, 3 colour, 4 colour and opacity.
        planar: whether a tile holds all red values first, then green, then blue.
        tables: JPEG tables that all tiles share, or None.
        colours: how JPEG values are coded (``rgb``, ``ycbcr``, ``gray``); None leaves it to the stream.
        predictor: whether values are differences to the pixel on the left (TIFF predictor 2).
        inverted: whether 0 is white (TIFF photometric 0, DICOM MONOCHROME1).
    """

    codec: str
    samples: int = 3
    planar: bool = False
    tables: bytes | None = None
    colours: str | None = None
    predictor: bool = False
    inverted: bool = False


def decode(coding: Coding, data: Stored, width: int, height: int) -> Rgb:
    """A tile of ``height`` rows and ``width`` columns.

    Raises:
        InputRejected: ``cannot-read``, the bytes are no such tile; ``bit-depth``.
    """
    shape = (height, width) if coding.samples == 1 else (height, width, coding.samples)
    try:
        found = DECODERS[coding.codec](coding, data, shape)
    except (RuntimeError, ValueError, TypeError) as error:  # what imagecodecs raises on damaged bytes
        raise _unreadable(f"a {coding.codec} tile does not decode: {error}") from error
    if found.dtype != np.uint8:
        raise InputRejected(
            "bit-depth",
            f"a tile holds {found.dtype} values; expected 8 bits a channel",
            "export the slide with 8 bits a channel",
        )
    return _as_rgb(coding, _fitted(found, height, width))


def _as_rgb(coding: Coding, found: np.ndarray) -> Rgb:
    if coding.inverted:
        found = 255 - found
    if found.ndim == 2 or found.shape[-1] == 1:
        grey = found.reshape(found.shape[:2])
        return np.stack([grey, grey, grey], axis=-1)
    if found.shape[-1] == _ALPHA_SAMPLES:
        opacity = found[..., 3:].astype(np.uint16)
        mixed = found[..., :3] * opacity + WHITE * (255 - opacity)
        return np.asarray((mixed + 127) // 255, dtype=np.uint8)
    return found


def _fitted(found: np.ndarray, height: int, width: int) -> np.ndarray:
    """Cut to size, or filled with white: some writers store the tiles of the edge smaller."""
    if found.shape[:2] == (height, width):
        return found
    canvas = np.full((height, width, *found.shape[2:]), WHITE, dtype=found.dtype)
    piece = found[:height, :width]
    canvas[: piece.shape[0], : piece.shape[1]] = piece
    return canvas


def _raw(coding: Coding, data: Stored, shape: tuple[int, ...]) -> np.ndarray:
    needed = int(np.prod(shape))
    if len(data) < needed:
        raise _unreadable(f"a tile holds {len(data)} bytes; expected {needed}")
    values = np.frombuffer(data, dtype=np.uint8, count=needed)
    if coding.planar:
        return np.ascontiguousarray(values.reshape(shape[2], shape[0], shape[1]).transpose(1, 2, 0))
    values = values.reshape(shape)
    return np.cumsum(values, axis=1, dtype=np.uint8) if coding.predictor else values.copy()


def _bytewise(name: str) -> Callable[[Coding, Stored, tuple[int, ...]], np.ndarray]:
    """A decoder of bytes; it stops at the size that is due."""

    def decoded(coding: Coding, data: Stored, shape: tuple[int, ...]) -> np.ndarray:
        buffer = getattr(imagecodecs, f"{name}_decode")(data, out=int(np.prod(shape)))
        return _raw(coding, buffer, shape)

    return decoded


def _jpeg(coding: Coding, data: Stored, shape: tuple[int, ...]) -> np.ndarray:
    into = None if coding.colours is None else ("gray" if len(shape) == 2 else "rgb")
    options: dict[str, Any] = {"tables": coding.tables, "colorspace": coding.colours, "outcolorspace": into}
    try:
        return imagecodecs.jpeg8_decode(data, out=np.empty(shape, dtype=np.uint8), **options)
    except ValueError:
        _check_declared(data, shape)
        return imagecodecs.jpeg8_decode(data, **options)


def _image(name: str) -> Callable[[Coding, Stored, tuple[int, ...]], np.ndarray]:
    """A decoder of pictures that writes into an array of the right size, and refuses another one."""

    def decoded(coding: Coding, data: Stored, shape: tuple[int, ...]) -> np.ndarray:
        return getattr(imagecodecs, f"{name}_decode")(data, out=np.empty(shape, dtype=np.uint8))

    return decoded


def _jpeg_lossless(coding: Coding, data: Stored, shape: tuple[int, ...]) -> np.ndarray:
    _check_declared(data, shape)
    return np.ascontiguousarray(imagecodecs.jpegsof3_decode(data))


def _dicom_rle(coding: Coding, data: Stored, shape: tuple[int, ...]) -> np.ndarray:
    buffer = imagecodecs.dicomrle_decode(data, np.uint8, out=int(np.prod(shape)))
    values = np.frombuffer(buffer, dtype=np.uint8)
    if len(shape) == 2:
        return values.reshape(shape)
    return np.ascontiguousarray(values.reshape(shape[2], *shape[:2]).transpose(1, 2, 0))


def _check_declared(data: Stored, shape: tuple[int, ...]) -> None:
    """Refuse a stream that declares more pixels than its place in the slide has, before it is decoded."""
    declared = jpeg_size(data)
    if declared is None:
        raise _unreadable("a JPEG tile has no frame header")
    width, height = declared
    if width * height > min(LARGEST_PIECE, 4 * shape[0] * shape[1]):
        raise _unreadable(
            f"a JPEG tile declares {width} x {height} pixels where {shape[1]} x {shape[0]} are due"
        )


def jpeg_size(data: Stored) -> tuple[int, int] | None:
    """Width and height that a JPEG or JPEG-LS stream declares (ITU-T T.81 B.2.2); None without header."""
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker in _START_OF_FRAME:
            height, width = (
                int.from_bytes(data[place : place + 2], "big") for place in (position + 5, position + 7)
            )
            return width, height
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None


def _unreadable(reason: str) -> InputRejected:
    return InputRejected("cannot-read", reason, "scan or export the slide again")


#: How each codec's bytes become values, (row, column) or (row, column, sample).
DECODERS: dict[str, Callable[[Coding, Stored, tuple[int, ...]], Any]] = {
    "raw": _raw,
    "jpeg": _jpeg,
    "jpeg-2000": _image("jpeg2k"),
    "jpeg-ls": _image("jpegls"),
    "jpeg-lossless": _jpeg_lossless,
    "webp": _image("webp"),
    "jpeg-xl": _image("jpegxl"),
    "deflate": _bytewise("zlib"),
    "lzw": _bytewise("lzw"),
    "packbits": _bytewise("packbits"),
    "zstandard": _bytewise("zstd"),
    "rle": _dicom_rle,
}
