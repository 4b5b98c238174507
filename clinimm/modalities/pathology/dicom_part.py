"""What one DICOM file of a slide says about itself: VL Whole Slide Microscopy, PS3.3 A.32.8 and C.8.12."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clinimm.core.errors import InputRejected
from clinimm.modalities.dicom_header import DicomHeader, read_header, sequence_items
from clinimm.modalities.dicom_walk import RESEND
from clinimm.modalities.pathology.dicom_frames import Frames, frames_of
from clinimm.modalities.pathology.file_bytes import FileBytes
from clinimm.modalities.pathology.pixels import LARGEST_PIECE, too_large
from clinimm.modalities.pathology.resolution import Resolution, believable
from clinimm.modalities.pathology.tile_decoder import Coding

_JPEG = "1.2.840.10008.1.2.4."
#: What decodes each transfer syntax.
_CODECS = {"1.2.840.10008.1.2": "raw", "1.2.840.10008.1.2.1": "raw", "1.2.840.10008.1.2.5": "rle"} | {
    _JPEG + "50": "jpeg", _JPEG + "51": "jpeg", _JPEG + "57": "jpeg-lossless", _JPEG + "70": "jpeg-lossless",
    _JPEG + "80": "jpeg-ls", _JPEG + "81": "jpeg-ls", _JPEG + "90": "jpeg-2000", _JPEG + "91": "jpeg-2000",
    _JPEG + "201": "jpeg-2000", _JPEG + "202": "jpeg-2000", _JPEG + "203": "jpeg-2000",
}  # fmt: skip
_COLOURS = {"RGB": "rgb", "YBR_FULL_422": "ycbcr", "YBR_FULL": "ycbcr"}
#: Photometric Interpretations that each codec turns into RGB; the others store RGB itself.
_INTO_RGB = {"jpeg": frozenset({"RGB", "YBR_FULL", "YBR_FULL_422"})} | {
    "jpeg-2000": frozenset({"RGB", "YBR_ICT", "YBR_RCT"})
}
_SHARED, _PER_FRAME = 0x52009229, 0x52009230
_PIXEL_MEASURES, _PIXEL_SPACING, _PLANE_POSITION = 0x00289110, 0x00280030, 0x0048021A
_MOST_FRAMES = 1 << 24
#: Elements that a reader or a writer of the slide asks for, by OpenSlide's names.
_PROPERTIES = {
    "dicom.InstitutionName": 0x00080080,
    "dicom.Manufacturer": 0x00080070,
    "dicom.ManufacturerModelName": 0x00081090,
    "dicom.StudyInstanceUID": 0x0020000D,
    "dicom.SeriesInstanceUID": 0x0020000E,
    "dicom.FrameOfReferenceUID": 0x00200052,
}


@dataclass(frozen=True)
class Part:
    """One file of a slide.

    Attributes:
        instance_uid, pyramid_uid, concatenation_uid: SOP Instance, Pyramid and Concatenation UID.
        width, height: of the level, pixels.
        tile_width, tile_height: of a frame, pixels.
        first_frame: index of its first frame in the level.
        planes: focal planes times optical paths of the level.
        positions: tile column and row of each frame, where the file states them (TILED_SPARSE).
        resolution: where it states one.
        coding, frames: how frames are coded, and where they lie.
        properties: what else it says.
    """

    instance_uid: str
    pyramid_uid: str | None
    concatenation_uid: str | None
    width: int
    height: int
    tile_width: int
    tile_height: int
    first_frame: int
    planes: int
    positions: tuple[tuple[int, int], ...] | None
    resolution: Resolution | None
    coding: Coding
    frames: Frames
    properties: Mapping[str, str]


def is_volume(header: DicomHeader) -> bool:
    """Whether a file holds a level of the pyramid: value 3 of Image Type (PS3.3 C.8.12.4.1.1).

    Raises:
        InputRejected: ``no-image-type``; what might be the label is not opened.
    """
    image_type = [part.strip() for part in (header.code(0x00080008) or "").split("\\")]
    if len(image_type) < 3:
        raise InputRejected(
            "no-image-type",
            "Image Type (0008,0008) does not say whether this is the slide or its label",
            "correct it at the source",
        )
    return image_type[2] == "VOLUME"


def read_part(path: Path) -> Part | None:
    """One file of a slide; None where it holds the label, the macro or the thumbnail picture.

    Raises:
        InputRejected: what ``read_header`` refuses, and ``no-image-type``, ``no-geometry``,
            ``bad-number``, ``bit-depth``, ``photometric-unknown``, ``too-many-pixels``, ``truncated``,
            ``unsupported-transfer-syntax``, ``no-pixels``.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        header = read_header(data)
        if not is_volume(header):
            return None
        file = FileBytes(path)
        try:
            return _part(header, file)
        except InputRejected:
            file.close()
            raise


