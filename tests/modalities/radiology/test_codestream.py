"""Codestream headers against the files that other libraries write."""

from __future__ import annotations

import io
from collections.abc import Callable

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clinimm.core.errors import InputRejected
from clinimm.modalities.dicom_header import read_header
from clinimm.modalities.radiology.codestream import (
    FrameHeader,
    _jpeg,
    _jpeg_2000,
    check_encapsulated,
    fragments,
)
from clinimm.modalities.radiology.geometry import read_geometry

_PIXELS = np.random.default_rng(0).integers(0, 255, (40, 56), dtype=np.uint8)


def _check(data: bytes) -> int:
    header = read_header(data)
    return check_encapsulated(header, read_geometry(header))


def test_headers_of_codestreams() -> None:
    buffer = io.BytesIO()
    Image.fromarray(_PIXELS).save(buffer, "JPEG")
    assert _jpeg(buffer.getvalue()) == FrameHeader(40, 56, 8, 1)
    assert _jpeg(imagecodecs.jpegls_encode(_PIXELS)) == FrameHeader(40, 56, 8, 1)
    lossless = imagecodecs.ljpeg_encode(_PIXELS.astype(np.uint16) * 4, bitspersample=12)
    assert _jpeg(lossless) == FrameHeader(40, 56, 12, 1)
    for codec in ("j2k", "jp2"):
        stream = imagecodecs.jpeg2k_encode(np.stack([_PIXELS] * 3, -1), codecformat=codec)
        assert _jpeg_2000(stream) == FrameHeader(40, 56, 8, 3)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_break_a_header(data: bytes) -> None:
    _jpeg(b"\xff\xd8" + data)
    _jpeg_2000(b"\xff\x4f\xff\x51" + data)


def test_a_codestream_of_another_size_is_refused(make_jpeg_dicom: Callable[..., bytes]) -> None:
    assert _check(make_jpeg_dicom(_PIXELS)) > 100
    with pytest.raises(InputRejected, match="geometry-mismatch"):
        _check(make_jpeg_dicom(_PIXELS, claimed=(10, 10)))


def test_bytes_that_are_no_jpeg_are_refused(make_jpeg_dicom: Callable[..., bytes]) -> None:
    with pytest.raises(InputRejected, match="corrupt-pixels"):
        _check(make_jpeg_dicom(_PIXELS, stream=b"GIF89a" + bytes(64)))


def test_pixel_data_without_a_fragment_are_truncated(make_jpeg_dicom: Callable[..., bytes]) -> None:
    data = make_jpeg_dicom(_PIXELS)
    start, stop = next(fragments(read_header(data)))
    assert data[start : start + 2] == b"\xff\xd8"
    cut = data[: start - 8] + data[stop + stop % 2 :]
    with pytest.raises(InputRejected, match="truncated"):
        _check(cut)
    with pytest.raises(InputRejected, match="truncated"):
        _check(data[: stop - 5])
