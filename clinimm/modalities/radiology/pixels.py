"""From DICOM bytes to what a radiologist would see: white is dense, 0 to 1, RGB where it has colour.

The steps follow PS3.4 annex N: stored values, modality LUT, VOI LUT or window, presentation. Where
a file names no usable window, 1st and 99th percentile stand in for it, so that a bright marker or
a black collimator border does not decide how the lung looks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clinimm.core.errors import InputRejected
from clinimm.modalities.dicom_header import Buffer, DicomHeader, read_header, sequence_items
from clinimm.modalities.radiology.checks import check_pixels
from clinimm.modalities.radiology.decode import decode_frame
from clinimm.modalities.radiology.geometry import (
    RESCALE_INTERCEPT,
    RESCALE_SLOPE,
    Geometry,
    read_geometry,
)

_PERCENTILES = (1.0, 99.0)
_SAMPLED_PIXELS = 1 << 18
_MODALITY_LUT, _VOI_LUT, _LUT_DESCRIPTOR, _LUT_DATA = 0x00283000, 0x00283010, 0x00283002, 0x00283006
_WINDOW_CENTER, _WINDOW_WIDTH, _VOI_FUNCTION = 0x00281050, 0x00281051, 0x00281056
_PADDING, _PADDING_LIMIT = 0x00280120, 0x00280121
_PALETTE_DESCRIPTOR, _PALETTE_DATA = 0x00281101, 0x00281201


@dataclass(frozen=True)
class Image:
    """Pixels ready to look at.

    Attributes:
        values: (frame, row, column, channel) float32 in 0 to 1; one channel, or three for RGB.
        spacing_mm: distance between rows and between columns, or None where not stated.
        photometric: Photometric Interpretation of the file; the values no longer depend on it.
        frames: which frames of the file these are, from 0.
        total_frames: how many the file has.
        flags: what had to be assumed: ``slope_zero``, ``window_zero``, ``window_useless``.
    """

    values: np.ndarray
    spacing_mm: tuple[float, float] | None
    photometric: str
    frames: tuple[int, ...]
    total_frames: int
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Window:
    center: float
    width: float
    function: str


def load_pixels(data: Buffer, frames: int = 1) -> Image:
    """Decode a DICOM image.

    Args:
        data: the file's bytes.
        frames: at most how many frames of a multi-frame object; the middle one, or evenly spread.

    Raises:
        InputRejected: the header is impossible or the pixels cannot be decoded; see ``read_header``,
            ``read_geometry``, ``check_pixels`` and ``decode_frame`` for the codes.
    """
    header = read_header(data)
    geometry = read_geometry(header)
    check_pixels(header, geometry)
    chosen = pick_frames(geometry.frames, frames)
    flags: list[str] = []
    values = [_displayed(header, geometry, index, flags) for index in chosen]
    return Image(
        values=np.stack(values),
        spacing_mm=geometry.spacing_mm,
        photometric=geometry.photometric,
        frames=chosen,
        total_frames=geometry.frames,
        flags=tuple(sorted(set(flags))),
    )


def load_frame(data: Buffer, index: int) -> Image:
    """One frame of a DICOM image, as ``load_pixels`` shows it.

    Args:
        data: the file's bytes.
        index: which frame, from 0.

    Raises:
        InputRejected: as ``load_pixels``.
        IndexError: the file has no such frame.
    """
    header = read_header(data)
    geometry = read_geometry(header)
    check_pixels(header, geometry)
    if not 0 <= index < geometry.frames:
        raise IndexError(f"frame {index}: the object has {geometry.frames}")
    flags: list[str] = []
    values = _displayed(header, geometry, index, flags)[np.newaxis]
    return Image(
        values,
        geometry.spacing_mm,
        geometry.photometric,
        (index,),
        geometry.frames,
        tuple(sorted(set(flags))),
    )


def pick_frames(total: int, wanted: int) -> tuple[int, ...]:
    """Evenly spread frame numbers, each in the middle of its share.

    >>> pick_frames(9, 1), pick_frames(9, 3), pick_frames(2, 5)
    ((4,), (1, 4, 7), (0, 1))
    """
    count = max(1, min(wanted, total))
    return tuple((2 * share + 1) * total // (2 * count) for share in range(count))


def _displayed(header: DicomHeader, geometry: Geometry, index: int, flags: list[str]) -> np.ndarray:
    stored = decode_frame(header, index)
    if geometry.photometric == "PALETTE COLOR":
        return _palette(header, stored)
    if stored.ndim == 3:
        return stored.astype(np.float32) / np.float32((1 << geometry.bits_stored) - 1)
    values, real = _modality_values(header, geometry, stored, flags)
    shown = _voi(header, geometry, values, real, flags)
    shown = np.where(real, shown, np.float32(0)) if real is not None else shown
    if geometry.photometric == "MONOCHROME1":
        shown = 1 - shown if real is None else np.where(real, 1 - shown, np.float32(0))
    return shown[..., np.newaxis]


def _modality_values(
    header: DicomHeader, geometry: Geometry, stored: np.ndarray, flags: list[str]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Values after the modality LUT, and where a pixel is more than padding (None: everywhere)."""
    real = _real_pixels(header, geometry, stored)
    for lut in sequence_items(header, _MODALITY_LUT):
        return _look_up(lut, stored, geometry.signed).astype(np.float32), real
    slope = (header.decimals(RESCALE_SLOPE) or (1.0,))[0]
    intercept = (header.decimals(RESCALE_INTERCEPT) or (0.0,))[0]
    if slope == 0:
        flags.append("slope_zero")
        slope = 1.0
    values = stored.astype(np.float32)
    if (slope, intercept) != (1.0, 0.0):
        values *= np.float32(slope)
        values += np.float32(intercept)
    return values, real


