"""The series of a generated DICOM slide, read back from its files."""

from __future__ import annotations

import math
import mmap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clinimm.core.errors import InputRejected
from clinimm.core.record import digest_bytes
from clinimm.modalities.dicom_header import WHOLE_SLIDE, looks_like_dicom, read_header
from clinimm.modalities.synthetic import Provenance, read_dicom_marks
from clinimm.staining.generated_parts import (
    FoundLevel,
    GeneratedFile,
    Spacing,
    cut_corner,
    damage_is_refused,
    no_corner,
)
from clinimm.staining.label_mark import shows_label
from clinimm.staining.plan import TILE_PIXELS, size_name
from clinimm.staining.pyramid import digest_tiles
from clinimm.staining.signed_attributes import UNCERTAINTY, Groups, dicom_groups
from clinimm.staining.write_dicom_map import PARAMETRIC_MAP

#: Marks that every DICOM instance of a stained slide carries.
_DICOM_MARKS = 3
_HEAD_BYTES = 512


@dataclass(frozen=True)
class _Instance:
    """One file of a slide, every value of its header read; what fails, fails here."""

    file: Path
    header: Any
    is_map: bool
    series: str
    columns: int
    rows: int
    manifest: str | None
    said: Provenance | None
    spacings: tuple[Spacing, ...]
    groups: Groups

    @property
    def part(self) -> str:
        """What the signature calls it."""
        return UNCERTAINTY if self.is_map else size_name(self.columns, self.rows)

    def made_with(self, other: _Instance) -> bool:
        """Whether both are of one stained slide: one series, or one manifest."""
        shared = self.manifest is not None and self.manifest == other.manifest
        return shared or self.series == other.series


def read_dicom(folder: Path, chosen: Path | None) -> GeneratedFile:
    """Read the series of a file, or the one of a folder that has a manifest.

    Args:
        folder: where the files lie.
        chosen: a file of the series; None looks for one.

    Raises:
        InputRejected: there is no slide, or the chosen file, or all of it, is damaged.
    """
    series, unchecked = _series(folder, chosen)
    levels = sorted((one for one in series if not one.is_map), key=lambda one: -one.columns)
    maps = [one for one in series if one.is_map]
    unmarked = (one for one in series if one.said is None or len(one.said.marks) < _DICOM_MARKS)
    return GeneratedFile(
        levels=tuple(
            FoundLevel(one.columns, one.rows, digest_tiles(dicom_frames(one.file, one.header)))
            for one in levels
        ),
        uncertainty=_uncertainty(maps[0]) if maps else None,
        manifest=series[0].manifest,
        missing_marks=tuple(f"attributes of {one.file.name}" for one in unmarked),
        said=next((one.said for one in series if one.said is not None), None),
        labelled=bool(levels) and all(shows_label(_corner(one)) for one in (levels[0], levels[-1])),
        spacings={one.part: one.spacings for one in series},
        groups=_groups(series),
        checked=f"series {series[0].series} ({', '.join(one.file.name for one in series)})",
        unchecked=unchecked,
    )


def dicom_frames(file: Path, header: Any) -> Iterator[bytes]:
    """The compressed frames of an encapsulated instance, or the raw ones of a native one, in order.

    Raises:
        InputRejected: it has no pixels, or fewer than it says.
    """
    from pydicom.encaps import generate_frames

    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        pixels = read_header(data).pixels
        if pixels is None:
            raise InputRejected("no-pixels", f"{file.name} has no pixel data", "export it again")
        with damage_is_refused(file.name):
            count = int(header.NumberOfFrames)
            compressed = header.file_meta.TransferSyntaxUID.is_compressed
        if not 0 < count <= pixels.stop - pixels.start:
            words = f"{file.name}: {count} frames in {pixels.stop - pixels.start} bytes"
            raise InputRejected("truncated", words, "export it again")
        if not compressed:
            size = (pixels.stop - pixels.start) // count
            yield from (data[pixels.start + one * size :][:size] for one in range(count))
            return
        stream.seek(pixels.start)
        frames = generate_frames(stream, number_of_frames=count)
        while True:
            with damage_is_refused(file.name):
                frame = next(frames, None)
            if frame is None:
                return
            yield frame


