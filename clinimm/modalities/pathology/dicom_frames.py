"""Where each frame of a DICOM object lies in its file, and its bytes.

Encapsulated pixel data: PS3.5 annex A.4; Extended Offset Table: PS3.3 C.7.6.3.1.8.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clinimm.core.errors import InputRejected
from clinimm.modalities.dicom_header import EXPLICIT_LITTLE, IMPLICIT_LITTLE, DicomHeader
from clinimm.modalities.dicom_walk import ITEM, RESEND, read_item
from clinimm.modalities.pathology.file_bytes import FileBytes

_EXTENDED_OFFSETS = 0x7FE00001
_ITEM_HEADER = 8


@dataclass(frozen=True)
class Frames:
    """The frames of one file.

    Attributes:
        file: open.
        starts, stops: byte range of each frame.
        in_fragments: whether a range still holds the headers of several fragments.
    """

    file: FileBytes
    starts: np.ndarray
    stops: np.ndarray
    in_fragments: bool

    def __len__(self) -> int:
        return len(self.starts)

    def content(self, index: int) -> bytes:
        """The compressed bytes of a frame.

        Raises:
            InputRejected: ``truncated``; ``cannot-read``, it has no bytes.
        """
        start, stop = int(self.starts[index]), int(self.stops[index])
        if stop <= start:
            raise InputRejected("cannot-read", f"frame {index + 1} has no bytes", RESEND)
        data = self.file.read(start, stop - start)
        return _joined(data) if self.in_fragments else data


def frames_of(header: DicomHeader, file: FileBytes, count: int, frame_bytes: int) -> Frames:
    """The ``count`` frames of an object; ``frame_bytes`` each where they are not compressed.

    Raises:
        InputRejected: ``no-pixels``; ``truncated``, there are fewer frames than declared.
    """
    pixels = header.pixels
    if pixels is None:
        raise InputRejected("no-pixels", "the DICOM object holds no pixel data", RESEND)
    if header.transfer_syntax in {IMPLICIT_LITTLE, EXPLICIT_LITTLE}:
        if pixels.stop - pixels.start < count * frame_bytes:
            raise _too_few(count, (pixels.stop - pixels.start) // max(1, frame_bytes))
        starts = pixels.start + frame_bytes * np.arange(count, dtype=np.int64)
        return Frames(file, starts, starts + frame_bytes, in_fragments=False)
    fragments, basic = _fragments(header)
    if len(fragments) == count:
        spans = np.asarray(fragments, dtype=np.int64).reshape(-1, 2)
        return Frames(file, spans[:, 0], spans[:, 1], in_fragments=False)
    if len(fragments) < count:
        raise _too_few(count, len(fragments))
    offsets = _frame_offsets(header, basic, count)
    first = fragments[0][0] - _ITEM_HEADER
    starts = first + offsets
    return Frames(file, starts, np.append(starts[1:], fragments[-1][1]), in_fragments=True)


def _fragments(header: DicomHeader) -> tuple[list[tuple[int, int]], bytes]:
    """Byte range of each fragment, and the basic offset table before them."""
    element = header.pixels
    found: list[tuple[int, int]] = []
    if element is None:
        return found, b""
    position = element.start
    while position + _ITEM_HEADER <= element.stop:
        tag, length = read_item(header.data, position, True)
        if tag != ITEM:
            break
        found.append((position + _ITEM_HEADER, min(position + _ITEM_HEADER + length, element.stop)))
        position += _ITEM_HEADER + length
    table = bytes(header.data[found[0][0] : found[0][1]]) if found else b""
    return found[1:], table


def _frame_offsets(header: DicomHeader, basic: bytes, count: int) -> np.ndarray:
    """Offset of each frame's first fragment from the first one, by whichever table is there."""
    extended = header.raw(_EXTENDED_OFFSETS) or b""
    table, kind = (extended, "<u8") if extended else (basic, "<u4")
    size = np.dtype(kind).itemsize
    if len(table) < count * size:
        raise InputRejected(
            "truncated", "frames lie in several fragments each, and no offset table says which", RESEND
        )
    offsets = np.frombuffer(table[: count * size], dtype=kind).astype(np.int64)
    if offsets[0] != 0 or (np.diff(offsets) <= 0).any():
        raise InputRejected("corrupt-header", "the offset table of the frames does not ascend", RESEND)
    return offsets


def _joined(data: bytes) -> bytes:
    """The fragments of one frame without their item headers."""
    parts, position = [], 0
    while position + _ITEM_HEADER <= len(data):
        tag, length = read_item(data, position, True)
        if tag != ITEM:
            break
        parts.append(data[position + _ITEM_HEADER : position + _ITEM_HEADER + length])
        position += _ITEM_HEADER + length
    return b"".join(parts)


def _too_few(expected: int, found: int) -> InputRejected:
    return InputRejected("truncated", f"{expected} frames are declared and {found} are there", RESEND)
