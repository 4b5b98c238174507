"""The uncertainty map of a stained slide as a DICOM Parametric Map (PS3.3 A.75) on the slide's coordinates.

It is not a whole-slide image of its own: viewers gather those by study, and would take it for a level.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clinimm.staining.dicom_attributes import DicomFacts, code, common, item
from clinimm.staining.whole_slide import CELL_PIXELS, StainedSlide
from clinimm.staining.write_ome import UNCERTAINTY_ONE, uncertainty_values

PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
_KIND = ["DERIVED", "PRIMARY", "VOLUME", "NONE"]
_ONLY_IN_SLIDES = (
    "VolumetricProperties",
    "SpecimenLabelInImage",
    "FocusMethod",
    "ExtendedDepthOfField",
    "TotalPixelMatrixFocalPlanes",
    "NumberOfOpticalPaths",
    "ImagedVolumeDepth",
    "AcquisitionDateTime",
)


def write_map(stained: StainedSlide, path: Path, facts: DicomFacts) -> None:
    """Write the map as one frame of 16 bit: a stored value v of 1 or more is an error of (v - 1) / 65534."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    data = map_header(stained, facts)
    data.PixelData = uncertainty_values(stained).astype("<u2").tobytes()
    data["PixelData"].VR = "OW"
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = data.SOPClassUID, data.SOPInstanceUID
    meta.TransferSyntaxUID = UID(EXPLICIT_LITTLE)
    data.file_meta = meta
    data.save_as(path, enforce_file_format=True)


def map_header(stained: StainedSlide, facts: DicomFacts) -> Any:
    """The map without its pixels."""
    data = common(facts)
    for keyword in _ONLY_IN_SLIDES:
        del data[keyword]
    data.SOPClassUID, data.SOPInstanceUID = PARAMETRIC_MAP, facts.uid("uncertainty", "instance")
    data.SeriesInstanceUID, data.SeriesNumber, data.InstanceNumber = facts.uid("uncertainty", "series"), 2, 1
    data.SeriesDescription = f"Expected absolute error of virtual {facts.stain}"[:64]
    data.ImageType = _KIND
    data.ContentLabel, data.ContentDescription = "EXPECTED_ERROR", data.SeriesDescription
    data.ContentCreatorName = "CliniMM^"
    data.RecognizableVisualFeatures = "NO"
    data.PresentationLUTShape, data.LossyImageCompression = "IDENTITY", "00"
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    data.Rows, data.Columns = stained.uncertainty.shape
    data.TotalPixelMatrixRows, data.TotalPixelMatrixColumns = stained.uncertainty.shape
    data.NumberOfFrames = 1
    _dimensions(data, facts)
    data.SharedFunctionalGroupsSequence = [_shared(stained)]
    data.PerFrameFunctionalGroupsSequence = [_frame(data)]
    return data


def _dimensions(data: Any, facts: DicomFacts) -> None:
    """One dimension, the row of the frame in the whole matrix, although there is only one frame."""
    organisation = facts.uid("uncertainty", "dimensions")
    data.DimensionOrganizationSequence = [item(DimensionOrganizationUID=organisation)]
    data.DimensionIndexSequence = [
        item(
            DimensionOrganizationUID=organisation,
            DimensionIndexPointer=0x0048021F,  # Row Position In Total Image Pixel Matrix
            FunctionalGroupPointer=0x0048021A,  # Plane Position (Slide) Sequence
            DimensionDescriptionLabel="Row",
        )
    ]


def _shared(stained: StainedSlide) -> Any:
    spacing = [f"{um * CELL_PIXELS / 1000:.10g}" for um in (stained.um[1], stained.um[0])]
    mapping = item(
        RealWorldValueFirstValueMapped=1,
        RealWorldValueLastValueMapped=UNCERTAINTY_ONE + 1,
        RealWorldValueIntercept=-1 / UNCERTAINTY_ONE,
        RealWorldValueSlope=1 / UNCERTAINTY_ONE,
        LUTExplanation="Expected absolute error, share of range"
        + ("" if stained.calibrated else ", not calibrated"),
        LUTLabel="EXPECTED_ERROR",
        MeasurementUnitsCodeSequence=[code("1", "UCUM", "no units")],
    )
    for keyword in ("RealWorldValueFirstValueMapped", "RealWorldValueLastValueMapped"):
        mapping[keyword].VR = "US"  # as the stored values are unsigned
    identity = item(RescaleIntercept="0", RescaleSlope="1", RescaleType="US")
    return item(
        PixelMeasuresSequence=[item(PixelSpacing=spacing, SliceThickness="0.004")],
        ParametricMapFrameTypeSequence=[item(FrameType=_KIND)],
        RealWorldValueMappingSequence=[mapping],
        PixelValueTransformationSequence=[identity],
    )


def _frame(data: Any) -> Any:
    origin = data.TotalPixelMatrixOriginSequence[0]
    place = item(
        XOffsetInSlideCoordinateSystem=origin.XOffsetInSlideCoordinateSystem,
        YOffsetInSlideCoordinateSystem=origin.YOffsetInSlideCoordinateSystem,
        ZOffsetInSlideCoordinateSystem="0",
        ColumnPositionInTotalImagePixelMatrix=1,
        RowPositionInTotalImagePixelMatrix=1,
    )
    content = item(DimensionIndexValues=[1], FrameAcquisitionNumber=1)
    return item(PlanePositionSlideSequence=[place], FrameContentSequence=[content])
