"""The DICOM slide is read alike by wsidicom and OpenSlide, fits the standard, and says what it is."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import openslide
import pydicom
import pytest
from pydicom import Dataset
from wsidicom import WsiDicom

from clinimm.core.errors import ConfigError
from clinimm.core.pseudonym import Pseudonymiser
from clinimm.modalities.pathology.slide import open_slide
from clinimm.staining import write_dicom as module
from clinimm.staining.codec import Codec, CodecName
from clinimm.staining.dicom_source import read_dicom_source, source_digest, source_files
from clinimm.staining.export import Identity, export
from clinimm.staining.generated_file import dicom_frames
from clinimm.staining.new_uids import NewUids
from clinimm.staining.whole_slide import StainedSlide, StainSettings
from tests.staining.whole_slide_parts import ORIGIN, level_pixels, on_glass, stain

#: dicom3tools of 2022 does not know Synthetic Data (0008,001C), which came into PS3.6 later.
UNKNOWN_TO_VALIDATOR = "</(0008,001c)>"


def made(folder: Path, codec: CodecName = "jpeg", **identity: object) -> tuple[StainedSlide, Path]:
    stained = stain(
        folder, on_glass(700, 1500, (300, 200, 1100, 600)), StainSettings("KI67", 512, Codec(codec))
    )
    path = folder / "out"
    export(stained, path, "dicom", ORIGIN, replace(Identity("P1"), **identity))  # type: ignore[arg-type]
    return stained, path


@pytest.mark.parametrize("codec", ["jpeg", "jpeg2000"])
def test_readers_show_the_same_pixels_at_every_level(tmp_path: Path, codec: CodecName) -> None:
    stained, path = made(tmp_path, codec)
    levels = stained.pyramid.levels
    with (
        WsiDicom.open(path) as wsi,
        openslide.OpenSlide(str(path / "level-0.dcm")) as slide,
        open_slide(path / "level-0.dcm") as own,
    ):
        assert slide.level_dimensions == tuple((one.width, one.height) for one in levels)
        assert [(one.size.width, one.size.height) for one in wsi.levels] == list(slide.level_dimensions)
        assert [(one.width, one.height) for one in own.info.levels] == list(slide.level_dimensions)
        assert wsi.mpp.width == pytest.approx(0.5)
        for number, level in enumerate(levels):
            expected, size = level_pixels(stained, number), (level.width, level.height)
            assert (np.asarray(wsi.read_region((0, 0), number, size).convert("RGB")) == expected).all()
            assert (np.asarray(slide.read_region((0, 0), number, size).convert("RGB")) == expected).all()
            assert (own.read_region(number, (0, 0, *size)) == expected).all()


@pytest.mark.skipif(
    shutil.which("dciodvfy") is None, reason="dciodvfy (Debian's dicom3tools) is not installed"
)
@pytest.mark.parametrize("codec", ["jpeg", "jpeg2000"])
def test_validator_finds_no_error(tmp_path: Path, codec: CodecName) -> None:
    _, path = made(tmp_path, codec)
    for file in sorted(path.iterdir()):
        result = subprocess.run(["dciodvfy", "-new", str(file)], capture_output=True, text=True, check=False)
        lines = (result.stdout + result.stderr).splitlines()
        assert any(line.startswith(("VLWholeSlideMicroscopyImage", "ParametricMap")) for line in lines)
        found = [line for line in lines if line.startswith("Error") and UNKNOWN_TO_VALIDATOR not in line]
        assert found == []


def test_every_instance_says_that_it_is_synthetic(tmp_path: Path) -> None:
    _, path = made(tmp_path)
    for file in path.iterdir():
        data = pydicom.dcmread(file, stop_before_pixels=True)
        assert data.SyntheticData == "YES"  # PS3.3 C.12.1.1.10 (0008,001C)
        assert data.ContentQualification == "RESEARCH"
        assert data.ImageType[:3] == ["DERIVED", "PRIMARY", "VOLUME"]
        purpose = data.ContributingEquipmentSequence[0].PurposeOfReferenceCodeSequence[0]
        # PS3.16 CID 7005: 109100, DCM, "Synthesizing Equipment"
        assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("109100", "DCM")
        assert "NOT A REAL STAIN" in data.DerivationDescription


def test_levels_are_one_series_and_one_pyramid_and_the_map_is_another(tmp_path: Path) -> None:
    _, path = made(tmp_path)
    headers = {one.name: pydicom.dcmread(one, stop_before_pixels=True) for one in path.iterdir()}
    chart = headers.pop("uncertainty.dcm")
    assert len({one.SeriesInstanceUID for one in headers.values()}) == 1
    assert len({one.PyramidUID for one in headers.values()}) == 1
    assert len({one.SOPInstanceUID for one in headers.values()}) == len(headers) == 3
    first = headers["level-0.dcm"]
    assert chart.SeriesInstanceUID != first.SeriesInstanceUID
    assert chart.FrameOfReferenceUID == first.FrameOfReferenceUID


def test_map_gives_back_the_expected_error(tmp_path: Path) -> None:
    stained, path = made(tmp_path)
    data = pydicom.dcmread(path / "uncertainty.dcm")
    mapping = data.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    real = data.pixel_array * mapping.RealWorldValueSlope + mapping.RealWorldValueIntercept
    known = ~np.isnan(stained.uncertainty)
    assert np.abs(real[known] - stained.uncertainty[known]).max() < 1e-4
    assert (data.pixel_array[~known] == 0).all()
    spacing = data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    assert [float(one) for one in spacing] == pytest.approx([0.008, 0.008])  # 16 pixels of 0.5 µm, in mm


def test_a_long_instance_has_an_extended_offset_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BASIC_BYTES", 1000)
    stained, path = made(tmp_path)
    data = pydicom.dcmread(path / "level-0.dcm")
    assert len(data.ExtendedOffsetTable) == 8 * data.NumberOfFrames  # PS3.3 C.7.6.3.1.8
    with WsiDicom.open(path) as wsi:
        found = np.asarray(wsi.read_region((0, 0), 0, (1500, 700)).convert("RGB"))
    assert (found == level_pixels(stained)).all()
    header = pydicom.dcmread(path / "level-1.dcm", stop_before_pixels=True)
    tiles = list(stained.pyramid.tiles(stained.pyramid.levels[1]))
    assert list(dicom_frames(path / "level-1.dcm", header)) == tiles


def test_without_asking_nothing_leads_back_to_the_patient(tmp_path: Path) -> None:
    source = _source(tmp_path / "source")
    _, path = made(tmp_path, source=read_dicom_source(source))
    data = pydicom.dcmread(path / "level-0.dcm")
    text = str(data)
    assert "Test" not in text and "MRN77" not in text and "19500102" not in text and "ACC1" not in text
    assert data.PatientID == "P1" and data.PatientIdentityRemoved == "YES"
    assert data.StudyInstanceUID != "1.2.3.4"
    for original in ("1.2.3.4", "1.2.3.5", "1.2.3.7", "1.2.3.100", "1.2.3.101"):
        assert f" {original}\n" not in text and f" {original} " not in text
    # Its place on the glass identifies nobody.
    assert data.TotalPixelMatrixOriginSequence[0].XOffsetInSlideCoordinateSystem == 25


def test_under_one_key_what_is_made_of_one_slide_stays_linked(tmp_path: Path) -> None:
    headers = read_dicom_source(_source(tmp_path / "source"))
    key, other = (NewUids(Pseudonymiser(text)) for text in (b"0123456789abcdef", b"another key of 16"))
    found = []
    for name, uids in (("a", key), ("b", key), ("c", other), ("d", NewUids())):
        _, path = made(tmp_path / name, source=headers, uids=uids)
        found.append(pydicom.dcmread(path / "level-0.dcm", stop_before_pixels=True))
    frames = [one.FrameOfReferenceUID for one in found]
    sources = [one.SourceImageSequence[0].ReferencedSOPInstanceUID for one in found]
    for values in (frames, sources):
        assert values[0] == values[1] and len(set(values)) == 3
    assert "keyed" in found[0].DeidentificationMethod[1] and "random" in found[3].DeidentificationMethod[1]


def test_source_is_named_and_its_place_on_the_glass_kept(tmp_path: Path) -> None:
    source = _source(tmp_path / "source")
    _, path = made(tmp_path, source=read_dicom_source(source), keep=True)
    data = pydicom.dcmread(path / "level-0.dcm", stop_before_pixels=True)
    assert data.FrameOfReferenceUID == "1.2.3.7"
    assert data.SourceImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.100"
    assert data.TotalPixelMatrixOriginSequence[0].XOffsetInSlideCoordinateSystem == 25
    assert [float(one) for one in data.ImageOrientationSlide] == [0, -1, 0, 1, 0, 0]
    assert (data.PatientName, data.PatientID, data.StudyInstanceUID) == ("Test^Ann", "MRN77", "1.2.3.4")
    assert data.SeriesInstanceUID != "1.2.3.5"
    assert list(data.LossyImageCompressionMethod) == ["ISO_15444_1", "ISO_10918_1"]


def test_digest_of_a_dicom_slide_covers_its_series_only(tmp_path: Path) -> None:
    source = _source(tmp_path / "source")
    assert [one.name for one in source_files(source)] == ["a.dcm", "b.dcm"]
    before = source_digest(source)
    (tmp_path / "source" / "other.dcm").unlink()
    assert source_digest(source) == source_digest(tmp_path / "source") == before
    (tmp_path / "source" / "b.dcm").unlink()
    assert source_digest(source) != before


def test_deflate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="jpeg or jpeg2000"):
        made(tmp_path, "deflate")


def _source(folder: Path) -> Path:
    """The headers of a DICOM slide of two levels, and a stranger beside them."""
    folder.mkdir()
    for name, series, instance, columns in (
        ("a.dcm", "1.2.3.5", "1.2.3.100", 1500),
        ("b.dcm", "1.2.3.5", "1.2.3.101", 750),
        ("other.dcm", "1.2.3.6", "1.2.3.102", 3000),
    ):
        data = Dataset()
        data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.77.1.6", instance
        data.StudyInstanceUID, data.SeriesInstanceUID = "1.2.3.4", series
        data.PatientName, data.PatientID, data.PatientBirthDate = "Test^Ann", "MRN77", "19500102"
        data.AccessionNumber, data.FrameOfReferenceUID = "ACC1", "1.2.3.7"
        data.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
        data.TotalPixelMatrixColumns, data.TotalPixelMatrixRows = columns, 700
        data.ImageOrientationSlide = [0, -1, 0, 1, 0, 0]
        data.LossyImageCompression, data.LossyImageCompressionRatio = "01", "12"
        data.LossyImageCompressionMethod = "ISO_15444_1"
        origin = Dataset()
        origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem = "25", "50"
        data.TotalPixelMatrixOriginSequence = [origin]
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        data.save_as(folder / name, enforce_file_format=True)
    return folder / "a.dcm"
