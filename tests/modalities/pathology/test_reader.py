"""One slide, one fact: who, when, at which resolution; and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from clinimm.config import IngestConfig
from clinimm.core.errors import InputRejected
from clinimm.modalities.pathology.reader import accepts, patient_of, scan, scanned_at
from clinimm.modality import Scan
from clinimm.sources.local import LocalSource

MakeSlide = Callable[..., Path]
_PARTS = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=8)


def _scan(root: Path, path: str, **rules: object) -> Scan:
    source = LocalSource(root, site="North", rules=IngestConfig(**rules))  # type: ignore[arg-type]
    return scan(source, next(file for file in source.files() if file.path == path))


def _code(root: Path, path: str) -> str:
    with pytest.raises(InputRejected) as caught:
        _scan(root, path)
    return caught.value.code


def test_the_fact_of_a_slide(make_slide: MakeSlide, tmp_path: Path) -> None:
    make_slide(tmp_path / "export" / "slides" / "MRN7" / "block_A.tif")
    found = _scan(tmp_path, "export/slides/MRN7/block_A.tif")
    (fact,), (who,) = found.facts, found.identities
    assert who.keys == ((None, "MRN7"),) and fact.patient == (None, "MRN7")
    assert fact.time == datetime(2024, 3, 1, 10, 20, tzinfo=UTC)
    assert (fact.code, fact.modality, fact.category) == ("SLIDE//HE", "pathology", "SM")
    assert fact.flags == () and fact.is_file and fact.instance
    assert fact.attributes["mpp_um"] == pytest.approx(0.5)
    assert (fact.attributes["rows"], fact.attributes["site"]) == (1024, "North")


def test_the_zone_of_the_source_holds(make_slide: MakeSlide, tmp_path: Path) -> None:
    make_slide(tmp_path / "MRN7__a.tif")
    (fact,) = _scan(tmp_path, "MRN7__a.tif", timezone="Europe/Vienna").facts
    assert fact.time == datetime(2024, 3, 1, 9, 20, tzinfo=UTC)


def test_a_slide_without_resolution_is_flagged(make_slide: MakeSlide, tmp_path: Path) -> None:
    make_slide(tmp_path / "MRN7__a.tif", mpp_um=None)
    (fact,) = _scan(tmp_path, "MRN7__a.tif").facts
    assert fact.flags == ("no_resolution",)
    assert "mpp_um" not in fact.attributes


def test_what_is_refused(make_slide: MakeSlide, tmp_path: Path) -> None:
    make_slide(tmp_path / "a.tif")
    make_slide(tmp_path / "slides" / "MRN1" / "MRN2__a.tif")
    make_slide(tmp_path / "P__timeless.tif", scanned=None)
    (tmp_path / "P__empty.svs").write_bytes(b"")
    (tmp_path / "P__text.svs").write_bytes(b"no slide at all" * 50)
    tifffile.imwrite(tmp_path / "P__photo.tif", np.zeros((64, 64, 3), np.uint8), photometric="rgb")
    tifffile.imwrite(
        tmp_path / "P__small.tif", np.zeros((128, 128, 3), np.uint8), tile=(64, 64), photometric="rgb"
    )
    assert _code(tmp_path, "a.tif") == "no-patient"
    assert _code(tmp_path, "slides/MRN1/MRN2__a.tif") == "patient-conflict"
    assert _code(tmp_path, "P__timeless.tif") == "no-time"
    assert _code(tmp_path, "P__empty.svs") == "empty-file"
    assert _code(tmp_path, "P__text.svs") == "not-a-slide"
    assert _code(tmp_path, "P__photo.tif") == "not-a-slide"
    assert _code(tmp_path, "P__small.tif") == "not-a-slide"


def test_a_cut_slide_is_refused_or_read(make_slide: MakeSlide, tmp_path: Path) -> None:
    whole = make_slide(tmp_path / "P__a.tif").read_bytes()
    for share in (0.01, 0.3, 0.9):
        (tmp_path / "P__a.tif").write_bytes(whole[: int(len(whole) * share)])
        try:
            _scan(tmp_path, "P__a.tif")
        except InputRejected as refusal:
            assert refusal.code in {"truncated", "corrupt-header", "no-time"}


@given(st.lists(_PARTS, min_size=1, max_size=4), _PARTS, _PARTS)
def test_the_folder_names_the_patient_at_any_depth(folders: list[str], patient: str, name: str) -> None:
    folders = [folder for folder in folders if folder.casefold() != "slides"]
    assert patient_of("/".join([*folders, "slides", patient, f"{name}.svs"])) == patient
    assert patient_of("/".join([*folders, f"{patient}__{name}.svs"])) == patient
    with pytest.raises(InputRejected, match="no-patient"):
        patient_of("/".join([*folders, f"{name}.svs"]))
    with pytest.raises(InputRejected, match="no-patient"):
        patient_of("/".join([*folders, "slides", f"{name}.svs"]))


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"aperio.Date": "12/29/09", "aperio.Time": "09:59:15"}, "2009-12-29T09:59:15+00:00"),
        (
            {"aperio.Date": "12/29/2019", "aperio.Time": "09:59:15", "aperio.Time Zone": "GMT-0500"},
            "2019-12-29T14:59:15+00:00",
        ),
        ({"aperio.Date": "12/29/09"}, "2009-12-29T23:59:59+00:00"),
        ({"hamamatsu.Created": "2009/12/31"}, "2009-12-31T23:59:59+00:00"),
        ({"leica.creation-date": "2010-10-25T12:30:00.5Z"}, "2010-10-25T12:30:00.500000+00:00"),
        ({"philips.DICOM_ACQUISITION_DATETIME": "20160718122300.000000"}, "2016-07-18T12:23:00+00:00"),
        ({"mirax.GENERAL.SLIDE_CREATIONDATETIME": "25/12/2012 11:57:31"}, "2012-12-25T11:57:31+00:00"),
    ],
)
def test_each_scanner_states_time_in_its_way(properties: dict[str, str], expected: str) -> None:
    assert scanned_at(properties, UTC).isoformat() == expected


@pytest.mark.parametrize("date", ["", "0001:01:01 00:00:00", "yesterday"])
def test_no_time_is_refused(date: str) -> None:
    with pytest.raises(InputRejected, match="no-time"):
        scanned_at({"tiff.DateTime": date}, UTC)


def test_names_and_whole_slide_files_are_accepted(make_dicom: Callable[..., bytes]) -> None:
    for name in ("a.svs", "A.SVS", "x/y.ndpi", "a.mrxs", "a.tiff"):
        assert accepts(name, b"")
    assert accepts("a.dcm", make_dicom(SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.6")[:512])
    assert not accepts("a.dcm", make_dicom()[:512])
    assert not accepts("a.png", b"\x89PNG")


def test_the_slides_of_the_test_data(test_data: Path, tmp_path: Path) -> None:
    shutil.copy(test_data / "slides" / "CMU-1-Small-Region.svs", tmp_path / "P1__cmu.svs")
    shutil.copy(test_data / "slides" / "TCGA-CR-7395-01A-01-TS1.svs", tmp_path / "P2__tcga.svs")
    shutil.copy(test_data / "slides" / "openslide_small.svs", tmp_path / "P3__small.svs")
    shutil.copy(test_data / "slides" / "multi-channel-z-series.ome.tif", tmp_path / "P4__z.ome.tif")
    (fact,) = _scan(tmp_path, "P1__cmu.svs").facts
    assert fact.time == datetime(2009, 12, 29, 9, 59, 15, tzinfo=UTC)
    assert fact.attributes["mpp_um"] == pytest.approx(0.499)
    assert "CPAPERIOCS" in fact.attributes["device"]
    assert _code(tmp_path, "P2__tcga.svs") == "no-time"
    assert _code(tmp_path, "P3__small.svs") == "not-a-slide"
    assert _code(tmp_path, "P4__z.ome.tif") == "not-a-slide"
    tcga = tmp_path / "P2__tcga.svs"
    comment = tifffile.tiffcomment(tcga)
    tcga.chmod(0o644)
    tifffile.tiffcomment(tcga, f"{comment}|Date = 03/01/14|Time = 10:20:30")
    assert _scan(tmp_path, "P2__tcga.svs").facts[0].flags == ("no_resolution",)


def test_a_dicom_slide_is_one_fact(test_data: Path, tmp_path: Path) -> None:
    import pydicom

    for path in (test_data / "slides" / "dicom_wsi").glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.PatientID = "MRN9"
        dataset.save_as(tmp_path / path.name)
    source = LocalSource(tmp_path)
    scans = [scan(source, file) for file in source.files()]
    facts = [fact for found in scans for fact in found.facts]
    assert len(scans) == 4 and len(facts) == 1
    assert facts[0].patient == (None, "MRN9")
    assert facts[0].time == datetime(2009, 12, 29, 9, 59, 15, tzinfo=UTC)
    assert facts[0].attributes["mpp_um"] == pytest.approx(0.499)
    dropped = sorted(name for found in scans for name in found.dropped)
    assert dropped == ["slide_label", "slide_level", "slide_overview"]


def test_a_dicom_slide_without_a_patient_is_refused(test_data: Path) -> None:
    source = LocalSource(test_data / "slides" / "dicom_wsi")
    codes = []
    for file in source.files():
        try:
            scan(source, file)
        except InputRejected as refusal:
            codes.append(refusal.code)
    assert codes == ["no-patient"]