def _series(folder: Path, chosen: Path | None) -> tuple[list[_Instance], tuple[str, ...]]:
    """The slide's files: those of the chosen file, else of one with a manifest, else of the first.

    Where no file was chosen, also the names of the other DICOM files that lie there.
    """
    found: list[_Instance] = []
    others: dict[str, str] = {}
    damaged: list[InputRejected] = []
    for file in _dicom_files(folder):
        others[file.name] = file.name
        try:
            if (one := _read(file)) is not None:
                found.append(one)
        except InputRejected as refusal:
            if file == chosen:
                raise
            damaged.append(refusal)
            others[file.name] = f"{file.name} ({refusal.reason})"
    first = next(
        (one for one in found if one.file == chosen),
        next((one for one in found if one.manifest is not None), next(iter(found), None)),
    )
    if first is None:
        raise next(iter(damaged), _no_slide())
    own = [one for one in found if one.made_with(first)]
    read = {one.file.name for one in own}
    return own, () if chosen else tuple(words for name, words in others.items() if name not in read)


def _no_slide() -> InputRejected:
    return InputRejected(
        "not-a-slide", "there is no DICOM slide here", "give the folder that clinimm stain wrote"
    )


def _dicom_files(folder: Path) -> Iterator[Path]:
    for file in sorted(one for one in folder.iterdir() if one.is_file()):
        with file.open("rb") as stream:
            if looks_like_dicom(file.name, stream.read(_HEAD_BYTES)):
                yield file


def _read(file: Path) -> _Instance | None:
    """A level or map; None of any other DICOM file.

    Raises:
        InputRejected: its header is damaged.
    """
    import pydicom
    from pydicom.errors import BytesLengthException, InvalidDicomError

    with (
        damage_is_refused(file.name, BytesLengthException, InvalidDicomError),
        warnings.catch_warnings(
            action="ignore"
        ),  # values are compared with what was signed, whatever they are
        file.open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        # Its lengths are checked before a parser is let at them that believes each of them.
        walked = read_header(data)
        header = pydicom.dcmread(file, stop_before_pixels=True, force=True)
        if header.get("SOPClassUID") not in (WHOLE_SLIDE, PARAMETRIC_MAP):
            return None
        is_map = header.SOPClassUID == PARAMETRIC_MAP
        return _Instance(
            file,
            header,
            is_map,
            str(header.SeriesInstanceUID),
            int(header.Columns if is_map else header.TotalPixelMatrixColumns),
            int(header.Rows if is_map else header.TotalPixelMatrixRows),
            _manifest(header),
            read_dicom_marks(walked),
            _map_spacing(header) if is_map else (*_map_spacing(header), _volume_spacing(header)),
            dicom_groups(header),
        )


def _groups(series: list[_Instance]) -> dict[str, Groups]:
    """The attributes of each part; a second file of one part goes by its own name, which nobody signed."""
    groups: dict[str, Groups] = {}
    for one in series:
        groups[one.file.name if one.part in groups else one.part] = one.groups
    return groups


def _map_spacing(header: Any) -> tuple[Spacing]:
    """Pixel Spacing."""
    try:
        measures = header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        down, across = (1000 * float(one) for one in measures.PixelSpacing)
    except (AttributeError, IndexError, TypeError, ValueError):
        across, down = math.nan, math.nan
    return ((across, down),)


def _volume_spacing(header: Any) -> Spacing:
    """What follows from the size of the imaged volume."""
    width, height = (float(header.get(name) or "nan") for name in ("ImagedVolumeWidth", "ImagedVolumeHeight"))
    columns, rows = int(header.TotalPixelMatrixColumns), int(header.TotalPixelMatrixRows)
    return 1000 * width / columns, 1000 * height / rows


def _manifest(header: Any) -> str | None:
    try:
        return str(header.private_block(0x0099, "CLINIMM")[0x01].value) or None
    except KeyError:
        return None


def _uncertainty(one: _Instance) -> str:
    return digest_bytes(b"".join(dicom_frames(one.file, one.header))[: 2 * one.rows * one.columns])


def _corner(one: _Instance) -> np.ndarray:
    """The first frame, cut to the image, decoded as any reader would."""
    from clinimm.modalities.pathology.tile_decoder import Coding, decode

    first = next(dicom_frames(one.file, one.header), b"")
    codec = "jpeg-2000" if first[:2] == b"\xff\x4f" else "jpeg"
    try:
        tile = decode(Coding(codec), first, TILE_PIXELS, TILE_PIXELS)
    except InputRejected:  # its pixels were damaged, which their digest tells
        return no_corner()
    return cut_corner(tile, one.rows, one.columns)
