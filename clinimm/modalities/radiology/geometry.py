"""The image pixel module (PS3.3 C.7.6.3), checked by arithmetic before a byte is decoded."""

from __future__ import annotations

import math
from dataclasses import dataclass

from clinimm.core.errors import InputRejected
from clinimm.modalities.dicom_header import PIXEL_DATA, DicomHeader, sequence_items

ROWS, COLUMNS = 0x00280010, 0x00280011
RESCALE_INTERCEPT, RESCALE_SLOPE = 0x00281052, 0x00281053
_SPACINGS = (0x00280030, 0x00181164, 0x00182010)  # pixel, imager pixel, nominal scanned pixel spacing
_SHARED_GROUPS, _PIXEL_MEASURES = 0x52009229, 0x00289110
_COLOUR = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"})
PHOTOMETRIC = _COLOUR | {"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"}
MAX_FRAME_PIXELS = 1 << 28
MAX_FRAMES = 1 << 20
_RESEND = "ask the sender to transmit the object again"
_REPAIR = "correct the header at the source, or leave the object out"


@dataclass(frozen=True)
class Geometry:
    """Shape and encoding of the pixels; sizes in pixels, ``spacing_mm`` between rows and columns."""

    rows: int
    columns: int
    samples: int
    frames: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    photometric: str
    spacing_mm: tuple[float, float] | None
    flags: tuple[str, ...] = ()

    @property
    def frame_bits(self) -> int:
        """Bits of one decoded frame; native YBR_FULL_422 shares its colour between two pixels."""
        samples = 2 if self.photometric == "YBR_FULL_422" else self.samples
        return self.rows * self.columns * samples * self.bits_allocated

    @property
    def native_bytes(self) -> int:
        """Bytes of all frames, uncompressed."""
        return math.ceil(self.frame_bits * self.frames / 8)


def read_geometry(header: DicomHeader) -> Geometry:
    """The geometry, once every part of it is possible.

    Raises:
        InputRejected: ``no-pixels``, ``no-geometry``, ``bad-geometry``, ``too-large``,
            ``photometric-unknown``.
    """
    if PIXEL_DATA not in header.elements or header.raw(PIXEL_DATA) is None:
        raise InputRejected("no-pixels", "the object holds no pixel data", "export the image with its pixels")
    samples = header.uint16(0x00280002) or 1
    allocated = _required(header, 0x00280100, "Bits Allocated")
    spacing, flags = _spacing(header)
    geometry = Geometry(
        rows=_required(header, ROWS, "Rows"),
        columns=_required(header, COLUMNS, "Columns"),
        samples=samples,
        frames=_frames(header),
        bits_allocated=allocated,
        bits_stored=header.uint16(0x00280101) or allocated,
        signed=header.uint16(0x00280103) == 1,
        photometric=_photometric(header, samples),
        spacing_mm=spacing,
        flags=flags,
    )
    _check(geometry)
    return geometry


def _check(geometry: Geometry) -> None:
    if geometry.bits_allocated not in (1, 8, 16, 32) or geometry.bits_stored > geometry.bits_allocated:
        raise InputRejected(
            "bad-geometry",
            f"{geometry.bits_stored} bits stored in {geometry.bits_allocated} allocated are impossible",
            _REPAIR,
        )
    if (geometry.samples == 3) != (geometry.photometric in _COLOUR) or geometry.samples not in (1, 3):
        raise InputRejected(
            "bad-geometry",
            f"{geometry.samples} samples a pixel do not fit {geometry.photometric}",
            _REPAIR,
        )
    if geometry.rows * geometry.columns > MAX_FRAME_PIXELS or geometry.frames > MAX_FRAMES:
        raise InputRejected(
            "too-large",
            f"{geometry.frames} frames of {geometry.rows} x {geometry.columns} pixels exceed what is read "
            f"({MAX_FRAMES} frames of {MAX_FRAME_PIXELS} pixels)",
            _REPAIR,
        )


def _required(header: DicomHeader, tag: int, name: str) -> int:
    value = header.uint16(tag)
    if value is None:
        raise InputRejected("no-geometry", f"{name} is missing", _REPAIR)
    if value == 0:
        raise InputRejected("bad-geometry", f"{name} is zero", _REPAIR)
    return value


def _frames(header: DicomHeader) -> int:
    text = header.code(0x00280008)
    if text is None:
        return 1
    if not text.isdigit() or int(text) == 0:
        raise InputRejected("bad-geometry", "Number of Frames is not a positive number", _REPAIR)
    return int(text)


def _photometric(header: DicomHeader, samples: int) -> str:
    text = header.code(0x00280004)
    if text is None:
        raise InputRejected("no-geometry", "Photometric Interpretation is missing", _REPAIR)
    if text not in PHOTOMETRIC:
        raise InputRejected(
            "photometric-unknown",
            "Photometric Interpretation is no supported term, so black and white cannot be told apart",
            _REPAIR,
        )
    return text


def _spacing(header: DicomHeader) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    for tag in _SPACINGS:
        if header.code(tag):
            return _checked_spacing(header, tag)
    for shared in sequence_items(header, _SHARED_GROUPS):
        for measures in sequence_items(shared, _PIXEL_MEASURES):
            if measures.code(_SPACINGS[0]):
                return _checked_spacing(measures, _SPACINGS[0])
    return None, ()


def _checked_spacing(header: DicomHeader, tag: int) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    try:
        values = header.decimals(tag) or ()
    except InputRejected:
        return None, ("spacing_invalid",)
    if len(values) != 2 or not all(math.isfinite(value) and value >= 0 for value in values):
        return None, ("spacing_invalid",)
    if 0 in values:
        return None, ("spacing_zero",)
    return (values[0], values[1]), ()
