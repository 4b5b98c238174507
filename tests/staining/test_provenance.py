"""A signed virtual stain is told from an altered one, from a stripped one, and from a stranger's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import tifffile
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from clinimm.core.errors import InputRejected
from clinimm.core.sign import canonical, sign
from clinimm.staining import provenance as module
from clinimm.staining.codec import Codec
from clinimm.staining.export import Format, Identity, export
from clinimm.staining.provenance import State, is_synthetic, manifest_beside, verify_file
from clinimm.staining.whole_slide import Patient, StainSettings
from tests.staining.whole_slide_parts import ORIGIN, hatch_corner, on_glass, stain

FORMATS: tuple[Format, Format] = ("ome", "dicom")


@pytest.fixture
def ome(tmp_path: Path) -> Path:
    return made(tmp_path, "ome")


@pytest.fixture
def dicom(tmp_path: Path) -> Path:
    return made(tmp_path, "dicom")


def made(folder: Path, kind: Format, key: Path | None = None) -> Path:
    pixels = on_glass(700, 1500, (300, 200, 1100, 600))
    stained = stain(folder, pixels, StainSettings("KI67", 512, Codec()), Patient(refuse=hatch_corner))
    path = folder / ("out.ome.tif" if kind == "ome" else "out")
    export(stained, path, kind, ORIGIN, Identity("P1"), key)
    return path


def _pair(folder: Path) -> tuple[Path, Path]:
    key = Ed25519PrivateKey.generate()
    private, public = folder / "other.key", folder / "other.pub"
    private.write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()))
    public.write_bytes(
        key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def _overwrite(path: Path, old: bytes, new: bytes) -> None:
    assert len(old) == len(new)
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


@pytest.mark.parametrize("kind", FORMATS)
def test_what_was_signed_is_intact(tmp_path: Path, kind: Format) -> None:
    verdict = verify_file(made(tmp_path, kind))
    assert (verdict.state, verdict.findings) == (State.INTACT, ())
    assert verdict.provenance is not None and verdict.manifest is not None
    assert (verdict.provenance.stain, verdict.provenance.model_digest) == ("KI67", "a" * 64)
    assert verdict.provenance.source_digest == "5" * 64
    assert 0 < verdict.manifest["shares"]["refused"] < 0.1


def test_both_formats_hold_the_same_signed_pixels(tmp_path: Path) -> None:
    signed = [verify_file(made(tmp_path, kind)).manifest for kind in FORMATS]
    assert signed[0] is not None and signed[1] is not None
    for part in ("levels", "uncertainty", "shares"):
        assert signed[0][part] == signed[1][part]


def test_a_single_file_of_the_folder_is_enough_to_name(dicom: Path) -> None:
    assert verify_file(dicom / "level-1.dcm").state is State.INTACT


def test_manifest_beside_the_file_may_be_lost(ome: Path) -> None:
    manifest_beside(ome).unlink()
    assert verify_file(ome).state is State.INTACT


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_changed_pixel_is_found_at_any_level_of_a_tiff(ome: Path, level: int) -> None:
    with tifffile.TiffFile(ome) as tiff:
        page = tiff.pages[level]
        assert isinstance(page, tifffile.TiffPage)
        place = page.dataoffsets[-1] + page.databytecounts[-1] // 2
    content = bytearray(ome.read_bytes())
    content[place] ^= 1
    ome.write_bytes(content)
    verdict = verify_file(ome)
    assert verdict.state is State.ALTERED
    assert f"the pixels of level {level} were changed" in verdict.findings


def test_a_changed_pixel_is_found_in_dicom(dicom: Path) -> None:
    file = dicom / "level-1.dcm"
    content = bytearray(file.read_bytes())
    content[-2000] ^= 1
    file.write_bytes(content)
    verdict = verify_file(dicom)
    assert verdict.state is State.ALTERED and verdict.findings == ("the pixels of level 1 were changed",)


def test_a_missing_level_and_a_missing_map_are_found(dicom: Path) -> None:
    (dicom / "level-2.dcm").unlink()
    (dicom / "uncertainty.dcm").unlink()
    assert verify_file(dicom).findings == (
        "3 levels were signed and 2 are here",
        "the uncertainty map was removed",
    )


def test_a_changed_uncertainty_map_is_found(dicom: Path) -> None:
    data = pydicom.dcmread(dicom / "uncertainty.dcm")
    data.PixelData = bytes(len(data.PixelData))
    data.save_as(dicom / "uncertainty.dcm")
    assert verify_file(dicom).findings == ("the uncertainty map was changed",)


def test_stripped_attributes_are_found(dicom: Path) -> None:
    file = dicom / "level-0.dcm"
    content = file.read_bytes()
    element = b"\x08\x00\x1c\x00CS\x04\x00YES "
    assert element in content
    file.write_bytes(content.replace(element, b""))
    verdict = verify_file(dicom)
    assert verdict.state is State.ALTERED
    assert verdict.findings == ("the mark was removed: attributes of level-0.dcm",)


def test_a_stripped_description_is_found(ome: Path) -> None:
    _overwrite(ome, b"clinimm.synthetic/1 {", b"clinimm.authentic/1 {")
    verdict = verify_file(ome)
    assert verdict.state is State.ALTERED
    assert any("the mark was removed: description of picture 1" in one for one in verdict.findings)


def test_a_tiff_written_anew_without_its_marks_is_told_by_its_label(ome: Path, tmp_path: Path) -> None:
    with tifffile.TiffFile(ome) as tiff:
        pixels = tiff.series[0].levels[0].asarray()
    plain = tmp_path / "elsewhere" / "plain.tif"
    plain.parent.mkdir()
    tifffile.imwrite(plain, pixels, tile=(256, 256), compression="deflate", metadata=None)
    assert is_synthetic(plain) is None
    verdict = verify_file(plain)
    assert verdict.state is State.ALTERED
    assert "every mark in the file was removed" in verdict.findings[0]
    tifffile.imwrite(plain, np.roll(pixels, 300, axis=0), tile=(256, 256), metadata=None)
    assert verify_file(plain).findings == ("nothing says that it was generated",)


def test_a_derived_file_that_kept_the_mark_is_known_for_what_it_is(ome: Path, tmp_path: Path) -> None:
    found = is_synthetic(ome)
    assert found is not None
    derived = tmp_path / "elsewhere" / "crop.tif"
    derived.parent.mkdir()
    crop = np.zeros((256, 256, 3), np.uint8)
    tifffile.imwrite(derived, crop, tile=(256, 256), description=found.mark, metadata=None)
    again = is_synthetic(derived)
    assert again is not None and (again.stain, again.model_digest) == ("KI67", "a" * 64)
    verdict = verify_file(derived)
    assert verdict.state is State.UNKNOWN and "nobody vouches" in verdict.findings[0]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_foreign_key_is_not_vouched_for_until_somebody_does(tmp_path: Path, kind: Format) -> None:
    sign(b"makes the own key")
    private, public = _pair(tmp_path)
    path = made(tmp_path, kind, private)
    verdict = verify_file(path)
    assert verdict.state is State.UNKNOWN
    assert any("--key FILE" in one for one in verdict.findings)
    assert verify_file(path, public).state is State.INTACT


def test_a_manifest_that_was_edited_is_found(ome: Path) -> None:
    _overwrite(ome, b'"refused": 0.0', b'"refused": 0.1')
    manifest_beside(ome).unlink()
    verdict = verify_file(ome)
    assert (verdict.state, verdict.manifest) == (State.ALTERED, None)


def test_the_manifest_of_another_slide_does_not_fit(ome: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    stained = stain(other, on_glass(700, 1500, (100, 100, 900, 600)), StainSettings("CD3", 512))
    export(stained, other / "out.ome.tif", "ome", ORIGIN, Identity("P1"))
    shutil.copy(manifest_beside(other / "out.ome.tif"), manifest_beside(ome))
    assert verify_file(ome).findings == ("the manifest beside the file is another one",)


def test_manifest_beside_the_file_is_for_people(ome: Path) -> None:
    value = json.loads(manifest_beside(ome).read_text(encoding="utf-8"))
    assert value["manifest"]["label"] == "VIRTUAL STAIN - NOT A REAL STAIN - KI67"
    assert set(value["signature"]) == {"algorithm", "key_id", "public_key", "value"}


def test_a_file_that_is_no_slide_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("text")
    with pytest.raises(InputRejected, match="neither TIFF nor DICOM"):
        verify_file(file)


MOVED = {
    "the patient was changed": {"PatientID": "P2", "PatientName": "P2^"},
    "the study was changed": {"StudyInstanceUID": "1.2.3", "AccessionNumber": "77"},
    "the series was changed": {"SeriesInstanceUID": "1.2.4"},
    "the frame of reference was changed": {"FrameOfReferenceUID": "1.2.5"},
    "the specimen was changed": {"ContainerIdentifier": "other"},
    "the derivation was changed": {"ImageComments": "VIRTUAL STAIN, as good as a real one"},
}


@pytest.mark.parametrize("finding", MOVED)
def test_a_slide_that_is_moved_to_somebody_else_is_altered(dicom: Path, finding: str) -> None:
    files = sorted(dicom.glob("level-*.dcm"))
    for file in files:
        data = pydicom.dcmread(file)
        data.update(MOVED[finding])
        data.save_as(file)
    verdict = verify_file(files[0])
    assert verdict.state is State.ALTERED
    assert verdict.findings == (f"{finding} in level 0, level 1, level 2",)


def test_attributes_that_an_archive_adds_are_no_alteration(dicom: Path) -> None:
    for file in sorted(dicom.iterdir()):
        data = pydicom.dcmread(file)
        data.InstitutionName, data.StationName = "Northfield", "PACS"
        data.save_as(file)
    assert verify_file(dicom).state is State.INTACT


def test_a_changed_pixel_spacing_is_found_in_dicom(dicom: Path) -> None:
    for name, keyword in (("level-1.dcm", "ImagedVolumeWidth"), ("uncertainty.dcm", "")):
        data = pydicom.dcmread(dicom / name)
        if keyword:
            data[keyword].value *= 1.01
        else:
            data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = ["0.004", "0.008"]
        data.save_as(dicom / name)
    assert verify_file(dicom).findings == (
        "the pixel spacing of level 1 was changed",
        "the pixel spacing of the uncertainty map was changed",
    )


@pytest.mark.parametrize("where", ["tags of level 0", "tags of level 2", "OME-XML"])
def test_a_changed_resolution_is_found_in_a_tiff(ome: Path, where: str) -> None:
    if where == "OME-XML":
        _overwrite(ome, b'PhysicalSizeX="0.5"', b'PhysicalSizeX="0.6"')
        expected = ("the pixel spacing of level 0 was changed", "the description was changed in the file")
    else:
        level = int(where[-1])
        with tifffile.TiffFile(ome, mode="r+") as tiff:
            page = tiff.pages[level]
            assert isinstance(page, tifffile.TiffPage)
            page.tags["XResolution"].overwrite((12_345, 1))
        expected = (f"the pixel spacing of level {level} was changed",)
    verdict = verify_file(ome)
    assert (verdict.state, verdict.findings) == (State.ALTERED, expected)


def test_a_changed_description_is_found_in_a_tiff(ome: Path) -> None:
    _overwrite(ome, b'K="Use">research only<', b'K="Use">for diagnosis<')
    verdict = verify_file(ome)
    assert verdict.state is State.ALTERED
    assert "the description was changed in the file" in verdict.findings


@pytest.mark.parametrize("kind", FORMATS)
def test_a_manifest_of_the_older_form_is_read_and_named_as_such(
    tmp_path: Path, kind: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(module, "SCHEMA", "clinimm.synthetic-manifest/1")
        older.setattr(module, "canonical", _without_attributes)
        path = made(tmp_path, kind)
    text = manifest_beside(path).read_text(encoding="utf-8")
    assert "synthetic-manifest/1" in text
    verdict = verify_file(path)
    assert verdict.state is State.INTACT
    assert verdict.findings == (
        "the manifest is of an older form, clinimm.synthetic-manifest/1: its signature covers neither "
        "patient, study and series nor the description",
    )


def _without_attributes(body: dict[str, object]) -> bytes:
    body.pop("attributes", None)
    return canonical(body)


def test_cautions_are_signed_and_stand_in_the_file(tmp_path: Path) -> None:
    path = made(tmp_path, "dicom")
    said = "No safety case: no tile could be refused, and errors are not calibrated."
    verdict = verify_file(path)
    assert verdict.manifest is not None and said in verdict.manifest["cautions"]["sentences"]
    assert verdict.manifest["refused_tiles"] == {"hallucination": 1, "fold": 1}
    for file in path.iterdir():
        data = pydicom.dcmread(file, stop_before_pixels=True)
        assert said in data.DerivationDescription and said in data.ImageComments
    with tifffile.TiffFile(made(tmp_path / "ome", "ome")) as tiff:
        assert said in str(tiff.ome_metadata)