def _real_pixels(header: DicomHeader, geometry: Geometry, stored: np.ndarray) -> np.ndarray | None:
    padding = _stored_number(header, geometry, _PADDING)
    if padding is None:
        return None
    limit = _stored_number(header, geometry, _PADDING_LIMIT)
    low, high = sorted((padding, padding if limit is None else limit))
    real = (stored < low) | (stored > high)
    return real if real.any() and not real.all() else None


def _stored_number(header: DicomHeader, geometry: Geometry, tag: int) -> int | None:
    value = header.uint16(tag)
    if value is None:
        return None
    return value - (1 << 16) if geometry.signed and value >= 1 << 15 else value


def _voi(
    header: DicomHeader, geometry: Geometry, values: np.ndarray, real: np.ndarray | None, flags: list[str]
) -> np.ndarray:
    for lut in sequence_items(header, _VOI_LUT):
        shown = _look_up(lut, values.astype(np.int64), geometry.signed)
        return (shown / max(1, _lut_top(lut))).astype(np.float32)
    window = _window(header, flags)
    if window is not None:
        shown = apply_window(values, window.center, window.width, window.function)
        if shown.min() < shown.max() or values.min() == values.max():
            return shown
        flags.append("window_useless")
    if geometry.bits_stored <= 8 and not _rescaled(header):
        return _between(values, *_stored_range(geometry))
    return _between(values, *_robust_range(values if real is None else values[real]))


def apply_window(values: np.ndarray, center: float, width: float, function: str = "LINEAR") -> np.ndarray:
    """A VOI window onto 0 to 1 (PS3.3 C.11.2.1.2 and C.11.2.1.3); ``width`` is above zero."""
    if function == "SIGMOID":
        exponent = np.clip(-4 * (values - np.float32(center)) / np.float32(width), -80, 80)
        return (1 / (1 + np.exp(exponent))).astype(np.float32)
    if function == "LINEAR" and width > 1:
        center, width = center - 0.5, width - 1
    return _between(values, center - width / 2, center + width / 2)


