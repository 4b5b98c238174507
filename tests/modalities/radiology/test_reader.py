"""One image, one fact: what the header says, what is refused and what is flagged."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest

from clinimm.config import IngestConfig
from clinimm.core.errors import InputRejected
from clinimm.modalities.radiology.reader import accepts, read_image_fact, scan
from clinimm.modality import Fact
from clinimm.sources.local import LocalSource
from clinimm.sources.memory import MemorySource

MakeDicom = Callable[..., bytes]

#: File -> refusal codes or flags that satisfy the sentence in ``expected.csv``.
_REFUSED = {
    "empty.dcm": {"empty-file"},
    "trunc_in_header.dcm": {"truncated"},
    "bitflips_header.dcm": {"corrupt-header"},
    "huge_dims.dcm": {"too-large"},
    "zero_rows.dcm": {"bad-geometry"},
    "no_pixels.dcm": {"no-pixels"},
    "no_rows.dcm": {"no-geometry"},
    "photometric_unknown.dcm": {"photometric-unknown"},
    "bits_stored_gt_allocated.dcm": {"bad-geometry"},
    "frames_more_than_data.dcm": {"truncated"},
}
_FLAGGED = {
    "slope_zero.dcm": "constant_image",
    "window_zero.dcm": "window_zero",
    "spacing_zero.dcm": "spacing_zero",
    "age_not_number.dcm": "age_invalid",
    "age_absurd.dcm": "absurd_age",
    "study_in_future.dcm": "study_in_future",
    "charset_unknown.dcm": "charset_unknown",
    "all_black.dcm": "constant_image",
    "saturated.dcm": "saturated",
}


def _fact(data: bytes) -> Fact:
    return read_image_fact(data)[1]


def _code(data: bytes) -> str:
    with pytest.raises(InputRejected) as caught:
        read_image_fact(data)
    return caught.value.code


def test_the_fact_of_a_film(make_dicom: MakeDicom) -> None:
    who, fact = read_image_fact(make_dicom())
    assert who.keys == ((None, "MRN1"),)
    assert fact.patient == (None, "MRN1")
    assert fact.time == datetime(2024, 3, 1, 10, 20, 0, 500000, tzinfo=UTC)
    assert (fact.code, fact.modality, fact.category) == ("DICOM//DX", "radiology", "DX")
    assert (fact.age_years, fact.instance, fact.is_file, fact.flags) == (54.0, "1.2.3.4", True, ())
    assert fact.attributes == {
        "site": "North",
        "device": "Acme Ray 1",
        "view": "PA",
        "photometric": "MONOCHROME2",
        "rows": 6,
        "columns": 8,
        "frames": 1,
        "spacing_mm": [0.2, 0.1],
        "dicom_modality": "DX",
        "body_part": "CHEST",
        "transfer_syntax": "1.2.840.10008.1.2.1",
    }


def test_no_identifier_is_in_the_attributes(make_dicom: MakeDicom) -> None:
    fact = _fact(make_dicom(InstitutionName="North, room of Doe^JANE", ManufacturerModelName="Ray MRN1"))
    assert "site" not in fact.attributes and "device" not in fact.attributes
    assert "identifier_removed" in fact.flags


def test_the_source_states_the_site_where_the_file_does_not(make_dicom: MakeDicom) -> None:
    source = MemorySource({"a.dcm": make_dicom(InstitutionName=None)}, site="South")
    (file,) = source.files()
    assert scan(source, file).facts[0].attributes["site"] == "South"


def test_the_rules_of_the_source_hold(make_dicom: MakeDicom) -> None:
    source = MemorySource({"a.dcm": make_dicom()}, rules=IngestConfig(timezone="Europe/Vienna"))
    (file,) = source.files()
    assert scan(source, file).facts[0].time.hour == 9
    big = MemorySource(
        {"a.dcm": make_dicom(np.zeros((800, 800), np.uint16))}, rules=IngestConfig(max_file_mib=1)
    )
    (file,) = big.files()
    with pytest.raises(InputRejected, match="too-large"):
        scan(big, file)


def test_a_large_file_is_mapped_not_read(
    make_dicom: MakeDicom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.dcm").write_bytes(make_dicom())
    source = LocalSource(tmp_path)
    (file,) = source.files()
    small = scan(source, file)
    monkeypatch.setattr("clinimm.modalities.radiology.reader._MAPPED_BYTES", 0)
    monkeypatch.setattr(LocalSource, "read", lambda *_: pytest.fail("read as a whole"))
    assert scan(source, file) == small
    broken = make_dicom(RescaleSlope=1.25, RescaleIntercept=0).replace(b"1.25", b"abcd")
    (tmp_path / "a.dcm").write_bytes(broken)
    with pytest.raises(InputRejected, match="bad-number"):
        scan(source, next(source.files()))


@pytest.mark.parametrize(
    ("sop_class", "kind"),
    [
        ("1.2.840.10008.5.1.4.1.1.88.33", "structured report"),
        ("1.2.840.10008.5.1.4.1.1.66.4", "segmentation"),
        ("1.2.840.10008.5.1.4.1.1.11.1", "presentation state"),
        ("1.2.840.10008.5.1.4.1.1.481.5", "plan"),
        ("1.2.840.10008.5.1.4.1.1.481.2", "dose"),
        ("1.2.840.10008.5.1.4.1.1.30", "parametric map"),
        ("1.2.840.10008.5.1.4.1.1.104.1", "document"),
        ("1.2.840.10008.5.1.4.1.1.9.1.1", "waveform"),
    ],
)
def test_what_is_no_image_is_refused_by_name(make_dicom: MakeDicom, sop_class: str, kind: str) -> None:
    with pytest.raises(InputRejected, match=f"not-an-image.*{kind}"):
        read_image_fact(make_dicom(SOPClassUID=sop_class))


def test_portal_images_and_photographs_are_images(make_dicom: MakeDicom) -> None:
    for sop_class in ("1.2.840.10008.5.1.4.1.1.481.1", "1.2.840.10008.5.1.4.1.1.77.1.4"):
        assert _fact(make_dicom(np.eye(8, dtype=np.uint8), SOPClassUID=sop_class)).is_file


def test_whole_slides_are_left_to_pathology(make_dicom: MakeDicom) -> None:
    slide = make_dicom(SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.6")
    assert not accepts("a.dcm", slide[:512])
    assert accepts("a", make_dicom()[:512])
    assert not accepts("notes.txt", b"no acute distress")
    assert _code(slide) == "whole-slide"


def test_constant_and_saturated_native_images_are_flagged(make_dicom: MakeDicom) -> None:
    assert "constant_image" in _fact(make_dicom(np.full((64, 64), 7, np.uint16))).flags
    burnt = np.full((64, 64), 4095, np.uint16)
    burnt[:4] = 9
    assert _fact(make_dicom(burnt, BitsStored=12, HighBit=11)).flags == ("saturated",)
    speck = np.zeros((2048, 2048), np.uint8)
    speck[1000, 1001] = 1
    assert _fact(make_dicom(speck)).flags == ()


def test_a_modality_that_is_no_code_is_not_written(make_dicom: MakeDicom) -> None:
    fact = _fact(make_dicom(Modality=None))
    assert (fact.code, fact.category) == ("DICOM//OT", "OT")
    assert "modality_unknown" in fact.flags


def test_every_malformed_file_ends_as_expected(test_data: Path) -> None:
    folder = test_data / "samples" / "dicom" / "malformed"
    with (folder / "expected.csv").open(encoding="utf-8") as stream:
        expected = {row["file"]: row["expected"] for row in csv.DictReader(stream)}
    for name, sentence in expected.items():
        data = (folder / name).read_bytes()
        if name in _REFUSED:
            assert _code(data) in _REFUSED[name], (name, sentence)
            continue
        who, fact = read_image_fact(data)
        assert _FLAGGED.get(name) is None or _FLAGGED[name] in fact.flags, (name, sentence, fact.flags)
        assert not sentence.startswith("reject:"), (name, sentence)
        if name == "age_months.dcm":
            assert fact.age_years == pytest.approx(1.5)
        if name.startswith("age_") and name != "age_months.dcm":
            assert fact.age_years is None
        if name == "sex_unknown_code.dcm":
            assert who.sex == "unknown"
    assert len(expected) == 27


def test_the_same_instance_with_other_pixels_has_the_same_instance_id(test_data: Path) -> None:
    folder = test_data / "samples" / "dicom" / "malformed"
    a, b = ((folder / f"dup_sop_uid_{name}.dcm").read_bytes() for name in "ab")
    assert a != b
    assert _fact(a).instance == _fact(b).instance is not None


def test_no_comment_or_private_text_comes_through(test_data: Path) -> None:
    path = test_data / "samples" / "dicom" / "malformed" / "phi_in_comments_and_private.dcm"
    fact = _fact(path.read_bytes())
    dataset = pydicom.dcmread(path)
    said = json.dumps(dict(fact.attributes)) + str(fact.text_value) + fact.code
    for element in dataset:
        if "Comment" in element.keyword or element.tag.is_private:
            text = str(element.value).strip()
            assert len(text) < 6 or text not in said


def test_every_sample_is_read_or_refused_by_name(test_data: Path) -> None:
    source = LocalSource(test_data / "samples" / "dicom")
    read, refused = 0, dict.fromkeys(("not-an-image", "jpeg-12-bit", "no-patient", "no-time"), 0)
    for file in source.files():
        if not accepts(file.path, source.local_path(file.path).read_bytes()[:512]):
            continue
        try:
            read += len(scan(source, file).facts)
        except InputRejected as refusal:
            refused[refusal.code] = refused.get(refusal.code, 0) + 1
            assert refusal.reason and refusal.remedy
    assert read >= 130
    assert refused["jpeg-12-bit"] == 3
    assert refused["not-an-image"] >= 30


def test_an_image_that_says_it_was_generated_is_refused_unless_that_is_meant(make_dicom: MakeDicom) -> None:
    made = make_dicom(SyntheticData="YES")
    with pytest.raises(InputRejected, match="synthetic-image"):
        read_image_fact(made)
    assert "synthetic" in read_image_fact(made, synthetic=True)[1].flags
    assert "synthetic" not in read_image_fact(make_dicom(SyntheticData="NO"))[1].flags
