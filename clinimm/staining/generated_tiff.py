"""A generated OME-TIFF, read back from its bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from clinimm.core.errors import InputRejected
from clinimm.core.record import digest_bytes
from clinimm.modalities.pathology.file_bytes import FileBytes
from clinimm.modalities.pathology.pixels import LARGEST_PIECE
from clinimm.modalities.pathology.synthetic import is_synthetic
from clinimm.modalities.pathology.tiff_directory import Directory, Tag, read_directories
from clinimm.modalities.pathology.tiff_metadata import OmeImage, ome_images
from clinimm.modalities.synthetic import read_mark
from clinimm.staining.generated_parts import (
    FoundLevel,
    GeneratedFile,
    Spacing,
    cut_corner,
    damage_is_refused,
    no_corner,
)
from clinimm.staining.label_mark import shows_label
from clinimm.staining.plan import size_name
from clinimm.staining.pyramid import digest_tiles
from clinimm.staining.signed_attributes import UNCERTAINTY, ome_groups, tiff_layout
from clinimm.staining.write_ome import MANIFEST_NAMESPACE, ome_texts

_CENTIMETRE = 3  # TIFF 6.0, ResolutionUnit


def read_tiff(file: FileBytes, path: Path) -> GeneratedFile:
    """Read an OME-TIFF, or what may have been one.

    Args:
        file: open.
        path: of the same file.

    Raises:
        InputRejected: it has no tiles, or is damaged.
    """
    chain = read_directories(file)
    directories = [one for one in chain if one.is_tiled]
    if not directories:
        raise InputRejected("not-a-slide", "the TIFF has no tiles", "give the file that clinimm stain wrote")
    colour = [one for one in directories if one.number(Tag.SAMPLES, 1) == 3]
    grey = [number for number, one in enumerate(chain) if one.is_tiled and one.number(Tag.SAMPLES, 1) == 1]
    said = [read_mark(one.text(Tag.DESCRIPTION), "description") is not None for one in directories]
    missing = tuple(f"description of picture {number}" for number, one in enumerate(said) if not one)
    description = directories[0].text(Tag.DESCRIPTION)
    texts = dict(ome_texts(description))
    manifest = texts.get(MANIFEST_NAMESPACE) or None
    levels = tuple(FoundLevel(*one.size, digest_tiles(_tiff_tiles(one))) for one in colour)
    return GeneratedFile(
        levels=levels,
        uncertainty=_tiff_uncertainty(path, grey[0]) if grey else None,
        manifest=manifest,
        missing_marks=missing,
        said=is_synthetic(path),
        labelled=bool(colour)
        and all(shows_label(_tiff_corner(path, chain.index(one))) for one in (colour[0], colour[-1])),
        spacings=_tiff_spacings(colour, ome_images(description) if texts else []),
        groups={"the file": {**ome_groups(description, manifest or ""), "layout": tiff_layout(chain)}},
    )


def _tiff_spacings(colour: list[Directory], images: list[OmeImage]) -> dict[str, tuple[Spacing, ...]]:
    """What TIFF's own fields say of each level, and the OME-XML of the finest and of the map."""
    found: dict[str, tuple[Spacing, ...]] = {size_name(*one.size): (_tiff_spacing(one),) for one in colour}
    for name, image in zip((next(iter(found), ""), UNCERTAINTY), images, strict=False):
        found[name] = (*found.get(name, ()), _ome_spacing(image.pixels))
    return found


def _tiff_spacing(directory: Directory) -> Spacing:
    if directory.number(Tag.RESOLUTION_UNIT, 0) != _CENTIMETRE:
        return math.nan, math.nan
    across, down = (directory.rational(tag) for tag in (Tag.X_RESOLUTION, Tag.Y_RESOLUTION))
    return (10_000 / across if across > 0 else math.nan), (10_000 / down if down > 0 else math.nan)


def _ome_spacing(pixels: Mapping[str, str]) -> Spacing:
    return _ome_length(pixels, "X"), _ome_length(pixels, "Y")


def _ome_length(pixels: Mapping[str, str], axis: str) -> float:
    try:
        length = float(pixels.get(f"PhysicalSize{axis}", "nan"))
    except ValueError:
        return math.nan
    return length if pixels.get(f"PhysicalSize{axis}Unit") == "µm" else math.nan


def _tiff_tiles(directory: Directory) -> Iterator[bytes]:
    offsets, counts = (directory.numbers(tag) for tag in (Tag.TILE_OFFSETS, Tag.TILE_COUNTS))
    if len(offsets) != len(counts):
        words = f"a picture has {len(offsets)} tiles and the sizes of {len(counts)}"
        raise InputRejected("corrupt-directory", words, "take the file as it was written")
    for offset, count in zip(offsets, counts, strict=True):
        yield directory.file.read(int(offset), int(count))


def _tiff_uncertainty(path: Path, number: int) -> str:
    """The digest of the map's values; empty where its fields do not fit its tiles: none was signed so."""
    try:
        with _page(path, number) as page:
            if page.size > LARGEST_PIECE:
                return ""
            return digest_bytes(np.ascontiguousarray(page.asarray(), "<u2").tobytes())
    except InputRejected:
        return ""


def _tiff_corner(path: Path, number: int) -> np.ndarray:
    """The top left tile of a level, cut to the image; only that tile is decoded."""
    try:
        with _page(path, number) as page:
            if page.tilewidth * page.tilelength > LARGEST_PIECE:
                return no_corner()
            page.parent.filehandle.seek(page.dataoffsets[0])
            packed = page.parent.filehandle.read(page.databytecounts[0])
            tile, _, _ = page.decode(packed, 0, jpegtables=page.jpegtables)
            return cut_corner(np.asarray(tile)[0], page.imagelength, page.imagewidth)
    except InputRejected:  # its fields do not fit its tiles: no label can be seen
        return no_corner()


@contextmanager
def _page(path: Path, number: int) -> Iterator[Any]:
    """A picture of the chain, a ``tifffile.TiffPage``.

    Raises:
        InputRejected: it, or what is done with it, fails for damage.
    """
    import tifffile

    with damage_is_refused(path.name), tifffile.TiffFile(path) as tiff:
        yield tiff.pages[number]
