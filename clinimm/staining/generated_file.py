"""What a generated file holds, read back from its bytes: levels, marks, manifest, label.

OME-TIFF and DICOM give the same values, for the same tiles have the same digest in both.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clinimm.core.errors import InputRejected
from clinimm.core.record import digest_bytes
from clinimm.modalities.dicom_header import WHOLE_SLIDE, looks_like_dicom, read_header
from clinimm.modalities.pathology.file_bytes import FileBytes
from clinimm.modalities.pathology.tiff_directory import (
    Directory,
    Tag,
    is_tiff,
    read_directories,
)
from clinimm.modalities.pathology.tiff_metadata import OmeImage, ome_images
from clinimm.modalities.synthetic import read_dicom_marks, read_mark
from clinimm.staining.label_mark import shows_label
from clinimm.staining.plan import size_name
from clinimm.staining.pyramid import digest_tiles
from clinimm.staining.signed_attributes import UNCERTAINTY, Groups, dicom_groups, ome_groups, tiff_layout
from clinimm.staining.write_dicom_map import PARAMETRIC_MAP
from clinimm.staining.write_ome import MANIFEST_NAMESPACE, ome_texts

#: Marks that every DICOM instance of a stained slide carries.
_DICOM_MARKS = 3
_CORNER = (128, 256)
_HEAD_BYTES = 512
_CENTIMETRE = 3  # TIFF 6.0, ResolutionUnit

#: Micrometres a pixel along a row and along a column, as a file states them.
Spacing = tuple[float, float]


@dataclass(frozen=True)
class FoundLevel:
    """One level of a file: its size in pixels, and the digest of its tiles."""

    columns: int
    rows: int
    digest: str


@dataclass(frozen=True)
class GeneratedFile:
    """A file that was, or may have been, generated.

    Attributes:
        levels: finest first.
        uncertainty: digest of the uncertainty map's values; None where there is no map.
        manifest: the manifest inside the file; None where there is none.
        missing_marks: what should say that it is generated and does not, in words.
        marked: whether anything in the attributes says that it is generated.
        labelled: whether the label is in the pixels of the finest and of the coarsest level.
        spacings: level (``size_name``) or ``uncertainty`` -> every pixel spacing that the file states for it.
        groups: part of the file -> its attributes; see ``signed_attributes.py``.
        checked: which series of a DICOM folder was read; empty of a TIFF.
        unchecked: names of other DICOM files in a folder that was to be read.
    """

    levels: tuple[FoundLevel, ...]
    uncertainty: str | None
    manifest: str | None
    missing_marks: tuple[str, ...]
    marked: bool
    labelled: bool
    spacings: Mapping[str, tuple[Spacing, ...]]
    groups: Mapping[str, Groups]
    checked: str = ""
    unchecked: tuple[str, ...] = ()


def read_generated(path: Path) -> GeneratedFile:
    """Read a TIFF, or the DICOM series that a file or folder belongs to.

    Raises:
        InputRejected: it is neither, or it is damaged.
    """
    if path.is_dir():
        return _read_dicom(path, None)
    file = FileBytes(path)
    try:
        head = file.head(_HEAD_BYTES)
        if is_tiff(head):
            return _read_tiff(file, path)
    finally:
        file.close()
    if looks_like_dicom(path.name, head):
        return _read_dicom(path.parent, path)
    raise InputRejected(
        "not-a-slide", "the file is neither TIFF nor DICOM", "give the file that clinimm stain wrote"
    )


def _read_tiff(file: FileBytes, path: Path) -> GeneratedFile:
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
        marked=any(said),
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
    for offset, count in zip(offsets, counts, strict=True):
        yield directory.file.read(int(offset), int(count))


def _tiff_uncertainty(path: Path, number: int) -> str | None:
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[number]
        try:
            return digest_bytes(np.ascontiguousarray(page.asarray(), "<u2").tobytes())
        except (ValueError, RuntimeError):  # its fields do not fit its tiles: it is none that was signed
            return ""


def _tiff_corner(path: Path, number: int) -> np.ndarray:
    """The top left tile of a level, cut to the image; only that tile is decoded."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[number]
        assert isinstance(page, tifffile.TiffPage)
        tiff.filehandle.seek(page.dataoffsets[0])
        packed = tiff.filehandle.read(page.databytecounts[0])
        try:
            tile, _, _ = page.decode(packed, 0, jpegtables=page.jpegtables)
        except (ValueError, RuntimeError):  # its fields do not fit its tiles: no label can be seen
            return np.zeros((*_CORNER, 3), np.uint8)
        assert tile is not None
        return _cut(np.asarray(tile)[0], page.imagelength, page.imagewidth)


def _cut(tile: np.ndarray, rows: int, columns: int) -> np.ndarray:
    return tile[: min(_CORNER[0], rows), : min(_CORNER[1], columns)]


