"""A signed virtual stain is told from an altered one, from a stripped one, and from a stranger's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import tifffile
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from clinimm.core.sign import canonical, sign
from clinimm.staining import sign_manifest as module
from clinimm.staining.codec import Codec, CodecName
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
    assert verdict.findings == (
        "the rest of the header was changed in level 0",
        "the mark was removed: attributes of level-0.dcm",
    )


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
    verdict = verify_file(file)
    assert verdict.state is State.UNKNOWN
    assert "neither TIFF nor DICOM" in verdict.findings[0]


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
        data.RetrieveAETitle, data.InstanceAvailability = "PACS", "ONLINE"
        data.private_block(0x0011, "ARCHIVE", create=True).add_new(0x01, "LO", "shelf 7")
        data.save_as(file)
    verdict = verify_file(dicom)
    assert (verdict.state, verdict.findings) == (State.INTACT, ())


#: Alterations of a DICOM header that keep every pixel: the file, and what is done to it.
def _slope(data: pydicom.Dataset) -> None:
    groups = data.SharedFunctionalGroupsSequence[0]
    groups.RealWorldValueMappingSequence[0].RealWorldValueSlope *= 1 + 1e-9


def _sparse(data: pydicom.Dataset) -> None:
    data.DimensionOrganizationType = "TILED_SPARSE"
    frames = []
    for number in reversed(range(int(data.NumberOfFrames))):
        place = pydicom.Dataset()
        place.ColumnPositionInTotalImagePixelMatrix = 1 + 256 * number
        frame = pydicom.Dataset()
        frame.PlanePositionSlideSequence = [place]
        frames.append(frame)
    data.PerFrameFunctionalGroupsSequence = frames


def _colours(data: pydicom.Dataset) -> None:
    data.PhotometricInterpretation = "RGB"


def _profile(data: pydicom.Dataset) -> None:
    path = data.OpticalPathSequence[0]
    path.ICCProfile = path.ICCProfile[:-2] + b"zz"


def _optical_path(data: pydicom.Dataset) -> None:
    data.OpticalPathSequence[0].OpticalPathDescription = "brightfield"


def _comments(data: pydicom.Dataset) -> None:
    data.PatientComments = "a real stain"


def _other_ids(data: pydicom.Dataset) -> None:
    data.OtherPatientIDs = "P2"


@pytest.mark.parametrize(
    ("part", "alter"),
    [
        ("uncertainty", _slope),
        ("level-1", _sparse),
        ("level-1", _colours),
        ("level-1", _profile),
        ("level-1", _optical_path),
        ("level-1", _comments),
        ("level-1", _other_ids),
    ],
)
def test_every_other_attribute_is_signed_and_none_can_be_added(
    dicom: Path, part: str, alter: Callable[[pydicom.Dataset], None]
) -> None:
    file = dicom / f"{part}.dcm"
    data = pydicom.dcmread(file)
    alter(data)
    data.save_as(file)
    where = "the uncertainty map" if part == "uncertainty" else "level 1"
    verdict = verify_file(dicom)
    assert verdict.state is State.ALTERED
    assert verdict.findings == (f"the rest of the header was changed in {where}",)


def test_a_second_map_that_was_not_signed_is_found(dicom: Path) -> None:
    shutil.copy(dicom / "uncertainty.dcm", dicom / "z.dcm")
    verdict = verify_file(dicom)
    assert (verdict.state, verdict.findings) == (State.ALTERED, ("z.dcm was not signed",))


def test_a_folder_with_other_dicom_files_is_not_vouched_for(dicom: Path, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    other = made(tmp_path / "second", "dicom")
    shutil.copy(other / "level-0.dcm", dicom / "z.dcm")
    verdict = verify_file(dicom)
    assert verdict.state is State.UNKNOWN
    assert verdict.findings == ("other DICOM files lie in the folder, and were not checked: z.dcm",)
    series = pydicom.dcmread(dicom / "level-0.dcm", stop_before_pixels=True).SeriesInstanceUID
    assert series in verdict.checked and "level-2.dcm" in verdict.checked
    assert verify_file(dicom / "level-0.dcm").state is State.INTACT


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
        "the rest of the header was changed in level 1, the uncertainty map",
    )


@pytest.mark.parametrize("where", ["tags of level 0", "tags of level 2", "OME-XML"])
def test_a_changed_resolution_is_found_in_a_tiff(ome: Path, where: str) -> None:
    if where == "OME-XML":
        _overwrite(ome, b'PhysicalSizeX="0.5"', b'PhysicalSizeX="0.6"')
        expected: tuple[str, ...] = (
            "the pixel spacing of level 0 was changed",
            "the description was changed in the file",
        )
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


def _set(path: Path, picture: int, tag: str, value: object) -> None:
    with tifffile.TiffFile(path, mode="r+") as tiff:
        page = tiff.pages[picture]
        assert isinstance(page, tifffile.TiffPage)
        page.tags[tag].overwrite(value)


@pytest.mark.parametrize(
    ("picture", "tag", "value"),
    [(1, "PhotometricInterpretation", 2), (2, "YCbCrSubSampling", (1, 1)), (3, "TileWidth", 512)],
)
def test_a_changed_field_of_a_tiff_is_found(ome: Path, picture: int, tag: str, value: object) -> None:
    _set(ome, picture, tag, value)
    verdict = verify_file(ome)
    assert verdict.state is State.ALTERED
    assert "the layout was changed in the file" in verdict.findings


def test_forged_sub_directories_of_a_tiff_are_found(ome: Path) -> None:
    with tifffile.TiffFile(ome) as tiff:
        first, last = tiff.pages[0], tiff.pages[3]
        assert isinstance(first, tifffile.TiffPage)
        below = list(first.tags["SubIFDs"].value)
        assert last.offset not in below
    _set(ome, 0, "SubIFDs", (below[0], last.offset))
    verdict = verify_file(ome)
    assert (verdict.state, verdict.findings) == (State.ALTERED, ("the layout was changed in the file",))


@pytest.mark.parametrize(("samples", "tile"), [(3, None), (4, (256, 256)), (1, (256, 256))])
def test_a_page_that_was_added_to_a_tiff_is_found(
    ome: Path, samples: int, tile: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.zeros((256, 256, samples) if samples > 1 else (256, 256), np.uint8)
    kind = "minisblack" if samples == 1 else "rgb"
    monkeypatch.setattr(tifffile.TiffFile, "is_appendable", True)  # it would refuse for the OME-XML
    tifffile.imwrite(ome, pixels, append=True, tile=tile, photometric=kind, metadata=None)
    verdict = verify_file(ome)
    assert verdict.state is State.ALTERED
    assert "the layout was changed in the file" in verdict.findings


@pytest.mark.parametrize("codec", ["jpeg", "deflate"])
def test_the_layout_is_signed_as_it_is_written(tmp_path: Path, codec: CodecName) -> None:
    stained = stain(
        tmp_path, on_glass(200, 300, (50, 50, 200, 150)), StainSettings("KI67", 512, Codec(codec))
    )
    export(stained, tmp_path / "out.ome.tif", "ome", ORIGIN, Identity("P1"))
    assert verify_file(tmp_path / "out.ome.tif").findings == ()


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("number", [1, 2])
def test_a_manifest_of_an_older_form_is_read_and_not_vouched_for(
    tmp_path: Path, kind: Format, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"clinimm.synthetic-manifest/{number}"
    with monkeypatch.context() as older:
        older.setattr(module, "SCHEMA", name)
        if number == 1:
            older.setattr(module, "canonical", _without_attributes)
        path = made(tmp_path, kind)
    assert name in manifest_beside(path).read_text(encoding="utf-8")
    verdict = verify_file(path)
    assert verdict.state is State.UNKNOWN
    (finding,) = verdict.findings
    assert finding.startswith(f"the manifest is of an older form, {name}: it covers neither ")


def _without_attributes(body: dict[str, object]) -> bytes:
    body.pop("attributes", None)
    return canonical(body)


def _foreign(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Strip the manifest from a file, and lay one beside it that a stranger changed and signed."""
    beside = manifest_beside(path)
    body = json.loads(beside.read_text(encoding="utf-8"))["manifest"]
    change(body)
    private, _ = _pair(path.parent)
    signature = asdict(sign(canonical(body), private))
    beside.write_text(json.dumps({"manifest": body, "signature": signature}), encoding="utf-8")
    _overwrite(path, b"virtual-stain/manifest", b"virtual-stain/manifesx")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda body: body.pop("levels"), "levels is missing"),
        (lambda body: body.pop("attributes"), "attributes is missing"),
        (lambda body: body.update(micrometres_per_pixel=[0, 0]), "micrometres_per_pixel makes no sense"),
        (lambda body: body.update(source="x"), "source makes no sense"),
        (lambda body: body.update(shares={"stained": "all"}), "shares makes no sense"),
        (lambda body: body.update(cautions={"sentences": [1]}), "cautions makes no sense"),
        (lambda body: body.update(attributes={"salt": "", "digests": {"a": 1}}), "attributes makes no sense"),
    ],
)
def test_a_manifest_without_its_form_is_said_to_be_so(
    ome: Path, change: Callable[[dict[str, Any]], object], fault: str
) -> None:
    _foreign(ome, change)
    verdict = verify_file(ome)
    assert (verdict.state, verdict.manifest) == (State.UNKNOWN, None)
    assert verdict.findings == (f"the manifest is not of the form that clinimm writes: {fault}",)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"[" * 100_000, b'{"manifest": {"a": "\\ud800"}, "signature": {}}']
)
def test_a_file_beside_that_is_no_manifest_is_another_one(ome: Path, content: bytes) -> None:
    manifest_beside(ome).write_bytes(content)
    assert verify_file(ome).findings == ("the manifest beside the file is another one",)
    _overwrite(ome, b"virtual-stain/manifest", b"virtual-stain/manifesx")
    verdict = verify_file(ome)
    assert verdict.state is State.ALTERED
    assert verdict.findings == ("the manifest is not what its signature was made for",)


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
