"""Decoded pixels against GDCM, another decoder."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.errors import InvalidDicomError
from pydicom.pixels import pixel_array

from clinimm.core.errors import InputRejected
from clinimm.modalities.dicom_header import read_header
from clinimm.modalities.radiology.codestream import JPEG_BASELINE
from clinimm.modalities.radiology.decode import decode_frame

_LOSSY = 2  # grey levels by which two conforming JPEG decoders may differ


def test_every_compressed_sample_equals_gdcm(test_data: Path) -> None:
    pytest.importorskip("gdcm", reason="pip install python-gdcm: the decoder to compare with")
    compared: dict[str, int] = {}
    for path in sorted((test_data / "samples" / "dicom").rglob("*")):
        if not path.is_file() or path.suffix in {".csv", ".json", ".txt"}:
            continue
        try:
            header = read_header(path.read_bytes())
            ours = decode_frame(header, 0)
            expected = pixel_array(pydicom.dcmread(path), index=0, decoding_plugin="gdcm")
        except (InputRejected, InvalidDicomError, ValueError, RuntimeError, AttributeError):
            continue  # refused here, or not a transfer syntax of GDCM's
        compared[header.transfer_syntax] = compared.get(header.transfer_syntax, 0) + 1
        lossy = header.transfer_syntax == JPEG_BASELINE
        assert np.abs(ours.astype(int) - expected.astype(int)).max() <= (_LOSSY if lossy else 0), path.name
    assert len(compared) >= 5, compared


def test_the_films_of_an_export_equal_gdcm(test_data: Path) -> None:
    pytest.importorskip("gdcm", reason="pip install python-gdcm: the decoder to compare with")
    for folder in ("covid_cxr", "ham10000"):
        for path in sorted((test_data / folder / "dicom").rglob("*.dcm"))[:10]:
            expected = pixel_array(pydicom.dcmread(path), decoding_plugin="gdcm")
            ours = decode_frame(read_header(path.read_bytes()), 0)
            assert np.abs(ours.astype(int) - expected.astype(int)).max() <= 3, path.name


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"])
def test_native_frames_come_back(make_dicom: Callable[..., bytes], syntax: str) -> None:
    frames = np.random.default_rng(0).integers(-2000, 2000, (5, 7, 9)).astype(np.int16)
    data = make_dicom(frames[0], syntax=syntax, NumberOfFrames=5, PixelData=frames.tobytes())
    header = read_header(data)
    for index in range(5):
        assert np.array_equal(decode_frame(header, index), frames[index])


def test_an_unknown_transfer_syntax_is_refused_by_name(make_dicom: Callable[..., bytes]) -> None:
    data = make_dicom().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0")
    with pytest.raises(InputRejected, match=r"unsupported-transfer-syntax.*1\.2\.9"):
        decode_frame(read_header(data), 0)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_damaged_codestream_is_decoded_or_refused(
    make_jpeg_dicom: Callable[..., bytes], data: st.DataObject
) -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (24, 24), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    damaged = bytearray(stream.getvalue())
    for _ in range(data.draw(st.integers(1, 5))):
        damaged[data.draw(st.integers(2, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    header = read_header(make_jpeg_dicom(pixels, stream=bytes(damaged)))
    try:
        decode_frame(header, 0)
    except InputRejected as refusal:
        assert refusal.code == "cannot-decode"


class PanicException(BaseException):
    """As pyo3 raises it, and no Exception: see pyo3_runtime."""


@pytest.mark.parametrize(
    ("raised", "expected"),
    [(RuntimeError("bad marker"), InputRejected), (PanicException("index out of bounds"), InputRejected),
     (KeyboardInterrupt(), KeyboardInterrupt)],
)  # fmt: skip
def test_whatever_a_decoder_raises_on_a_bad_frame_is_a_refusal_and_nothing_else_is(
    make_dicom: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
    raised: BaseException,
    expected: type[BaseException],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(pydicom.pixels, "pixel_array", fail)
    with pytest.raises(expected) as found:
        decode_frame(read_header(make_dicom()), 0)
    assert getattr(found.value, "code", "cannot-decode") == "cannot-decode"
