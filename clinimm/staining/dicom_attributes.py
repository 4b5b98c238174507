"""The attributes of a stained slide in DICOM (VL Whole Slide Microscopy, PS3.3 A.32.8), module by module."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from clinimm import __version__
from clinimm.modalities.synthetic import SYNTHESIZING_EQUIPMENT
from clinimm.staining.dicom_source import PATIENT, SPECIMEN, STUDY, DicomSource
from clinimm.staining.label_mark import label_text
from clinimm.staining.new_uids import NewUids

MANUFACTURER, MODEL_NAME = "CliniMM", "clinimm stain"
#: Thickness of the focal plane where the source states none, millimetres: a usual section.
_THICKNESS_MM = 0.004
#: Where the image lies on the slide where the source does not say: PS3.3 C.8.12.2, as most scanners have it.
_ORIENTATION = [0.0, -1.0, 0.0, -1.0, 0.0, 0.0]
_LONGEST_DESCRIPTION = 1024  # VR ST, PS3.5 section 6.2


@dataclass(frozen=True)
class DicomFacts:
    """What the attributes say, besides the pixels.

    Attributes:
        stain: imitated stain.
        mark: the line of text that marks it as generated.
        cautions: sentences that a reader must know beside that it is generated.
        binding: digest of slide, model and settings; UIDs are made from it.
        uids: makes them, and stands new ones in place of the source's.
        patient_id: pseudonym that stands for the patient.
        keep_identity: whether the source's patient and study attributes are carried over.
        source: the source's headers where it is DICOM.
        made: when it was made, UTC.
        manifest: the signed manifest; empty while it is not signed yet.
    """

    stain: str
    mark: str
    cautions: tuple[str, ...]
    binding: str
    uids: NewUids
    patient_id: str
    keep_identity: bool
    source: DicomSource | None
    made: datetime
    manifest: str

    def uid(self, *parts: object) -> str:
        """A UID of this output, made of what was stained, how and when (``made``, to the second).

        A slide that is stained again gets new ones: its bytes differ (manifest, times), and no two
        instances may share a UID (PS3.5 section 9).
        """
        return self.uids.of(self.binding, self.made.isoformat(), *parts)

    def of_source(self, uid: str) -> str:
        """A UID of the source: its own where identity is kept, else the one that stands for it."""
        return uid if self.keep_identity else self.uids.of("source", uid)

    def taken(self, keyword: str) -> Any:
        """A source attribute that identifies nobody; None where there is none."""
        return self.source.value(keyword) if self.source else None


def common(facts: DicomFacts) -> Any:
    """Every attribute that the instances of all series of a stained slide share."""
    from pydicom import Dataset

    data = Dataset()
    data.SpecificCharacterSet = "ISO_IR 192"  # UTF-8, whatever the source's names are written in
    _synthetic(data, facts)
    _patient_and_study(data, facts)
    _specimen(data, facts)
    data.Modality = "SM"
    frame = facts.taken("FrameOfReferenceUID")
    data.FrameOfReferenceUID = facts.of_source(frame) if frame else facts.uid("frame of reference")
    data.PositionReferenceIndicator = "SLIDE_CORNER"
    data.Manufacturer, data.ManufacturerModelName = MANUFACTURER, MODEL_NAME
    data.DeviceSerialNumber, data.SoftwareVersions = "none", __version__
    data.ContentDate, data.ContentTime = f"{facts.made:%Y%m%d}", f"{facts.made:%H%M%S}"
    data.TimezoneOffsetFromUTC = "+0000"
    data.AcquisitionContextSequence = []
    data.VolumetricProperties = "VOLUME"
    data.SpecimenLabelInImage = "NO"
    data.FocusMethod = facts.taken("FocusMethod") or "AUTO"
    data.ExtendedDepthOfField = facts.taken("ExtendedDepthOfField") or "NO"
    data.ImageOrientationSlide = list(facts.taken("ImageOrientationSlide") or _ORIENTATION)
    data.TotalPixelMatrixOriginSequence = [_origin(facts)]
    data.TotalPixelMatrixFocalPlanes = 1
    data.NumberOfOpticalPaths = 1
    data.ImagedVolumeDepth = float(facts.taken("ImagedVolumeDepth") or _THICKNESS_MM * 1000)
    return data


def _synthetic(data: Any, facts: DicomFacts) -> None:
    """Law 6: what it is, what made it, from what, and what it may be used for."""
    data.SyntheticData = "YES"
    data.ContentQualification = "RESEARCH"
    # Burned In Annotation asks whether the pixels identify the patient (PS3.3 C.7.6.1); the label does not.
    data.BurnedInAnnotation = "NO"
    said = " ".join(facts.cautions)
    words = f"{label_text(facts.stain)}. {facts.mark} {said}".strip()
    # The mark stands before what may be cut; everything is said in the comments.
    data.DerivationDescription = words[:_LONGEST_DESCRIPTION]
    data.DerivationCodeSequence = [code("VIRTUAL-STAIN", "99CLINIMM", "Virtual staining by a neural network")]
    data.ImageComments = f"{label_text(facts.stain)}. {said}".removesuffix(". ")
    equipment = item(
        PurposeOfReferenceCodeSequence=[code(SYNTHESIZING_EQUIPMENT, "DCM", "Synthesizing Equipment")],
        Manufacturer=MANUFACTURER,
        ManufacturerModelName=MODEL_NAME,
        SoftwareVersions=__version__,
        ContributionDateTime=f"{facts.made:%Y%m%d%H%M%S}+0000",
        ContributionDescription=f"Pixels generated to imitate the stain {facts.stain}",
    )
    data.ContributingEquipmentSequence = [equipment]
    if facts.source is not None:
        purpose = code("121322", "DCM", "Source image for image processing operation")
        data.SourceImageSequence = [
            item(
                ReferencedSOPClassUID=kind,
                ReferencedSOPInstanceUID=facts.of_source(instance),
                PurposeOfReferenceCodeSequence=[purpose],
                SpatialLocationsPreserved="YES",
            )
            for kind, instance in facts.source.instances[:1]
        ]
    if facts.manifest:
        data.private_block(0x0099, "CLINIMM", create=True).add_new(0x01, "UT", facts.manifest)


def _patient_and_study(data: Any, facts: DicomFacts) -> None:
    for keyword in ("PatientBirthDate", "PatientSex", "AccessionNumber", "ReferringPhysicianName"):
        setattr(data, keyword, "")
    data.PatientName, data.PatientID = f"{facts.patient_id}^", facts.patient_id
    # A study of its own, of today: the source's would lead back to the patient.
    data.StudyInstanceUID, data.StudyID = facts.uid("study"), "1"
    data.StudyDate, data.StudyTime = f"{facts.made:%Y%m%d}", f"{facts.made:%H%M%S}"
    if facts.source is not None and facts.keep_identity:
        for keyword in (*PATIENT, *STUDY):
            if keyword in facts.source.base:
                data[keyword] = facts.source.base[keyword]
        return
    data.PatientIdentityRemoved = "YES"
    kind = "keyed" if facts.uids.lasting else "random"
    # LO holds 64 characters a value (PS3.5 section 6.2).
    data.DeidentificationMethod = [
        "Patient and study attributes replaced by a pseudonym",
        f"UIDs of the source replaced by {kind} ones",
    ]


def _specimen(data: Any, facts: DicomFacts) -> None:
    data.ContainerIdentifier = facts.patient_id
    data.IssuerOfTheContainerIdentifierSequence = []
    data.ContainerTypeCodeSequence = [code("433466003", "SCT", "Microscope slide")]
    data.SpecimenDescriptionSequence = [
        item(
            SpecimenIdentifier=facts.patient_id,
            IssuerOfTheSpecimenIdentifierSequence=[],
            SpecimenUID=facts.uid("specimen"),
            # No preparation step is claimed: nobody applied the stain.
            SpecimenPreparationSequence=[],
        )
    ]
    data.AcquisitionDateTime = f"{facts.made:%Y%m%d%H%M%S}"
    if facts.source is not None and facts.keep_identity:
        for keyword in SPECIMEN:
            if facts.source.value(keyword) is not None:
                data[keyword] = facts.source.base[keyword]


def _origin(facts: DicomFacts) -> Any:
    known = facts.taken("TotalPixelMatrixOriginSequence")
    if known:
        return known[0]
    return item(XOffsetInSlideCoordinateSystem="0", YOffsetInSlideCoordinateSystem="0")


def optical_path(stain: str) -> Any:
    """The light that would have gone through the stain, had there been one."""
    return item(
        OpticalPathIdentifier="1",
        OpticalPathDescription=f"computed; imitates {stain}",
        IlluminationTypeCodeSequence=[code("111744", "DCM", "Brightfield illumination")],
        IlluminationColorCodeSequence=[code("414298005", "SCT", "Full Spectrum")],
        ICCProfile=srgb_profile(),
        ColorSpace="SRGB",
    )


def srgb_profile() -> bytes:
    """An ICC profile of sRGB, of even length, the same at every call."""
    from PIL import ImageCms

    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    made = datetime(2000, 1, 1, tzinfo=UTC)
    for place, value in enumerate((made.year, made.month, made.day, 0, 0, 0)):
        profile[24 + 2 * place : 26 + 2 * place] = value.to_bytes(2, "big")  # ICC.1:2022, 7.2.8
    return bytes(profile) + b"\0" * (len(profile) % 2)


def code(value: str, scheme: str, meaning: str) -> Any:
    """An item of a code sequence (PS3.3 section 8)."""
    return item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def item(**values: Any) -> Any:
    """An item of a sequence, by keyword."""
    from pydicom import Dataset

    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made
