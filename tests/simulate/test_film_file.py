from datetime import date

import numpy as np
import pydicom
import pytest

from clinimm.simulate.identity import ISSUER

gdcm = pytest.importorskip("gdcm", reason="python-gdcm is the independent reader")

# PS3.3: attributes that CR (A.2) and DX (A.26) share and that have to be present.
_PRESENT = """
    PatientName PatientID PatientBirthDate PatientSex StudyInstanceUID StudyDate StudyTime StudyID
    ReferringPhysicianName AccessionNumber Modality SeriesInstanceUID SeriesNumber Manufacturer
    InstanceNumber PatientOrientation SamplesPerPixel PhotometricInterpretation Rows Columns
    BitsAllocated BitsStored HighBit PixelRepresentation SOPClassUID SOPInstanceUID
    BodyPartExamined ViewPosition
"""
# PS3.3 C.8.11: type 1 and 2 of the DX modules.
_DX = """
    PresentationIntentType ImageLaterality AnatomicRegionSequence ImageType
    PixelIntensityRelationship PixelIntensityRelationshipSign RescaleIntercept RescaleSlope
    RescaleType PresentationLUTShape LossyImageCompression BurnedInAnnotation DetectorType
    ImagerPixelSpacing AcquisitionContextSequence
"""


def _films(hospital):
    return [
        (patient_id, patient, film)
        for patient_id, patient in hospital.patients.items()
        for film in patient["films"]
    ]


def test_attributes_are_there_and_agree_with_the_truth(hospital):
    for patient_id, patient, film in _films(hospital):
        dataset = pydicom.dcmread(hospital.folder / film["file"])
        needed = (_PRESENT + (_DX if dataset.Modality == "DX" else "")).split()
        assert [name for name in needed if name not in dataset] == []
        assert (dataset.PatientID, dataset.IssuerOfPatientID) == (patient_id, ISSUER)
        assert (
            dataset.SOPInstanceUID == film["sop_instance_uid"] == dataset.file_meta.MediaStorageSOPInstanceUID
        )
        taken = film["time"].replace("-", "").replace(":", "")
        assert f"{dataset.AcquisitionDate}T{dataset.AcquisitionTime}Z" == taken
        assert dataset.TimezoneOffsetFromUTC == "+0000"
        assert dataset.InstitutionName == patient["site"]
        born = date.fromisoformat(patient["birth_date"])
        assert dataset.PatientBirthDate == born.strftime("%Y%m%d")
        assert dataset.PatientSex == patient["sex"][0].upper()
        assert (dataset.BitsAllocated, dataset.PhotometricInterpretation) == (16, "MONOCHROME2")


def test_the_hospital_has_both_kinds_of_object_and_two_transfer_syntaxes(hospital):
    read = [pydicom.dcmread(hospital.folder / film["file"]) for _, _, film in _films(hospital)]
    assert {dataset.Modality for dataset in read} == {"CR", "DX"}
    assert {dataset.BitsStored for dataset in read} == {12, 16}
    assert len({dataset.file_meta.TransferSyntaxUID for dataset in read}) == 2
    assert len({dataset.StudyInstanceUID for dataset in read}) == len(read)


def test_an_independent_reader_sees_the_same_pixels(hospital):
    for _, _, film in _films(hospital):
        path = hospital.folder / film["file"]
        reader = gdcm.ImageReader()
        reader.SetFileName(str(path))
        assert reader.Read()
        image = reader.GetImage()
        assert list(image.GetDimensions())[:2] == [film["columns"], film["rows"]]
        buffer = image.GetBuffer().encode("utf-8", errors="surrogateescape")
        theirs = np.frombuffer(buffer, "<u2").reshape(film["rows"], film["columns"])
        assert np.array_equal(theirs, pydicom.dcmread(path).pixel_array)


def test_lesions_are_brighter_than_their_mirror_image(hospital):
    checked = 0
    for _, patient, film in _films(hospital):
        pixels = pydicom.dcmread(hospital.folder / film["file"]).pixel_array.astype(float)
        assert bool(film["lesions"]) == patient["factors"]["lesion"]
        for lesion in film["lesions"]:
            left, top, right, bottom = lesion["box"]
            width = film["columns"]
            here = pixels[top:bottom, left:right].mean()
            there = pixels[top:bottom, width - right : width - left].mean()
            assert here > 1.25 * there
            assert ((left + right) / 2 < width / 2) == (lesion["side"] == "right")
            checked += 1
    assert checked >= 4


def test_a_patients_films_belong_to_different_studies_and_the_first_is_the_index(hospital):
    twice = [patient for patient in hospital.patients.values() if len(patient["films"]) == 2]
    assert twice
    for patient in twice:
        first, second = patient["films"]
        assert first["time"] == patient["index_time"] < second["time"]
