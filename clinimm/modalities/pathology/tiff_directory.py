"""The directories of a TIFF or BigTIFF file, read without trusting a count or an offset in them.

TIFF 6.0 (Adobe, 1992) section 2; BigTIFF as in libtiff's design note. Nothing is allocated before the
file's size shows that it is there, and a directory is visited once.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from clinimm.core.errors import InputRejected
from clinimm.modalities.pathology.file_bytes import FileBytes

_MOST_DIRECTORIES = 4096
_MOST_FIELDS = 4096
_MOST_TEXT_BYTES = 64 << 20
#: numpy's kind and bytes of each field type (TIFF 6.0 page 15, BigTIFF 16 to 18); 13 is an IFD offset.
_KINDS = {1: "u1", 2: "S1", 3: "u2", 4: "u4", 5: "u4", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 10: "i4"} | {
    11: "f4", 12: "f8", 13: "u4", 16: "u8", 17: "i8", 18: "u8"
}  # fmt: skip
_RATIONALS = frozenset({5, 10})
_EXPORT = "export or convert the slide again"


class Tag(IntEnum):
    """The fields that a slide's pixels and resolution need."""

    SUBFILE_TYPE = 254
    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    DESCRIPTION = 270
    MAKE = 271
    STRIP_OFFSETS = 273
    SAMPLES = 277
    ROWS_PER_STRIP = 278
    STRIP_COUNTS = 279
    X_RESOLUTION = 282
    Y_RESOLUTION = 283
    PLANAR = 284
    RESOLUTION_UNIT = 296
    SOFTWARE = 305
    DATE_TIME = 306
    PREDICTOR = 317
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILE_OFFSETS = 324
    TILE_COUNTS = 325
    SUB_IFDS = 330
    SAMPLE_FORMAT = 339
    JPEG_TABLES = 347
    SUBSAMPLING = 530
    XMP = 700


@dataclass(frozen=True)
class Field:
    """Where the values of a tag lie: type, how many, byte position."""

    kind: int
    count: int
    position: int


@dataclass(frozen=True)
class Directory:
    """One picture's fields; values are read when asked for."""

    file: FileBytes
    order: str
    fields: Mapping[int, Field]

    def numbers(self, tag: Tag, most: int = 1 << 26) -> np.ndarray:
        """All values of a tag, empty where it is absent; of a rational pairs in a row.

        Raises:
            InputRejected: ``truncated``; ``corrupt-header``, there are more than ``most``.
        """
        found = self.fields.get(tag)
        if found is None:
            return np.zeros(0, dtype=np.uint64)
        if found.count > most:
            raise corrupt(f"field {tag.name} has {found.count} values where at most {most} make sense")
        kind = np.dtype(f"{self.order}{_KINDS[found.kind]}")
        count = found.count * (2 if found.kind in _RATIONALS else 1)
        return np.frombuffer(self.file.read(found.position, count * kind.itemsize), dtype=kind)

    def number(self, tag: Tag, default: int) -> int:
        """The first value of a whole-number tag."""
        found = self.numbers(tag, most=1 << 16)
        return int(found[0]) if len(found) and found.dtype.kind in "ui" else default

    def rational(self, tag: Tag) -> float:
        """A fraction; NaN where it is absent or divides by zero."""
        found = self.numbers(tag, most=1).astype(float)
        return float(found[0] / found[1]) if len(found) == 2 and found[1] else float("nan")

    def content(self, tag: Tag) -> bytes:
        """The bytes of a tag; empty where it is absent."""
        return self.numbers(tag, most=_MOST_TEXT_BYTES).tobytes()

    def text(self, tag: Tag) -> str:
        """Text up to its first zero byte; bytes that are not UTF-8 are read as Latin-1."""
        content = self.content(tag).split(b"\0", 1)[0]
        try:
            return content.decode("utf-8").strip()
        except UnicodeDecodeError:
            return content.decode("latin-1").strip()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        return self.number(Tag.WIDTH, 0), self.number(Tag.HEIGHT, 0)

    @property
    def is_tiled(self) -> bool:
        """Whether the pixels lie in tiles; otherwise they lie in strips."""
        return Tag.TILE_OFFSETS in self.fields

    @property
    def is_reduced(self) -> bool:
        """Whether it says that it is a smaller version of another picture (bit 0 of tag 254)."""
        return bool(self.number(Tag.SUBFILE_TYPE, 0) & 1)