def _part(header: DicomHeader, file: FileBytes) -> Part:
    coding = _coding(header)
    tile_width, tile_height = header.uint16(0x00280011) or 0, header.uint16(0x00280010) or 0
    width, height = _uint32(header, 0x00480006), _uint32(header, 0x00480007)
    if min(width, height, tile_width, tile_height) < 1:
        raise InputRejected("no-geometry", "the size of the tiles or of their matrix is missing", RESEND)
    if tile_width * tile_height > LARGEST_PIECE:
        raise too_large(tile_width, tile_height, "a tile")
    count = _whole(header, 0x00280008, 1)
    frames = frames_of(header, file, count, tile_width * tile_height * coding.samples)
    uid = header.code(0x00209161)
    return Part(
        instance_uid=header.code(0x00080018) or "",
        pyramid_uid=header.code(0x00080019),
        concatenation_uid=uid,
        width=width,
        height=height,
        tile_width=tile_width,
        tile_height=tile_height,
        first_frame=_uint32(header, 0x00209228) if uid else 0,
        planes=max(1, _uint32(header, 0x00480302)) * max(1, _uint32(header, 0x00480303)),
        positions=_positions(header, count, tile_width, tile_height),
        resolution=_resolution(header, width, height),
        coding=coding,
        frames=frames,
        properties={name: text for name, tag in _PROPERTIES.items() if (text := header.words(tag))},
    )


def _coding(header: DicomHeader) -> Coding:
    codec = _CODECS.get(header.transfer_syntax)
    if codec is None:
        raise InputRejected(
            "unsupported-transfer-syntax",
            f"transfer syntax {header.transfer_syntax} of a slide is read by no decoder",
            "have the archive send it as JPEG, JPEG 2000 or uncompressed",
        )
    bits = header.uint16(0x00280100)
    if bits != 8 or header.uint16(0x00280103):
        raise InputRejected(
            "bit-depth",
            f"the values have {bits} bits; expected 8 bits without sign",
            "export the slide with 8 bits a channel",
        )
    samples, meaning = header.uint16(0x00280002) or 1, header.code(0x00280004) or ""
    is_grey = samples == 1 and meaning in {"MONOCHROME1", "MONOCHROME2"}
    is_colour = samples == 3 and meaning in _INTO_RGB.get(codec, {"RGB"})
    if not (is_grey or is_colour):
        raise InputRejected(
            "photometric-unknown",
            f"{samples} values a pixel with photometric interpretation {meaning!r}; expected RGB or grey",
            "export the slide as RGB",
        )
    planar = samples == 3 and header.uint16(0x00280006) == 1 and codec == "raw"
    colours = _COLOURS.get(meaning) if samples == 3 else "gray"
    return Coding(codec, samples, planar=planar, colours=colours, inverted=meaning == "MONOCHROME1")


def _resolution(header: DicomHeader, width: int, height: int) -> Resolution | None:
    """Pixel Spacing of the shared Pixel Measures (row, then column, mm), or the imaged volume's size."""
    for shared in sequence_items(header, _SHARED):
        for measures in sequence_items(shared, _PIXEL_MEASURES):
            spacing = measures.decimals(_PIXEL_SPACING)
            if spacing and len(spacing) == 2:
                return believable(spacing[1] * 1000, spacing[0] * 1000)
    wide, high = _float32(header, 0x00480001), _float32(header, 0x00480002)
    return believable(wide * 1000 / width, high * 1000 / height)


def _positions(
    header: DicomHeader, count: int, width: int, height: int
) -> tuple[tuple[int, int], ...] | None:
    """Column and row of each frame by its Plane Position (Slide); None where frames are in order."""
    if header.code(0x00209311) == "TILED_FULL" or _PER_FRAME not in header.elements:
        return None
    found = []
    for frame in sequence_items(header, _PER_FRAME):
        for place in sequence_items(frame, _PLANE_POSITION):
            column, row = _int32(place, 0x0048021E) - 1, _int32(place, 0x0048021F) - 1
            if column % width or row % height or min(column, row) < 0:
                raise InputRejected(
                    "bad-geometry",
                    f"a frame at column {column + 1}, row {row + 1} is off the grid of {width} x {height}",
                    "export the slide with tiles on a grid",
                )
            found.append((column // width, row // height))
    if len(found) != count:
        raise InputRejected(
            "bad-geometry", f"{count} frames have {len(found)} positions", "correct it at the source"
        )
    return tuple(found)


def _whole(header: DicomHeader, tag: int, default: int) -> int:
    found = header.decimals(tag)
    value = int(found[0]) if found else default
    if not 0 < value <= _MOST_FRAMES:
        raise InputRejected("bad-number", f"{value} frames are impossible", RESEND)
    return value


def _uint32(header: DicomHeader, tag: int) -> int:
    return _unpacked(header, tag, "I") or 0


def _int32(header: DicomHeader, tag: int) -> int:
    return _unpacked(header, tag, "i") or 0


def _unpacked(header: DicomHeader, tag: int, code: str) -> int | None:
    value = header.raw(tag)
    if value is None or len(value) < 4:
        return None
    return int(struct.unpack_from(("<" if header.little else ">") + code, value)[0])


def _float32(header: DicomHeader, tag: int) -> float:
    value = header.raw(tag)
    if value is None or len(value) < 4:
        return float("nan")
    return float(struct.unpack_from("<f" if header.little else ">f", value)[0])
