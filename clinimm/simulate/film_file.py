"""Films as DICOM objects: Digital X-Ray (PS3.3 A.26) and Computed Radiography (PS3.3 A.2)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from clinimm.simulate.identity import ISSUER
from clinimm.simulate.subject import Subject

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset

DX_CLASS = "1.2.840.10008.5.1.4.1.1.1.1"
CR_CLASS = "1.2.840.10008.5.1.4.1.1.1"
_CHEST = ("51185008", "SCT", "Chest")
_IMPLEMENTATION = "2.25.213960275391706415243838158063437110577"
_FIELD_OF_VIEW_MM = 400.0


def film_uids(subject: Subject, number: int) -> dict[str, str]:
    """Study, series and instance UID of the patient's film ``number`` (1 is the index film)."""
    return {level: subject.ids.uid(f"{level}/{number}") for level in ("study", "series", "instance")}


def film_dataset(subject: Subject, number: int, taken: datetime, grey: np.ndarray) -> Dataset:
    """The DICOM object of a film.

    Args:
        subject: whose film it is.
        number: 1 is the index film.
        taken: acquisition, UTC.
        grey: (row, column) 0 to 1.
    """
    from pydicom import Dataset

    site = subject.site
    dataset = Dataset()
    dataset.file_meta = _file_meta(subject, number)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    _add_patient(dataset, subject, taken)
    _add_study(dataset, subject, number, taken)
    _add_pixels(dataset, grey, site.bits_stored)
    if site.digital:
        _add_dx(dataset, subject, taken)
    else:
        _add_cr(dataset, subject)
    dataset.PixelData = _stored_values(grey, site.bits_stored).tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def film_bytes(dataset: Dataset, run_length: bool) -> bytes:
    """The DICOM file (PS3.10), with run-length encoded pixels (PS3.5 annex G) if asked for."""
    from io import BytesIO

    from pydicom.uid import RLELossless

    if run_length:
        dataset.compress(RLELossless, generate_instance_uid=False)
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _file_meta(subject: Subject, number: int) -> FileMetaDataset:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(DX_CLASS if subject.site.digital else CR_CLASS)
    meta.MediaStorageSOPInstanceUID = UID(film_uids(subject, number)["instance"])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(_IMPLEMENTATION)
    meta.ImplementationVersionName = "CLINIMM_SIM"
    return meta


def _add_patient(dataset: Dataset, subject: Subject, taken: datetime) -> None:
    person = subject.person
    dataset.PatientName = f"{person.family}^{person.given}"
    dataset.PatientID = person.patient_id
    dataset.IssuerOfPatientID = ISSUER
    dataset.PatientBirthDate = person.birth_date.strftime("%Y%m%d")
    dataset.PatientSex = "F" if person.woman else "M"
    dataset.PatientAge = f"{person.age_years(taken.date()):03d}Y"


def _add_study(dataset: Dataset, subject: Subject, number: int, taken: datetime) -> None:
    site, uids = subject.site, film_uids(subject, number)
    dataset.SOPClassUID = DX_CLASS if site.digital else CR_CLASS
    dataset.SOPInstanceUID = uids["instance"]
    dataset.StudyInstanceUID = uids["study"]
    dataset.SeriesInstanceUID = uids["series"]
    for level in ("Study", "Series", "Acquisition", "Content"):
        setattr(dataset, f"{level}Date", taken.strftime("%Y%m%d"))
        setattr(dataset, f"{level}Time", taken.strftime("%H%M%S"))
    dataset.TimezoneOffsetFromUTC = "+0000"
    dataset.AccessionNumber = f"A{subject.number:06d}{number:02d}"
    dataset.ReferringPhysicianName = ""
    dataset.StudyID = str(number)
    dataset.StudyDescription = "Chest radiograph"
    dataset.SeriesDescription = f"Chest {subject.projection}"
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = 1
    dataset.AcquisitionNumber = 1
    dataset.Modality = "DX" if site.digital else "CR"
    dataset.Manufacturer = site.manufacturer
    dataset.ManufacturerModelName = site.model
    dataset.DeviceSerialNumber = f"SIM-{site.key}"
    dataset.SoftwareVersions = "1.0"
    dataset.InstitutionName = site.name
    dataset.StationName = site.key.upper()
    dataset.BodyPartExamined = "CHEST"
    dataset.ViewPosition = subject.projection
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"


def _add_pixels(dataset: Dataset, grey: np.ndarray, bits_stored: int) -> None:
    dataset.Rows, dataset.Columns = grey.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = 16
    dataset.BitsStored = bits_stored
    dataset.HighBit = bits_stored - 1
    dataset.PixelRepresentation = 0
    spacing = f"{_FIELD_OF_VIEW_MM / grey.shape[0]:.6g}"
    dataset.ImagerPixelSpacing = [spacing, spacing]
    dataset.PixelSpacing = [spacing, spacing]
    dataset.PixelSpacingCalibrationType = "GEOMETRY"
    dataset.PixelSpacingCalibrationDescription = "simulated at the detector plane"
    dataset.WindowCenter = 1 << (bits_stored - 1)
    dataset.WindowWidth = 1 << bits_stored


def _add_dx(dataset: Dataset, subject: Subject, taken: datetime) -> None:
    """DX Series, DX Anatomy Imaged, DX Image, DX Detector and DX Positioning (PS3.3 C.8.11)."""
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.PatientOrientation = ["L", "F"]
    dataset.ImageLaterality = "U"
    dataset.AnatomicRegionSequence = [_code(*_CHEST)]
    dataset.PixelIntensityRelationship = "LOG"
    dataset.PixelIntensityRelationshipSign = -1
    dataset.RescaleIntercept = 0
    dataset.RescaleSlope = 1
    dataset.RescaleType = "US"
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.DetectorType = "SCINTILLATOR"
    dataset.AcquisitionDateTime = taken.strftime("%Y%m%d%H%M%S+0000")
    dataset.AcquisitionContextSequence = []
    dataset.ViewCodeSequence = [
        _code("399348003", "SCT", "antero-posterior")
        if subject.projection == "AP"
        else _code("272479007", "SCT", "postero-anterior")
    ]
    dataset.ViewCodeSequence[0].ViewModifierCodeSequence = []


def _add_cr(dataset: Dataset, subject: Subject) -> None:
    """CR Series and CR Image (PS3.3 C.8.1)."""
    dataset.PatientOrientation = ["L", "F"]
    dataset.Laterality = ""
    dataset.KVP = "110"
    dataset.PlateID = f"PL{subject.number % 40:03d}"


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    from pydicom import Dataset

    code = Dataset()
    code.CodeValue = value
    code.CodingSchemeDesignator = scheme
    code.CodeMeaning = meaning
    return code


def _stored_values(grey: np.ndarray, bits_stored: int) -> np.ndarray:
    return np.round(grey * ((1 << bits_stored) - 1)).astype("<u2")
