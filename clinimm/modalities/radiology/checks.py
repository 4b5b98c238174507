"""What can be told about an image's pixels while scanning, at next to no cost.

Always: arithmetic on the header and the length of the pixel data. For native pixels: a strided
sample. Compressed pixels are decoded only where so few bits are spent on a pixel that the image
can hardly show anything; a radiograph spends far more, so an archive is not decoded twice.
"""

from __future__ import annotations

import numpy as np

from clinimm.core.errors import InputRejected
from clinimm.modalities.dicom_header import NATIVE, DicomHeader
from clinimm.modalities.radiology.codestream import JPEG_LOSSLESS, SUPPORTED, check_encapsulated
from clinimm.modalities.radiology.geometry import RESCALE_SLOPE, Geometry

_SAMPLED_VALUES = 1 << 14
_SATURATED_SHARE = 0.9
#: A constant image costs 6 bits a block of 64 in JPEG, 1/8 bit a byte in RLE, 1 bit a pixel in
#: lossless JPEG (no Huffman code is shorter); headers are not counted.
_SUSPECT_BITS = 0.35
_SUSPECT_BITS_LOSSLESS_JPEG = 1.2
_CODESTREAM_HEADER_BYTES = 700
_LARGEST_DECODED = 1 << 24


def check_pixels(header: DicomHeader, geometry: Geometry) -> list[str]:
    """Flags ``constant_image``, ``saturated``; refuses pixel data that cannot be whole.

    Raises:
        InputRejected: ``truncated``, ``unsupported-transfer-syntax`` or what
            ``check_encapsulated`` and ``decode_frame`` raise.
    """
    element = header.pixels
    if header.transfer_syntax not in SUPPORTED or (
        element is not None and element.undefined == (header.transfer_syntax in NATIVE)
    ):
        raise InputRejected(
            "unsupported-transfer-syntax",
            f"pixel data in transfer syntax {header.transfer_syntax} are not read",
            "have the archive send it uncompressed or as JPEG 2000",
        )
    values = _native(header, geometry) if header.transfer_syntax in NATIVE else _suspect(header, geometry)
    flags = [] if values is None else _value_flags(values, geometry)
    if _slope_is_zero(header) and "constant_image" not in flags:
        flags += ["slope_zero", "constant_image"]
    return flags


def _native(header: DicomHeader, geometry: Geometry) -> np.ndarray | None:
    element = header.pixels
    found = element.stop - element.start if element else 0
    if element is None or found < geometry.native_bytes:
        raise InputRejected(
            "truncated",
            f"{geometry.native_bytes} bytes of pixel data are declared and {found} are there",
            "ask the sender to transmit the object again",
        )
    if geometry.bits_allocated not in (8, 16, 32):
        return None
    kind = np.dtype(f"{'<' if header.little else '>'}u{geometry.bits_allocated // 8}")
    count = geometry.native_bytes // kind.itemsize
    values = np.frombuffer(header.data, kind, count=count, offset=element.start)
    sample = values[:: max(1, count // _SAMPLED_VALUES) | 1]
    return values if _is_constant(sample) else sample


def _suspect(header: DicomHeader, geometry: Geometry) -> np.ndarray | None:
    """The first frame of a compressed image that spends too few bits to show anything."""
    size = check_encapsulated(header, geometry)
    values = geometry.rows * geometry.columns * geometry.samples * geometry.frames
    bits = 8 * max(0, size - _CODESTREAM_HEADER_BYTES * geometry.frames) / values
    limit = _SUSPECT_BITS_LOSSLESS_JPEG if header.transfer_syntax in JPEG_LOSSLESS else _SUSPECT_BITS
    if bits > limit or values // geometry.frames > _LARGEST_DECODED:
        return None
    from clinimm.modalities.radiology.decode import decode_frame

    return decode_frame(header, geometry.frames // 2)


def _value_flags(values: np.ndarray, geometry: Geometry) -> list[str]:
    flags = ["constant_image"] if _is_constant(values) else []
    top = (1 << (geometry.bits_stored - int(geometry.signed))) - 1
    stored = values.view(np.dtype(f"{values.dtype.byteorder}u{values.dtype.itemsize}"))
    mask = stored.dtype.type((1 << geometry.bits_stored) - 1)
    if np.mean((stored & mask) == top) >= _SATURATED_SHARE:
        flags.append("saturated")
    return flags


def _is_constant(values: np.ndarray) -> bool:
    return values.size > 0 and bool((values == values.flat[0]).all())


def _slope_is_zero(header: DicomHeader) -> bool:
    slope = header.decimals(RESCALE_SLOPE)
    return slope is not None and slope[0] == 0
