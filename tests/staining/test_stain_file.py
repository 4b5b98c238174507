"""A scanner's slide through a stainer: the place on the glass is kept, and nothing of the patient."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import tifffile
import torch
from skimage.registration import phase_cross_correlation

from clinimm.core.errors import BusyError, ConfigError, ModelError
from clinimm.lock import locked
from clinimm.modalities.pathology.slide import open_slide
from clinimm.modalities.pathology.synthetic import is_synthetic
from clinimm.nn.stain.generator import GeneratorSettings
from clinimm.staining.dicom_source import source_digest
from clinimm.staining.provenance import State, manifest_beside, verify_file
from clinimm.staining.replace_output import clear_folder
from clinimm.staining.stain_file import StainRequest, stain_file
from clinimm.staining.stainer import Stainer, StainerSpec
from clinimm.tasks.virtual_staining import StainTask

#: The model of these tests has no safety case, and nobody evaluated it.
PLAIN: dict[str, Any] = {"without_safety_case": True, "despite_verdict": True}


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
    request = StainRequest(model, source, tmp_path / "out", form="dicom", **PLAIN, keep_identity=True)
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
    stain_file(StainRequest(model, source, tmp_path / "out.ome.tif", lossless=True, **PLAIN))
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
            stain_file(StainRequest(model, slide, tmp_path / "out.ome.tif", **PLAIN))
        other.communicate()
    with locked(work):
        pass
    stain_file(StainRequest(model, slide, tmp_path / "out.ome.tif", **PLAIN))
    assert verify_file(tmp_path / "out.ome.tif").state is State.INTACT


def test_the_pseudonym_of_a_slide_is_no_digest_of_it(model: Path, tmp_path: Path) -> None:
    slide = tmp_path / "slide.tif"
    pixels = np.full((300, 300, 3), 120, np.uint8)
    tifffile.imwrite(slide, pixels, tile=(256, 256), resolution=(5_000, 5_000), resolutionunit="CENTIMETER")
    found = []
    for name in "ab":
        stain_file(StainRequest(model, slide, tmp_path / name, form="dicom", **PLAIN))
        header = pydicom.dcmread(tmp_path / name / "level-0.dcm", stop_before_pixels=True)
        found.append((header.PatientID, header.FrameOfReferenceUID))
    digest = source_digest(slide).upper()
    assert not any(patient.removeprefix("SLIDE-") in digest for patient, _ in found)
    assert found[0] != found[1]  # a stainer of no run has no key, so nothing links two outputs


def _plain_slide(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((300, 300, 3), 120, np.uint8)
    tifffile.imwrite(path, pixels, tile=(256, 256), resolution=(5_000, 5_000), resolutionunit="CENTIMETER")
    return path


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("out", ["slides", ".", "slides/a", "linked", "other", "slides/.."])
def test_a_folder_of_anything_else_is_never_replaced(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    monkeypatch.chdir(tmp_path)
    slide = _plain_slide(Path("slides/a/slide.tif"))
    Path("other").mkdir()
    Path("other/notes.txt").write_text("mine")
    Path("linked").symlink_to("other")
    before = _tree(tmp_path)
    with pytest.raises(ConfigError, match=f"--out {out if out != '.' else ''}"):
        stain_file(StainRequest(model, slide, Path(out), form="dicom", **PLAIN))
    assert _tree(tmp_path) == before


def test_no_file_but_an_earlier_output_is_replaced(model: Path, tmp_path: Path) -> None:
    slide = _plain_slide(tmp_path / "slide.tif")
    real = _plain_slide(tmp_path / "real.ome.tif")
    before = real.read_bytes()
    for source in (slide, real):
        with pytest.raises(ConfigError, match=r"did not make|slide itself"):
            stain_file(StainRequest(model, source, real, **PLAIN))
    assert real.read_bytes() == before
    for name, form in (("out.ome.tif", "ome"), ("out", "dicom")):
        request = StainRequest(model, slide, tmp_path / name, form=form, **PLAIN)  # type: ignore[arg-type]
        for _ in range(2):
            stain_file(request)
        assert verify_file(request.out).state is State.INTACT
        manifest_beside(request.out).unlink()
        with pytest.raises(ConfigError, match="manifest"):
            stain_file(request)
    assert verify_file(tmp_path / "out").manifest is not None


def test_a_file_put_beside_an_earlier_output_survives(model: Path, tmp_path: Path) -> None:
    request = StainRequest(
        model, _plain_slide(tmp_path / "slide.tif"), tmp_path / "out", form="dicom", **PLAIN
    )
    stain_file(request)
    (request.out / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"notes\.txt"):
        stain_file(request)
    with pytest.raises(ConfigError, match=r"notes\.txt"):  # also if it comes while a slide is being stained
        clear_folder(request.out)
    assert (request.out / "notes.txt").read_text() == "mine" and (request.out / "level-0.dcm").is_file()


def test_a_run_that_was_never_evaluated_needs_the_option(model: Path, tmp_path: Path) -> None:
    request = StainRequest(
        model, _plain_slide(tmp_path / "slide.tif"), tmp_path / "out.ome.tif", without_safety_case=True
    )
    with pytest.raises(ModelError, match=r"was not evaluated.*--despite-verdict"):
        stain_file(request)
    assert not request.out.exists()
    outcome = stain_file(replace(request, despite_verdict=True))
    assert {"NOT EVALUATED", "NOT REGISTERED"} <= set(outcome.stained.settings.notes)
    assert not outcome.cautions.evaluated
