"""Slides in TIFF: Aperio SVS, OME-TIFF, any tiled pyramid, and plain TIFF in strips.

Tiles are read at their offsets and decoded straight from their bytes. Strips are tiles as wide as the
picture. Files of other vendors are OpenSlide's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from clinimm.core.errors import InputRejected
from clinimm.modalities.pathology.file_bytes import FileBytes
from clinimm.modalities.pathology.pixels import LARGEST_PIECE, Level, Rgb, SlideInfo, shrinking, too_large
from clinimm.modalities.pathology.resolution import Resolution
from clinimm.modalities.pathology.tiff_directory import (
    Directory,
    Tag,
    corrupt,
    read_directories,
    sub_directories,
)
from clinimm.modalities.pathology.tiff_metadata import (
    OmeImage,
    aperio_properties,
    aperio_resolution,
    ome_images,
    tiff_properties,
    tiff_resolution,
    vendor_of,
)
from clinimm.modalities.pathology.tile_decoder import Coding, decode
from clinimm.modalities.pathology.tiled import TiledPixels

#: Vendors whose files are read here; OpenSlide reads the others.
NATIVE_VENDORS = frozenset({"aperio", "ome-tiff", "generic-tiff"})
#: TIFF's numbers of compressions, and what decodes them.
_CODECS = {1: "raw", 5: "lzw", 7: "jpeg", 8: "deflate", 32946: "deflate", 32773: "packbits"} | {
    33005: "jpeg-2000", 34712: "jpeg-2000", 50000: "zstandard", 50001: "webp",
    50002: "jpeg-xl", 34927: "webp", 34926: "zstandard",
}  # fmt: skip
#: Aperio's JPEG 2000 with colour differences at half width, which only OpenSlide puts together.
_APERIO_YCC = 33003
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _YCBCR = 0, 1, 2, 6
_JPEG_COLOURS = {_WHITE_IS_ZERO: "gray", _BLACK_IS_ZERO: "gray", _RGB: "rgb", _YCBCR: "ycbcr"}
_COLOUR_CODECS = frozenset({"jpeg", "jpeg-2000", "webp", "jpeg-xl"})  # they store colour in their own way
_SEPARATE_PLANES = 2
_FINGERPRINT_BYTES = 1 << 20


def open_tiff(file: FileBytes, name: str, cache_bytes: int) -> TiledPixels | None:
    """A TIFF slide; None where it is a vendor's file that OpenSlide has to read.

    Args:
        file: open; closed with the slide.
        name: of the file, for OME-XML that names other files.
        cache_bytes: most that kept tiles take.

    Raises:
        InputRejected: ``truncated``, ``corrupt-header``, ``not-a-slide``, ``bit-depth``,
            ``photometric-unknown``, ``unsupported-compression``, ``too-many-pixels``.
    """
    pages = read_directories(file)
    if not pages:
        raise InputRejected("not-a-slide", "the TIFF holds no picture", "export the slide again")
    vendor = vendor_of(pages[0])
    is_openslides = vendor not in NATIVE_VENDORS
    if is_openslides or any(page.number(Tag.COMPRESSION, 1) == _APERIO_YCC for page in pages):
        return None
    chosen = _CHOOSERS[vendor](pages, name)
    tiles = [TiffTiles(page) for page in chosen.pages]
    base_width, base_height = tiles[0].width, tiles[0].height
    levels = []
    for one in tiles:
        downsample = shrinking(one.width, one.height, base_width, base_height)
        levels.append(Level(one.width, one.height, downsample or 1.0, one.tile_width, one.tile_height))
    info = SlideInfo(
        base_width,
        base_height,
        tuple(levels),
        chosen.resolution,
        vendor,
        chosen.properties,
        _fingerprint(tiles),
    )
    return TiledPixels(info, tuple(tiles), cache_bytes, file.close)


@dataclass(frozen=True)
class _Chosen:
    """Which directories are levels (finest first), and what the file says."""

    pages: Sequence[Directory]
    resolution: Resolution | None
    properties: Mapping[str, str]


def _aperio(pages: Sequence[Directory], name: str) -> _Chosen:
    """Tiled directories are levels; label, macro and thumbnail are stored in strips."""
    properties = aperio_properties(pages[0].text(Tag.DESCRIPTION)) | tiff_properties(pages[0])
    tiled = [page for page in pages if page.is_tiled and not page.is_reduced]
    return _Chosen(_pyramid(pages[0], tiled), aperio_resolution(properties), properties)


def _generic(pages: Sequence[Directory], name: str) -> _Chosen:
    """The first directory, and those that say that they are it reduced, in the chain or below it."""
    reduced = [page for page in pages[1:] if page.is_reduced and page.is_tiled]
    levels = _pyramid(pages[0], [*reduced, *sub_directories(pages[0])])
    return _Chosen(levels, tiff_resolution(pages[0]), tiff_properties(pages[0]))


def _ome(pages: Sequence[Directory], name: str) -> _Chosen:
    """The largest image that is not label or macro; its levels are its sub-directories."""
    images = ome_images(pages[0].text(Tag.DESCRIPTION))
    found: list[tuple[OmeImage, Directory]] = []
    position = 0
    for image in images:
        index = position if image.first_ifd is None else image.first_ifd
        position = index + image.planes
        if index >= len(pages):
            raise corrupt(f"the OME-XML speaks of directory {index}; the file has {len(pages)}")
        if image.is_slide:
            found.append((image, pages[index]))
    if not found:
        raise InputRejected(
            "not-a-slide", "the OME-XML names no image but label and macro", "export the slide itself"
        )
    image, page = max(found, key=lambda one: one[1].size[0] * one[1].size[1])
    if image.planes > 1 or image.file_names - {name}:
        raise InputRejected(
            "not-a-slide",
            f"the picture is spread over {image.planes} planes or several files; expected one RGB plane",
            "export the brightfield picture as one RGB plane",
        )
    resolution = image.resolution or tiff_resolution(page)
    return _Chosen(_pyramid(page, sub_directories(page)), resolution, tiff_properties(pages[0]))


_CHOOSERS = {"aperio": _aperio, "ome-tiff": _ome, "generic-tiff": _generic}


def _pyramid(base: Directory, others: Iterable[Directory]) -> list[Directory]:
    """The base and whatever shows the same smaller, each size once, finest first."""
    width, height = base.size
    sizes = {base.size: base}
    for page in others:
        across, down = page.size
        is_smaller = 0 < across < width and 0 < down < height
        if is_smaller and shrinking(across, down, width, height) is not None:
            sizes.setdefault(page.size, page)
    return [sizes[size] for size in sorted(sizes, reverse=True)]


class TiffTiles:
    """The tiles, or strips, of one directory.

    Raises:
        InputRejected: as ``open_tiff``.
    """

    def __init__(self, page: Directory) -> None:
        self._page = page
        self.width, self.height = page.size
        if self.width < 1 or self.height < 1:
            raise corrupt(f"a picture has {self.width} x {self.height} pixels")
        self._is_tiled = page.is_tiled
        if self._is_tiled:
            self.tile_width = page.number(Tag.TILE_WIDTH, 0)
            self.tile_height = page.number(Tag.TILE_HEIGHT, 0)
        else:
            self.tile_width = self.width
            self.tile_height = min(page.number(Tag.ROWS_PER_STRIP, self.height), self.height)
        if self.tile_width < 1 or self.tile_height < 1:
            raise corrupt(f"tiles have {self.tile_width} x {self.tile_height} pixels")
        if self.tile_width * self.tile_height > LARGEST_PIECE:
            raise too_large(self.tile_width, self.tile_height, "a tile or strip")
        self._columns = -(-self.width // self.tile_width)
        self._rows = -(-self.height // self.tile_height)
        self._coding, self._planes = coding_of(page)

    @cached_property
    def _spans(self) -> tuple[np.ndarray, np.ndarray]:
        """Offset and byte count of each tile, as many as the picture's size asks for."""
        tags = (
            (Tag.TILE_OFFSETS, Tag.TILE_COUNTS) if self._is_tiled else (Tag.STRIP_OFFSETS, Tag.STRIP_COUNTS)
        )
        expected = self._columns * self._rows * self._planes
        found = []
        for tag in tags:
            values = self._page.numbers(tag, most=2 * expected + 64)
            if len(values) < expected:
                raise corrupt(f"{tag.name} has {len(values)} values; the picture's size asks for {expected}")
            found.append(values)
        return found[0], found[1]

    def tile(self, column: int, row: int) -> Rgb | None:
        """A tile; None where offset and count are 0, which is how sparse files leave tiles out.

        Raises:
            InputRejected: ``cannot-read`` or ``truncated``.
        """
        index = row * self._columns + column
        stored = self.tile_height
        if not self._is_tiled:
            stored = min(stored, self.height - row * self.tile_height)
        step = self._columns * self._rows
        contents = [self._content(index + plane * step) for plane in range(self._planes)]
        if contents[0] is None:
            return None
        if self._planes == 1:
            pixels = decode(self._coding, contents[0], self.tile_width, stored)
        else:
            one = replace(self._coding, samples=1)
            planes = [decode(one, part or b"", self.tile_width, stored)[..., 0] for part in contents[:3]]
            pixels = np.stack(planes, axis=-1)
        return pixels

    def _content(self, index: int) -> bytes | None:
        offsets, counts = self._spans
        offset, count = int(offsets[index]), int(counts[index])
        if count == 0:
            if offset == 0:
                return None
            raise InputRejected(
                "cannot-read",
                f"tile {index} has no bytes, but a place in the file",
                "scan or export the slide again",
            )
        return self._page.file.read(offset, count)

    def sample(self, most_bytes: int) -> bytes:
        """Stored bytes of the first tiles, up to the first damaged one, which is refused when it is read."""
        found = b""
        try:
            for index in range(self._columns * self._rows):
                if len(found) >= most_bytes:
                    break
                found += self._content(index) or b"-"
        except InputRejected:
            pass
        return found[:most_bytes]


