"""Stored pixel values of one frame, by pydicom's decoders, from a header that was checked first."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from clinimm.core.errors import PARSER_ERRORS, InputRejected
from clinimm.modalities.dicom_header import NATIVE, PIXEL_DATA, DicomHeader
from clinimm.modalities.radiology.codestream import JPEG_BASELINE, SUPPORTED
from clinimm.modalities.radiology.geometry import read_geometry

#: Elements that a decoder needs: the image pixel module, offset tables and the pixel data.
_WANTED = (
    *(0x00280000 | element for element in (2, 4, 6, 8, 0x10, 0x11, 0x100, 0x101, 0x102, 0x103)),
    0x7FE00001,
    0x7FE00002,
    PIXEL_DATA,
)
_NUMBER_OF_FRAMES = 0x00280008
_VR = {4: "CS", 8: "IS"}


def decode_frame(header: DicomHeader, index: int) -> np.ndarray:
    """Frame ``index`` as (row, column) or (row, column, 3); YBR becomes RGB, a palette stays indices.

    Raises:
        InputRejected: ``unsupported-transfer-syntax`` or ``cannot-decode``.
    """
    if header.transfer_syntax not in SUPPORTED:
        raise InputRejected(
            "unsupported-transfer-syntax",
            f"transfer syntax {header.transfer_syntax} is not read",
            "have the archive send it uncompressed or as JPEG 2000",
        )
    from pydicom.pixels import pixel_array

    dataset, position = _data_set(header, index)
    try:
        return pixel_array(dataset, index=position, decoding_plugin=_plugin(header.transfer_syntax))
    except PARSER_ERRORS as error:
        raise _cannot_decode(error) from error
    except BaseException as error:
        # What pyo3 raises where a decoder in Rust panics is no Exception, and can only be told by name.
        if type(error).__name__ != "PanicException":
            raise
        raise _cannot_decode(error) from error


def _cannot_decode(error: BaseException) -> InputRejected:
    return InputRejected(
        "cannot-decode",
        f"the pixel data are damaged: {type(error).__name__}",
        "ask the sender to transmit the object again",
    )


def _data_set(header: DicomHeader, index: int) -> tuple[Any, int]:
    """What pydicom decodes, and which of its frames is wanted: one alone where it can be cut out."""
    from pydicom.dataelem import RawDataElement
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.tag import Tag
    from pydicom.uid import UID

    spans = {tag: header.elements[tag] for tag in _WANTED if tag in header.elements}
    frame_bits = read_geometry(header).frame_bits
    position = index
    if header.transfer_syntax in NATIVE and frame_bits % 16 == 0:
        start = spans[PIXEL_DATA].start + index * frame_bits // 8
        spans[PIXEL_DATA] = spans[PIXEL_DATA]._replace(start=start, stop=start + frame_bits // 8)
        spans.pop(_NUMBER_OF_FRAMES, None)
        position = 0
    dataset = Dataset()
    for tag, element in spans.items():
        value = bytes(header.data[element.start : element.stop])
        vr = _value_representation(header, tag, element.vr)
        raw = RawDataElement(
            Tag(tag), vr, len(value), value, element.start, not header.explicit, header.little, True
        )
        dataset[Tag(tag)] = raw
    dataset["PixelData"].is_undefined_length = header.elements[PIXEL_DATA].undefined
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(header.transfer_syntax)
    dataset.set_original_encoding(not header.explicit, header.little)
    return dataset, position


def _value_representation(header: DicomHeader, tag: int, stated: bytes) -> str:
    if tag >> 16 == 0x0028:
        return _VR.get(tag & 0xFFFF, "US")
    if tag == PIXEL_DATA:
        wide = header.transfer_syntax in NATIVE and (header.uint16(0x00280100) or 8) > 8
        return "OW" if wide or not stated else stated.decode()
    return "OV"


@cache
def _plugin(transfer_syntax: str) -> str:
    """The decoder: always the same one where it is installed, so that pixels do not depend on luck.

    Pillow's libjpeg-turbo for baseline JPEG (the fastest by far), pylibjpeg for the rest; an
    empty name leaves the choice to pydicom.
    """
    if transfer_syntax in NATIVE:
        return ""
    from pydicom.pixels import get_decoder

    available = get_decoder(transfer_syntax).available_plugins
    wanted = "pillow" if transfer_syntax == JPEG_BASELINE else "pylibjpeg"
    return wanted if wanted in available else ""