def _window(header: DicomHeader, flags: list[str]) -> _Window | None:
    try:
        center, width = header.decimals(_WINDOW_CENTER), header.decimals(_WINDOW_WIDTH)
    except InputRejected:
        flags.append("window_zero")
        return None
    if not center or not width:
        return None
    function = header.code(_VOI_FUNCTION) or "LINEAR"
    if not width[0] > 0 or not np.isfinite(center[0] + width[0]):
        flags.append("window_zero")
        return None
    return _Window(center[0], width[0], function)


def _rescaled(header: DicomHeader) -> bool:
    if header.elements.get(_MODALITY_LUT):
        return True
    return (header.decimals(RESCALE_SLOPE) or (1.0,))[0] not in (0, 1) or bool(
        (header.decimals(RESCALE_INTERCEPT) or (0.0,))[0]
    )


def _stored_range(geometry: Geometry) -> tuple[float, float]:
    span = 1 << geometry.bits_stored
    return (-span / 2, span / 2 - 1) if geometry.signed else (0.0, span - 1.0)


def _robust_range(values: np.ndarray) -> tuple[float, float]:
    flat = values.reshape(-1)
    sample = flat[:: max(1, flat.size // _SAMPLED_PIXELS) | 1]
    low, high = (float(value) for value in np.percentile(sample, _PERCENTILES))
    return (low, high) if low < high else (float(values.min()), float(values.max()))


def _between(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """``values`` with low at 0 and high at 1; a step at ``low`` where they are the same."""
    if high <= low:
        return (values > low).astype(np.float32)
    scaled = (values - np.float32(low)).astype(np.float32, copy=False)
    scaled /= np.float32(high - low)
    return np.clip(scaled, 0, 1, out=scaled)


def _palette(header: DicomHeader, stored: np.ndarray) -> np.ndarray:
    """RGB of palette indices (PS3.3 C.7.9)."""
    channels = []
    for channel in range(3):
        table, first, bits = _table(header, _PALETTE_DESCRIPTOR + channel, _PALETTE_DATA + channel, False)
        index = np.clip(stored.astype(np.int64) - first, 0, len(table) - 1)
        channels.append(table[index] / ((1 << bits) - 1))
    return np.clip(np.stack(channels, axis=-1), 0, 1).astype(np.float32)


def _look_up(lut: DicomHeader, values: np.ndarray, signed: bool) -> np.ndarray:
    table, first, _ = _table(lut, _LUT_DESCRIPTOR, _LUT_DATA, signed)
    return table[np.clip(values.astype(np.int64) - first, 0, len(table) - 1)]


def _lut_top(lut: DicomHeader) -> int:
    _, _, bits = _table(lut, _LUT_DESCRIPTOR, _LUT_DATA, False)
    return (1 << bits) - 1


def _table(header: DicomHeader, descriptor: int, data: int, signed: bool) -> tuple[np.ndarray, int, int]:
    """Entries, first mapped value and bits of a look-up table (PS3.3 C.11.1.1)."""
    order = "<" if header.little else ">"
    described, entries = header.raw(descriptor), header.raw(data)
    if described is None or len(described) < 6 or entries is None:
        raise InputRejected(
            "bad-lut", "a look-up table has no descriptor or no data", "correct it at the source"
        )
    count, first, bits = (int(value) for value in np.frombuffer(described[:6], f"{order}u2"))
    count = count or 1 << 16
    if signed and first >= 1 << 15:
        first -= 1 << 16
    wide = len(entries) >= 2 * count
    table = np.frombuffer(entries, f"{order}u2" if wide else "u1")[:count].astype(np.int64)
    if len(table) < count or not 1 <= bits <= 16:
        raise InputRejected(
            "bad-lut", f"a look-up table of {count} entries has {len(table)}", "correct it at the source"
        )
    return table, first, bits
