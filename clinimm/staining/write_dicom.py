"""A stained slide as DICOM: one instance a level in one series, and its uncertainty map in another.

VL Whole Slide Microscopy Image Storage, TILED_FULL (PS3.3 C.8.12.4, C.7.6.17.3). Tiles go from the
spool into the file one by one, so the memory needed does not grow with the slide.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from clinimm.core.errors import ConfigError
from clinimm.modalities.dicom_header import WHOLE_SLIDE
from clinimm.staining.dicom_attributes import DicomFacts, common, item, optical_path
from clinimm.staining.plan import TILE_PIXELS, size_name
from clinimm.staining.pyramid import StoredLevel
from clinimm.staining.replace_output import clear_folder
from clinimm.staining.signed_attributes import UNCERTAINTY
from clinimm.staining.whole_slide import StainedSlide
from clinimm.staining.write_dicom_map import map_header, write_map

JPEG_BASELINE, JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"
_ITEM, _END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\0\0\0\0"
_PIXELS = b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff"
#: A basic offset table has 32-bit offsets; beyond this the extended one is written.
_BASIC_BYTES = 1 << 32
UNCERTAINTY_NAME = "uncertainty.dcm"


def write_dicom(stained: StainedSlide, folder: Path, facts: DicomFacts) -> None:
    """Write ``level-0.dcm``, ``level-1.dcm``, ... and ``uncertainty.dcm`` into a new folder.

    Args:
        stained: what is written; its tiles must be JPEG or JPEG 2000.
        folder: made; an earlier output of that name is replaced when the new one is whole.
        facts: what the attributes say.

    Raises:
        ConfigError: the tiles are compressed in a way that DICOM does not know, or the folder holds
            files that this program did not make.
    """
    if stained.pyramid.codec.name == "deflate":
        raise ConfigError("DICOM holds tiles as jpeg or jpeg2000, not as deflate: choose one of those.")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for level in stained.pyramid.levels:
        data = _level(stained, level, facts)
        lengths = _lengths(stained, level)
        syntax = JPEG_BASELINE if stained.pyramid.codec.lossy else JPEG_2000_LOSSLESS
        write_encapsulated(
            partial / f"level-{level.number}.dcm", data, syntax, stained.pyramid.tiles(level), lengths
        )
    write_map(stained, partial / UNCERTAINTY_NAME, facts)
    clear_folder(folder)
    partial.replace(folder)


def dicom_headers(stained: StainedSlide, facts: DicomFacts) -> dict[str, Any]:
    """What the files will say without their pixels, by ``size_name``; nothing is written."""
    levels = {
        size_name(level.width, level.height): _level(stained, level, facts)
        for level in stained.pyramid.levels
    }
    return {**levels, UNCERTAINTY: map_header(stained, facts)}


def _level(stained: StainedSlide, level: StoredLevel, facts: DicomFacts) -> Any:
    codec = stained.pyramid.codec
    data = common(facts)
    flavour = "RESAMPLED" if level.number else "NONE"
    _identify(data, facts, level.number)
    data.ImageType = ["DERIVED", "PRIMARY", "VOLUME", flavour]
    data.PyramidUID, data.PyramidLabel = facts.uid("pyramid"), f"virtual {facts.stain}"[:16]
    _matrix(data, (level.width, level.height), stained.um, level.scale)
    data.SamplesPerPixel, data.PlanarConfiguration = 3, 0
    data.PhotometricInterpretation = "YBR_FULL_422" if codec.lossy else "YBR_RCT"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    _lossy(data, stained, level, facts)
    data.OpticalPathSequence = [optical_path(facts.stain)]
    _functional_groups(data, stained.um, level.scale, data.ImageType)
    return data


def _identify(data: Any, facts: DicomFacts, instance: int) -> None:
    data.SOPClassUID = WHOLE_SLIDE
    data.SOPInstanceUID = facts.uid("pixels", "instance", instance)
    data.SeriesInstanceUID = facts.uid("pixels", "series")
    data.SeriesNumber, data.InstanceNumber = 1, instance + 1
    data.SeriesDescription = f"Virtual stain {facts.stain}, not a real stain"[:64]
    organisation = facts.uid("pixels", "dimensions")
    data.DimensionOrganizationSequence = [item(DimensionOrganizationUID=organisation)]
    data.DimensionOrganizationType = "TILED_FULL"


def _matrix(data: Any, size: tuple[int, int], um: tuple[float, float], scale: int) -> None:
    columns, rows = size
    data.TotalPixelMatrixColumns, data.TotalPixelMatrixRows = columns, rows
    data.ImagedVolumeWidth, data.ImagedVolumeHeight = (
        pixels * one * scale / 1000 for pixels, one in zip(size, um, strict=True)
    )
    data.Rows = data.Columns = TILE_PIXELS
    data.NumberOfFrames = _up(columns) // TILE_PIXELS * (_up(rows) // TILE_PIXELS)


def _functional_groups(data: Any, um: tuple[float, float], scale: int, kind: Any) -> None:
    """Shared by all frames; positions of TILED_FULL frames follow from their order."""
    spacing = [f"{one * scale / 1000:.10g}" for one in (um[1], um[0])]  # between rows, between columns
    measures = item(PixelSpacing=spacing, SliceThickness=f"{data.ImagedVolumeDepth / 1000:.10g}")
    groups = item(
        PixelMeasuresSequence=[measures],
        WholeSlideMicroscopyImageFrameTypeSequence=[item(FrameType=list(kind))],
        OpticalPathIdentificationSequence=[item(OpticalPathIdentifier="1")],
    )
    data.SharedFunctionalGroupsSequence = [groups]


def _lossy(data: Any, stained: StainedSlide, level: StoredLevel, facts: DicomFacts) -> None:
    """Lossy compression of the pixels themselves, and of the source that they came from."""
    ratios, methods = [], []
    if facts.taken("LossyImageCompression") == "01":
        ratios += _listed(facts.taken("LossyImageCompressionRatio"))
        methods += _listed(facts.taken("LossyImageCompressionMethod"))
    if stained.pyramid.codec.lossy:
        pixels = level.tile_rows * level.tile_columns * TILE_PIXELS**2 * 3
        ratios.append(f"{pixels / max(1, sum(_lengths(stained, level))):.4g}")
        methods.append("ISO_10918_1")
    data.LossyImageCompression = "01" if methods else "00"
    if methods and len(ratios) == len(methods):
        data.LossyImageCompressionRatio, data.LossyImageCompressionMethod = ratios, methods


def _listed(value: Any) -> list[str]:
    if value is None:
        return []
    return (
        [str(one) for one in value]
        if hasattr(value, "__iter__") and not isinstance(value, str)
        else [str(value)]
    )


def _lengths(stained: StainedSlide, level: StoredLevel) -> list[int]:
    tables = (stained.pyramid.spool.table(level.number, band) for band in range(level.bands))
    return [int(length) for table in tables for length in table.lengths]


def write_encapsulated(
    path: Path, data: Any, syntax: str, frames: Iterable[bytes], lengths: list[int]
) -> None:
    """Write a data set and its compressed frames, one fragment a frame (PS3.5 A.4).

    Args:
        frames: of even length each.
        lengths: of the frames, for the offset table that stands before them.
    """
    starts = np.cumsum([0, *(length + 8 for length in lengths[:-1])])
    basic = int(starts[-1]) < _BASIC_BYTES
    if not basic:
        data.ExtendedOffsetTable = starts.astype("<u8").tobytes()
        data.ExtendedOffsetTableLengths = np.array(lengths, "<u8").tobytes()
    _meta(data, syntax)
    data.save_as(path, enforce_file_format=True)
    with path.open("ab") as stream:
        stream.write(_PIXELS)
        table = starts.astype("<u4").tobytes() if basic else b""
        stream.write(_ITEM + struct.pack("<I", len(table)) + table)
        for frame in frames:
            stream.write(_ITEM + struct.pack("<I", len(frame)))
            stream.write(frame)
        stream.write(_END)


def _meta(data: Any, syntax: str) -> None:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = data.SOPClassUID, data.SOPInstanceUID
    meta.TransferSyntaxUID = UID(syntax)
    data.file_meta = meta


def _up(pixels: int) -> int:
    return -(-pixels // TILE_PIXELS) * TILE_PIXELS