def is_tiff(head: bytes) -> bool:
    """Whether a file starts as TIFF or BigTIFF of either byte order.

    >>> is_tiff(b"II*\\0aaaa"), is_tiff(b"MM\\0+aaaa"), is_tiff(b"PNG")
    (True, True, False)
    """
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True)
class _Layout:
    """How counts and offsets are written: ``entry`` is tag, type, count; ``inline`` bytes fit in place."""

    order: str
    count: struct.Struct
    entry: struct.Struct
    offset: struct.Struct


def read_directories(file: FileBytes) -> tuple[Directory, ...]:
    """The directories of the file's main chain, in order.

    Raises:
        InputRejected: ``truncated``; ``corrupt-header``: a loop, or too many directories or fields.
    """
    layout, first = _layout(file)
    visited: set[int] = set()
    return tuple(_chain(file, layout, first, visited))


def sub_directories(directory: Directory) -> tuple[Directory, ...]:
    """The directories that tag 330 points at: how OME-TIFF stores smaller levels.

    Raises:
        InputRejected: as ``read_directories``.
    """
    layout, _ = _layout(directory.file)
    offsets = [int(offset) for offset in directory.numbers(Tag.SUB_IFDS, most=_MOST_DIRECTORIES)]
    if len(set(offsets)) < len(offsets):
        raise corrupt("two sub-directories are the same one")
    return tuple(_directory(directory.file, layout, offset)[0] for offset in offsets)


def _layout(file: FileBytes) -> tuple[_Layout, int]:
    head = file.read(0, min(16, file.size))
    order = "<" if head[:2] == b"II" else ">"
    if len(head) < 8 or not is_tiff(head):
        raise InputRejected("not-a-slide", "the file is no TIFF", "leave it out")
    if head[2:4] in (b"*\0", b"\0*"):
        layout = _Layout(order, *(struct.Struct(order + code) for code in ("H", "HHI", "I")))
        return layout, layout.offset.unpack_from(head, 4)[0]
    layout = _Layout(order, *(struct.Struct(order + code) for code in ("Q", "HHQ", "Q")))
    if len(head) < 16:
        raise corrupt("the file ends in its header")
    return layout, layout.offset.unpack_from(head, 8)[0]


def _chain(file: FileBytes, layout: _Layout, offset: int, visited: set[int]) -> Iterator[Directory]:
    while offset:
        if offset in visited:
            raise corrupt("the directories point back at one that was read")
        if len(visited) == _MOST_DIRECTORIES:
            raise corrupt(f"there are more than {_MOST_DIRECTORIES} directories")
        visited.add(offset)
        directory, offset = _directory(file, layout, offset)
        yield directory


def _directory(file: FileBytes, layout: _Layout, offset: int) -> tuple[Directory, int]:
    """A directory, and the offset of the next one."""
    (count,) = layout.count.unpack(file.read(offset, layout.count.size))
    if not 0 < count <= _MOST_FIELDS:
        raise corrupt(f"a directory has {count} fields; expected 1 to {_MOST_FIELDS}")
    size = layout.entry.size + layout.offset.size
    start = offset + layout.count.size
    content = file.read(start, count * size + layout.offset.size)
    fields: dict[int, Field] = {}
    for index in range(count):
        tag, kind, values = layout.entry.unpack_from(content, index * size)
        if kind not in _KINDS:  # TIFF 6.0: readers skip types that they do not know
            continue
        place = index * size + layout.entry.size
        bytes_needed = values * int(_KINDS[kind][1]) * (2 if kind in _RATIONALS else 1)
        inline = bytes_needed <= layout.offset.size
        position = start + place if inline else layout.offset.unpack_from(content, place)[0]
        fields.setdefault(tag, Field(kind, values, position))
    return Directory(file, layout.order, fields), layout.offset.unpack_from(content, count * size)[0]


def corrupt(reason: str) -> InputRejected:
    """A header that contradicts itself."""
    return InputRejected("corrupt-header", reason, _EXPORT)