def _read_dicom(folder: Path, chosen: Path | None) -> GeneratedFile:
    headers, unchecked = _series(folder, chosen)
    colour = [(file, one) for file, one in headers if one.SOPClassUID == WHOLE_SLIDE]
    grey = [(file, one) for file, one in headers if one.SOPClassUID == PARAMETRIC_MAP]
    colour.sort(key=lambda one: -int(one[1].TotalPixelMatrixColumns))
    missing, marked = [], False
    for file, _ in headers:
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found = read_dicom_marks(read_header(data))
        marked = marked or found is not None
        if found is None or len(found.marks) < _DICOM_MARKS:
            missing.append(f"attributes of {file.name}")
    return GeneratedFile(
        levels=tuple(
            FoundLevel(
                int(one.TotalPixelMatrixColumns),
                int(one.TotalPixelMatrixRows),
                digest_tiles(dicom_frames(file, one)),
            )
            for file, one in colour
        ),
        uncertainty=_dicom_uncertainty(*grey[0]) if grey else None,
        manifest=_dicom_manifest(headers[0][1]),
        missing_marks=tuple(missing),
        marked=marked,
        labelled=bool(colour) and all(shows_label(_dicom_corner(*one)) for one in (colour[0], colour[-1])),
        spacings={_part_name(one): _dicom_spacings(one) for _, one in headers},
        groups=_groups(headers),
        checked=f"series {headers[0][1].SeriesInstanceUID} ({', '.join(file.name for file, _ in headers)})",
        unchecked=unchecked,
    )


def _groups(headers: list[tuple[Path, Any]]) -> dict[str, Groups]:
    """The attributes of each part; a second file of one part goes by its own name, which nobody signed."""
    groups: dict[str, Groups] = {}
    for file, header in headers:
        name = _part_name(header)
        groups[file.name if name in groups else name] = dicom_groups(header)
    return groups


def _part_name(header: Any) -> str:
    if header.SOPClassUID == PARAMETRIC_MAP:
        return UNCERTAINTY
    return size_name(int(header.TotalPixelMatrixColumns), int(header.TotalPixelMatrixRows))


def _dicom_spacings(header: Any) -> tuple[Spacing, ...]:
    """Pixel Spacing, and for a level what follows from the size of the imaged volume."""
    try:
        measures = header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        down, across = (1000 * float(one) for one in measures.PixelSpacing)
    except (AttributeError, IndexError, TypeError, ValueError):
        across, down = math.nan, math.nan
    if header.SOPClassUID == PARAMETRIC_MAP:
        return ((across, down),)
    width, height = (float(header.get(name) or "nan") for name in ("ImagedVolumeWidth", "ImagedVolumeHeight"))
    columns, rows = int(header.TotalPixelMatrixColumns), int(header.TotalPixelMatrixRows)
    return (across, down), (1000 * width / columns, 1000 * height / rows)


def _series(folder: Path, chosen: Path | None) -> tuple[list[tuple[Path, Any]], tuple[str, ...]]:
    """The slide's files: those of the chosen file, else of one with a manifest, else of the first.

    Where no file was chosen, also the names of the other DICOM files that lie there.
    """
    import pydicom

    found, names = [], []
    for file in sorted(one for one in folder.iterdir() if one.is_file()):
        with file.open("rb") as stream:
            if not looks_like_dicom(file.name, stream.read(_HEAD_BYTES)):
                continue
        names.append(file.name)
        header = pydicom.dcmread(file, stop_before_pixels=True)
        if header.get("SOPClassUID") in (WHOLE_SLIDE, PARAMETRIC_MAP):
            found.append((file, header))
    wanted = [one for file, one in found if file == chosen]
    wanted += [one for _, one in found if _dicom_manifest(one)] + [one for _, one in found]
    if not wanted:
        raise InputRejected(
            "not-a-slide", "there is no DICOM slide here", "give the folder that clinimm stain wrote"
        )
    own = [(file, one) for file, one in found if _made_with(one, wanted[0])]
    read = {file.name for file, _ in own}
    return own, () if chosen else tuple(name for name in names if name not in read)


def _made_with(header: Any, other: Any) -> bool:
    """Whether two headers are of one stained slide: one series, or one manifest."""
    if header.SeriesInstanceUID == other.SeriesInstanceUID:
        return True
    manifest = _dicom_manifest(header)
    return manifest is not None and manifest == _dicom_manifest(other)


def _dicom_manifest(header: Any) -> str | None:
    try:
        return str(header.private_block(0x0099, "CLINIMM")[0x01].value) or None
    except KeyError:
        return None


def dicom_frames(file: Path, header: Any) -> Iterator[bytes]:
    """The compressed frames of an encapsulated instance, or the raw ones of a native one, in order."""
    from pydicom.encaps import generate_frames

    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        pixels = read_header(data).pixels
        if pixels is None:
            raise InputRejected("no-pixels", f"{file.name} has no pixel data", "export it again")
        count = int(header.NumberOfFrames)
        if not header.file_meta.TransferSyntaxUID.is_compressed:
            size = (pixels.stop - pixels.start) // count
            yield from (data[pixels.start + one * size :][:size] for one in range(count))
            return
        stream.seek(pixels.start)
        try:
            yield from generate_frames(stream, number_of_frames=count)
        except (ValueError, EOFError) as error:
            raise InputRejected("truncated", f"{file.name}: {error}", "export it again") from error


def _dicom_uncertainty(file: Path, header: Any) -> str:
    return digest_bytes(b"".join(dicom_frames(file, header))[: 2 * int(header.Rows) * int(header.Columns)])


def _dicom_corner(file: Path, header: Any) -> np.ndarray:
    """The first frame, cut to the image, decoded as any reader would."""
    import imagecodecs

    first = next(dicom_frames(file, header))
    decode = imagecodecs.jpeg2k_decode if first[:2] == b"\xff\x4f" else imagecodecs.jpeg8_decode
    return _cut(decode(first), int(header.TotalPixelMatrixRows), int(header.TotalPixelMatrixColumns))