def coding_of(page: Directory) -> tuple[Coding, int]:
    """How a directory's tiles are coded, and how many planes are stored apart.

    Raises:
        InputRejected: ``bit-depth``, ``photometric-unknown``, ``unsupported-compression``.
    """
    samples = page.number(Tag.SAMPLES, 1)
    bits = {int(value) for value in page.numbers(Tag.BITS, most=16)} or {1}
    formats = {int(value) for value in page.numbers(Tag.SAMPLE_FORMAT, most=16)} or {1}
    if bits != {8} or formats != {1}:
        raise InputRejected(
            "bit-depth",
            f"the values have {'/'.join(map(str, sorted(bits)))} bits (sample format "
            f"{'/'.join(map(str, sorted(formats)))}); expected 8 bits without sign",
            "export the slide with 8 bits a channel",
        )
    compression = page.number(Tag.COMPRESSION, 1)
    codec = _CODECS.get(compression)
    if codec is None:
        raise InputRejected(
            "unsupported-compression",
            f"TIFF compression {compression} is none of those that are read",
            "export the slide with JPEG, JPEG 2000, LZW or Deflate compression",
        )
    photometric = page.number(Tag.PHOTOMETRIC, -1)
    apart = page.number(Tag.PLANAR, 1) == _SEPARATE_PLANES and samples > 1
    is_coded_colour = photometric == _YCBCR and not apart and codec in _COLOUR_CODECS
    is_grey = photometric in {_WHITE_IS_ZERO, _BLACK_IS_ZERO} and samples == 1
    is_colour = (photometric == _RGB or is_coded_colour) and samples in {3, 4}
    if not (is_grey or is_colour):
        raise InputRejected(
            "photometric-unknown",
            f"{samples} values a pixel with photometric interpretation {photometric}; expected RGB or grey",
            "export the slide as RGB",
        )
    coding = Coding(
        codec,
        samples,
        tables=page.content(Tag.JPEG_TABLES) or None,
        colours=_JPEG_COLOURS[photometric] if samples <= 3 and not apart else None,
        predictor=page.number(Tag.PREDICTOR, 1) == 2,
        inverted=photometric == _WHITE_IS_ZERO,
    )
    return coding, samples if apart else 1


def _fingerprint(tiles: Sequence[TiffTiles]) -> str:
    """Digest of the sizes and of the coarsest level's stored bytes, at most 1 MiB of them."""
    sizes = ",".join(f"{one.width}x{one.height}" for one in tiles)
    return hashlib.sha256(sizes.encode() + tiles[-1].sample(_FINGERPRINT_BYTES)).hexdigest()
