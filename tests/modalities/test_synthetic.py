"""Marks of generated images are read from text and from DICOM attributes."""

from __future__ import annotations

from io import BytesIO
from xml.sax.saxutils import escape

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from clinimm.modalities.dicom_header import DicomHeader, read_header
from clinimm.modalities.synthetic import Provenance, read_dicom_marks, read_mark

words = st.text(min_size=1, max_size=60)


@given(words, words, words, words)
def test_what_a_mark_says_is_read_back_from_any_text(
    stain: str, model: str, source: str, generator: str
) -> None:
    mark = Provenance(stain, model, source, generator).mark
    assert mark.isascii() and "\n" not in mark
    for text in (mark, f"before {mark} after", f"<Value>{escape(mark)}</Value>"):
        found = read_mark(text, "comment")
        assert found == Provenance(stain, model, source, generator, ("comment",))


@pytest.mark.parametrize("length", [19, 30, 60])
def test_a_mark_that_was_cut_short_still_marks(length: int) -> None:
    found = read_mark(Provenance("KI67", "a" * 64).mark[:length], "comment")
    assert found == Provenance(marks=("comment",))


def test_iptc_s_terms_count_and_ordinary_text_does_not() -> None:
    address = "http://cv.iptc.org/newscodes/digitalsourcetype/"
    assert read_mark(f"{address}trainedAlgorithmicMedia", "XMP") is not None
    assert read_mark(f"{address}compositeWithTrainedAlgorithmicMedia", "XMP") is not None
    assert read_mark(f"{address}digitalCapture", "XMP") is None
    assert read_mark("Aperio Image Library v11.2.1 |AppMag = 20|MPP = 0.4990", "description") is None


def _header(**values: object) -> DicomHeader:
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.77.1.6", "1.2.3"
    for keyword, value in values.items():
        setattr(data, keyword, value)
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    stream = BytesIO()
    data.save_as(stream, enforce_file_format=True)
    return read_header(stream.getvalue())


def _equipment(code: str) -> list[Dataset]:
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = code, "DCM", "meaning"
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [purpose]
    return [item]


def test_dicom_is_marked_by_either_attribute() -> None:
    assert read_dicom_marks(_header()) is None
    assert read_dicom_marks(_header(SyntheticData="NO")) is None
    assert read_dicom_marks(_header(SyntheticData="YES")) is not None
    assert read_dicom_marks(_header(ContributingEquipmentSequence=_equipment("109100"))) is not None
    # PS3.16 CID 7005: 109102 is "Processing Equipment", which does not generate.
    assert read_dicom_marks(_header(ContributingEquipmentSequence=_equipment("109102"))) is None


def test_dicom_says_which_model() -> None:
    mark = Provenance("KI67", "a" * 64, "b" * 64, "clinimm 1").mark
    found = read_dicom_marks(_header(SyntheticData="YES", DerivationDescription=f"words. {mark}"))
    assert found is not None
    assert (found.stain, found.model_digest, found.source_digest) == ("KI67", "a" * 64, "b" * 64)
    assert len(found.marks) == 2
