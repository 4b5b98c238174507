"""A scanner's slide through a stainer: the place on the glass is kept, and nothing of the patient."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import tifffile
import torch
from skimage.registration import phase_cross_correlation

from clinimm.core.errors import BusyError
from clinimm.lock import locked
from clinimm.modalities.pathology.slide import open_slide
from clinimm.modalities.pathology.synthetic import is_synthetic
from clinimm.nn.stain.generator import GeneratorSettings
from clinimm.staining.dicom_source import source_digest
from clinimm.staining.provenance import State, verify_file
from clinimm.staining.stain_file import StainRequest, stain_file
from clinimm.staining.stainer import Stainer, StainerSpec
from clinimm.tasks.virtual_staining import StainTask


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved stainer of one stain at a coarse resolution, untrained: it copies."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    settings = GeneratorSettings(stains=1, width=8, levels=3)
    spec = StainerSpec(StainTask(("KI67",)), "HE", 2.0, "unet", settings, 1, None, {})
    Stainer(spec).eval().save_pretrained(folder)
    return folder


def test_dicom_slide_keeps_its_frame_of_reference(test_data: Path, model: Path, tmp_path: Path) -> None:
    source = next(
        path
        for path in sorted((test_data / "slides" / "dicom_wsi").iterdir())
        if "VOLUME" in pydicom.dcmread(path, stop_before_pixels=True).ImageType
    )
    request = StainRequest(
        model, source, tmp_path / "out", form="dicom", without_safety_case=True, keep_identity=True
    )
    outcome = stain_file(request)
    before = pydicom.dcmread(source, stop_before_pixels=True)
    after = pydicom.dcmread(tmp_path / "out" / "level-0.dcm", stop_before_pixels=True)
    assert after.FrameOfReferenceUID == before.FrameOfReferenceUID
    assert after.ImageOrientationSlide == before.ImageOrientationSlide
    assert after.StudyInstanceUID == before.StudyInstanceUID
    assert after.SourceImageSequence[0].ReferencedSOPInstanceUID == before.SOPInstanceUID
    assert float(after.ImagedVolumeWidth) == pytest.approx(float(before.ImagedVolumeWidth), rel=4e-3)
    assert verify_file(tmp_path / "out").state is State.INTACT
    assert outcome.stained.um[0] == pytest.approx(2.0)


def test_stained_slide_lies_where_the_source_lies(test_data: Path, model: Path, tmp_path: Path) -> None:
    # An untrained stainer copies, so source and result can be laid on each other.
    source = test_data / "slides" / "CMU-1-Small-Region.svs"
    stain_file(StainRequest(model, source, tmp_path / "out.ome.tif", lossless=True, without_safety_case=True))
    assert is_synthetic(tmp_path / "out.ome.tif") is not None
    with open_slide(source) as one, open_slide(tmp_path / "out.ome.tif") as other:
        assert other.mpp_um == pytest.approx(2.0)
        sizes = [slide.dimensions[0] * slide.mpp_um for slide in (one, other)]
        assert sizes[0] == pytest.approx(sizes[1], rel=4e-3)
        # Below the label, which stands in the first rows.
        before, after = (slide.thumbnail(700)[100:].mean(axis=2) for slide in (one, other))
    rows, columns = (min(sides) for sides in zip(before.shape, after.shape, strict=True))
    shift, _, _ = phase_cross_correlation(before[:rows, :columns], after[:rows, :columns], upsample_factor=20)
    assert np.abs(shift).max() <= 0.25  # of a pixel of about 2 µm
    assert np.abs(before[:rows, :columns] - after[:rows, :columns]).mean() < 6


def test_two_calls_do_not_write_the_same_file(model: Path, tmp_path: Path) -> None:
    slide = tmp_path / "slide.tif"
    pixels = np.full((300, 300, 3), 120, np.uint8)
    tifffile.imwrite(slide, pixels, tile=(256, 256), resolution=(5_000, 5_000), resolutionunit="CENTIMETER")
    script = (
        "import sys; from pathlib import Path; from clinimm.lock import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    work = tmp_path / ".out.ome.tif.unfinished"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(work)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(BusyError):
            stain_file(StainRequest(model, slide, tmp_path / "out.ome.tif", without_safety_case=True))
        other.communicate()
    with locked(work):
        pass
    stain_file(StainRequest(model, slide, tmp_path / "out.ome.tif", without_safety_case=True))
    assert verify_file(tmp_path / "out.ome.tif").state is State.INTACT


def test_the_pseudonym_of_a_slide_is_no_digest_of_it(model: Path, tmp_path: Path) -> None:
    slide = tmp_path / "slide.tif"
    pixels = np.full((300, 300, 3), 120, np.uint8)
    tifffile.imwrite(slide, pixels, tile=(256, 256), resolution=(5_000, 5_000), resolutionunit="CENTIMETER")
    found = []
    for name in "ab":
        stain_file(StainRequest(model, slide, tmp_path / name, form="dicom", without_safety_case=True))
        header = pydicom.dcmread(tmp_path / name / "level-0.dcm", stop_before_pixels=True)
        found.append((header.PatientID, header.FrameOfReferenceUID))
    digest = source_digest(slide).upper()
    assert not any(patient.removeprefix("SLIDE-") in digest for patient, _ in found)
    assert found[0] != found[1]  # a stainer of no run has no key, so nothing links two outputs
