"""Which compressed images are looked into while scanning, and what is found."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from clinimm.core.errors import InputRejected
from clinimm.modalities.dicom_header import read_header
from clinimm.modalities.radiology.checks import check_pixels
from clinimm.modalities.radiology.geometry import read_geometry


def _flags(data: bytes) -> list[str]:
    header = read_header(data)
    return check_pixels(header, read_geometry(header))


def test_a_blank_jpeg_is_decoded_and_flagged(make_jpeg_dicom: Callable[..., bytes]) -> None:
    assert _flags(make_jpeg_dicom(np.full((256, 256), 90, np.uint8))) == ["constant_image"]
    assert _flags(make_jpeg_dicom(np.full((256, 256), 255, np.uint8))) == ["constant_image", "saturated"]


def test_a_busy_jpeg_is_not_decoded(
    make_jpeg_dicom: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (256, 256), dtype=np.uint8)
    monkeypatch.setattr(
        "clinimm.modalities.radiology.decode.decode_frame", lambda *_: pytest.fail("it was decoded")
    )
    assert _flags(make_jpeg_dicom(noise)) == []


def test_a_blank_lossless_image_is_flagged(make_dicom: Callable[..., bytes]) -> None:
    import io

    from pydicom import dcmread, dcmwrite
    from pydicom.uid import RLELossless

    dataset = dcmread(io.BytesIO(make_dicom(np.full((128, 128), 1000, np.uint16))))
    dataset.compress(RLELossless)
    stream = io.BytesIO()
    dcmwrite(stream, dataset)
    assert _flags(stream.getvalue()) == ["constant_image"]


def test_native_pixels_in_a_compressed_syntax_are_refused(make_dicom: Callable[..., bytes]) -> None:
    data = make_dicom()
    swapped = data.replace(b"UI\x14\x001.2.840.10008.1.2.1\0", b"UI\x14\x001.2.840.10008.1.2.5\0")
    assert swapped != data
    with pytest.raises(InputRejected, match="unsupported-transfer-syntax"):
        _flags(swapped)


def test_too_few_native_bytes_are_truncated(make_dicom: Callable[..., bytes]) -> None:
    with pytest.raises(InputRejected, match="truncated"):
        _flags(make_dicom(NumberOfFrames=50))
