"""Compressed pixel data: where its fragments lie, and what their own headers say they hold.

A decoder allocates what the codestream says, not what the DICOM header says, so both must agree
before anything is decoded: an image of ten pixels may not carry a codestream of four billion.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from clinimm.core.errors import InputRejected
from clinimm.modalities.dicom_header import NATIVE, DicomHeader
from clinimm.modalities.radiology.geometry import Geometry

RLE = "1.2.840.10008.1.2.5"
_JPEG = "1.2.840.10008.1.2.4."
JPEG_BASELINE, JPEG_EXTENDED = _JPEG + "50", _JPEG + "51"
JPEG_LOSSLESS = frozenset({_JPEG + "57", _JPEG + "70"})
JPEG_LS = frozenset({_JPEG + "80", _JPEG + "81"})
JPEG_2000 = frozenset({_JPEG + "90", _JPEG + "91", _JPEG + "201", _JPEG + "202", _JPEG + "203"})
_JPEG_LIKE = {JPEG_BASELINE, JPEG_EXTENDED} | JPEG_LOSSLESS | JPEG_LS
SUPPORTED = NATIVE | _JPEG_LIKE | JPEG_2000 | {RLE}

_ITEM = 0xE000FFFE  # (FFFE,E000) read as one little-endian number
_HEAD_BYTES = 1 << 16
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_WITHOUT_LENGTH = frozenset(range(0xD0, 0xD9)) | {0x01, 0xFF}
_J2K_START = b"\xff\x4f\xff\x51"


@dataclass(frozen=True)
class FrameHeader:
    """What a codestream declares: pixels, bits a sample and samples a pixel."""

    rows: int
    columns: int
    bits: int
    samples: int


def fragments(header: DicomHeader) -> Iterator[tuple[int, int]]:
    """Start and stop of each fragment of encapsulated pixel data, after the offset table (PS3.5 A.4)."""
    element = header.pixels
    if element is None:
        return
    position, first = element.start, True
    while position + 8 <= element.stop:
        tag, length = struct.unpack_from("<II", header.data, position)
        if tag != _ITEM:
            return
        if not first and length:
            yield position + 8, position + 8 + length
        first = False
        position += 8 + length


def check_encapsulated(header: DicomHeader, geometry: Geometry) -> int:
    """Check compressed pixel data without decoding them; returns their bytes.

    Raises:
        InputRejected: ``truncated`` (no or too few fragments), ``geometry-mismatch``,
            ``jpeg-12-bit``, ``corrupt-pixels``.
    """
    spans = list(fragments(header))
    if len(spans) < geometry.frames:
        raise InputRejected(
            "truncated",
            f"{geometry.frames} frames are declared and {len(spans)} fragments are there",
            "ask the sender to transmit the object again",
        )
    start, stop = spans[0]
    head = bytes(header.data[start : min(stop, start + _HEAD_BYTES)])
    if header.transfer_syntax == RLE:
        _check_rle(head, geometry)
    else:
        _check_frame(_frame_header(header.transfer_syntax, head), header.transfer_syntax, geometry)
    return sum(stop - start for start, stop in spans)


def _check_frame(frame: FrameHeader | None, syntax: str, geometry: Geometry) -> None:
    if frame is None:
        raise InputRejected(
            "corrupt-pixels",
            "the compressed pixel data do not start with an image header of their transfer syntax",
            "ask the sender to transmit the object again",
        )
    if syntax == JPEG_EXTENDED and frame.bits > 8:
        raise InputRejected(
            "jpeg-12-bit",
            "12-bit JPEG Extended (process 4) is read by none of the installed decoders",
            "have the archive send it as JPEG Lossless, JPEG 2000 or uncompressed",
        )
    if frame.columns != geometry.columns or frame.rows not in (0, geometry.rows):
        raise InputRejected(
            "geometry-mismatch",
            f"the header says {geometry.rows} x {geometry.columns} pixels, "
            f"the codestream {frame.rows} x {frame.columns}",
            "treat the file with care; ask the sender for an uncompressed copy",
        )


def _check_rle(head: bytes, geometry: Geometry) -> None:
    expected = geometry.samples * geometry.bits_allocated // 8
    found = struct.unpack_from("<I", head)[0] if len(head) >= 64 else 0
    if found != expected:
        raise InputRejected(
            "corrupt-pixels",
            f"{found} run-length segments where {expected} are expected (PS3.5 annex G)",
            "ask the sender to transmit the object again",
        )


def _frame_header(syntax: str, head: bytes) -> FrameHeader | None:
    return _jpeg_2000(head) if syntax in JPEG_2000 else _jpeg(head)


def _jpeg(head: bytes) -> FrameHeader | None:
    """The frame header of a JPEG or JPEG-LS stream (ITU-T T.81, B.2.2)."""
    if head[:2] != b"\xff\xd8":
        return None
    position = 2
    while position + 10 <= len(head) and head[position] == 0xFF:
        marker = head[position + 1]
        if marker in _START_OF_FRAME:
            bits, rows, columns, samples = struct.unpack_from(">BHHB", head, position + 4)
            return FrameHeader(rows, columns, bits, samples)
        if marker in _WITHOUT_LENGTH:
            position += 1 if marker == 0xFF else 2
            continue
        position += 2 + struct.unpack_from(">H", head, position + 2)[0]
    return None


def _jpeg_2000(head: bytes) -> FrameHeader | None:
    """The image size of a JPEG 2000 codestream (ITU-T T.800, A.5.1), bare or in a JP2 file."""
    start = head.find(_J2K_START)
    if start < 0 or len(head) < start + 44:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", head, start + 8)
    (samples,) = struct.unpack_from(">H", head, start + 40)
    return FrameHeader(bottom - top, right - left, (head[start + 42] & 0x7F) + 1, samples)
