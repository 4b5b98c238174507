"""The header walk against pydicom, and against what pydicom forgives."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinimm.core.errors import InputRejected
from clinimm.modalities.dicom_header import (
    DEFLATED,
    DicomHeader,
    looks_like_dicom,
    media_storage,
    read_header,
    sequence_items,
)

MakeDicom = Callable[..., bytes]
_PATIENT_ID = b"\x10\x00\x20\x00LO"


def _code(data: bytes) -> str:
    with pytest.raises(InputRejected) as caught:
        read_header(data)
    return caught.value.code


def _sequence_of_depth(depth: int) -> bytes:
    """Sequences of undefined length within one another, ended correctly."""
    inner = b""
    for _ in range(depth):
        item = (
            struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + inner + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
        )
        inner = (
            struct.pack("<HH2sHI", 0x0040, 0x0275, b"SQ", 0, 0xFFFFFFFF)
            + item
            + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
        )
    return inner


def _before_pixels(data: bytes, extra: bytes) -> bytes:
    position = data.index(b"\xe0\x7f\x10\x00")
    return data[:position] + extra + data[position:]


def test_every_sample_has_the_elements_that_pydicom_finds(test_data: Path) -> None:
    compared = 0
    for path in sorted((test_data / "samples" / "dicom").rglob("*.dcm")):
        try:
            header = read_header(path.read_bytes())
        except InputRejected:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = pydicom.dcmread(path, force=True)
        if len(expected) < 5:  # pydicom gave up on the padding or a missing delimiter
            continue
        tags = {int(tag) for tag in expected.keys() if tag <= 0x7FE00010}  # noqa: SIM118  # no conversion
        assert {tag for tag in header.elements if tag <= 0x7FE00010} == tags, path.name
        for tag in (0x00080018, 0x00080020, 0x00080060):
            if tag in tags:
                assert (header.code(tag) or "") == str(expected[tag].value or "").strip(), path.name
        compared += 1
    assert compared > 150


def test_text_follows_the_character_set(make_dicom: MakeDicom) -> None:
    for charset, name in (
        ("ISO_IR 100", "Müller^Ánná"),
        ("ISO_IR 192", "山田^太郎"),
        ("ISO_IR 144", "Иванов"),
    ):
        data = make_dicom(SpecificCharacterSet=charset, PatientName=name)
        header = read_header(data)
        assert header.words(0x00100010) == name
        assert header.charset_known


def test_code_extensions_are_decoded_as_pydicom_does(make_dicom: MakeDicom) -> None:
    name = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    data = make_dicom(SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName=name)
    assert read_header(data).words(0x00100010) == name


def test_an_unknown_character_set_is_told(make_dicom: MakeDicom) -> None:
    data = make_dicom(SpecificCharacterSet="ISO_IR 100").replace(b"ISO_IR 100", b"ISO_IR 999")
    assert not read_header(data).charset_known


def test_an_empty_file_and_a_text_are_no_dicom() -> None:
    assert _code(b"") == "empty-file"
    assert _code(b"hello, I am a text and no image at all") == "not-dicom"


def test_a_program_in_the_preamble_is_refused(make_dicom: MakeDicom) -> None:
    for magic in (b"MZ", b"\x7fELF"):
        assert _code(magic + make_dicom()[len(magic) :]) == "executable-preamble"


def test_a_repeated_patient_id_is_refused(make_dicom: MakeDicom) -> None:
    data = make_dicom()
    position = data.index(_PATIENT_ID)
    element = data[position : position + 12]
    assert _code(data[:position] + element + data[position:]) == "duplicate-element"


def test_nesting_is_bounded(make_dicom: MakeDicom) -> None:
    assert _code(_before_pixels(make_dicom(), _sequence_of_depth(198))) == "nested-too-deep"
    read_header(_before_pixels(make_dicom(), _sequence_of_depth(20)))


def test_the_reserved_length_is_no_value(make_dicom: MakeDicom) -> None:
    extra = struct.pack("<HH2sHI", 0x0040, 0x0275, b"UT", 0, 0xFFFFFFFE)
    assert _code(_before_pixels(make_dicom(), extra)) == "truncated"


def test_a_deflated_file_reads_as_the_plain_one(make_dicom: MakeDicom) -> None:
    pixels = np.arange(48, dtype=np.uint16).reshape(6, 8)
    header = read_header(make_dicom(pixels, syntax=DEFLATED))
    assert header.code(0x00100020) == "MRN1"
    assert header.raw(0x7FE00010) == pixels.tobytes()


def test_a_deflate_bomb_is_not_inflated(make_dicom: MakeDicom) -> None:
    plain = make_dicom()
    start = read_header(plain).elements[0x00080016].start - 8
    meta = plain[:start]
    position = meta.index(b"1.2.840.10008.1.2.1\0")
    meta = meta[: position - 2] + struct.pack("<H", 22) + b"1.2.840.10008.1.2.1.99" + meta[position + 20 :]
    body = plain[start:-96] + bytes(80 << 20)
    machine = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    bomb = meta + machine.compress(body) + machine.flush()
    assert len(bomb) < 1 << 20
    assert _code(bomb) == "deflate-bomb"


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_cut_file_is_never_read_as_whole(make_dicom: MakeDicom, data: st.DataObject) -> None:
    whole = make_dicom()
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    try:
        header = read_header(cut)
    except InputRejected:
        return
    assert 0x7FE00010 not in header.elements


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damage_ends_in_a_value_or_a_refusal(make_dicom: MakeDicom, data: st.DataObject) -> None:
    damaged = bytearray(make_dicom())
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(132, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        header = read_header(bytes(damaged))
    except InputRejected as refusal:
        assert refusal.code and refusal.remedy
    else:
        assert all(0 <= e.start <= e.stop <= len(damaged) for e in header.elements.values())


def test_the_sniff_knows_dicom_without_a_preamble(make_dicom: MakeDicom) -> None:
    data = make_dicom()
    assert looks_like_dicom("scan", data[:512])
    assert looks_like_dicom("scan", data[132:512])
    assert looks_like_dicom("IM0001.DCM", b"")
    for other in (b"", b"\x08\x00", b'{"resourceType": "Patient"}', b"II*\x00\x08\x00\x00\x00", bytes(512)):
        assert not looks_like_dicom("scan", other)


def test_the_file_meta_tells_what_is_stored(make_dicom: MakeDicom) -> None:
    assert media_storage(make_dicom()[:512]) == ("1.2.840.10008.5.1.4.1.1.1", "1.2.3.4")
    assert media_storage(b"") == (None, None)


def test_items_of_a_sequence_are_headers(make_dicom: MakeDicom) -> None:
    from pydicom.dataset import Dataset

    items = []
    for name in ("a", "b"):
        item = Dataset()
        item.LUTExplanation = name
        items.append(item)
    header: DicomHeader = read_header(make_dicom(VOILUTSequence=items))
    assert [item.words(0x00283003) for item in sequence_items(header, 0x00283010)] == ["a", "b"]
