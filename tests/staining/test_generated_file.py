"""A file that is damaged gets an answer and a reason of ``provenance verify``, never a traceback."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest

from clinimm.cli.app import run
from clinimm.core.errors import InputRejected
from clinimm.staining.codec import Codec
from clinimm.staining.export import Identity, export
from clinimm.staining.generated_file import dicom_frames, read_generated
from clinimm.staining.provenance import State, manifest_beside, verify_file
from clinimm.staining.whole_slide import StainSettings
from tests.staining.whole_slide_parts import ORIGIN, on_glass, stain

#: Length of a level's header in these files: what is flipped and cut lies before the pixels.
HEADER = 4400
ALTERED, UNKNOWN = State.ALTERED.value, State.UNKNOWN.value


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes of one DICOM level and of an OME-TIFF of the same slide."""
    folder = tmp_path_factory.mktemp("good")
    stained = stain(folder, on_glass(300, 500, (50, 50, 400, 250)), StainSettings("KI67", 512, Codec()))
    export(stained, folder / "out", "dicom", ORIGIN, Identity("P1"))
    export(stained, folder / "out.ome.tif", "ome", ORIGIN, Identity("P1"))
    assert verify_file(folder / "out").state is State.INTACT
    level = sorted((folder / "out").glob("level-*.dcm"))[0]
    return {"dicom": level.read_bytes(), "ome": (folder / "out.ome.tif").read_bytes()}


def _without(keyword: str) -> Callable[[bytes], bytes]:
    return lambda content: _changed(content, lambda data: delattr(data, keyword))


def _changed(content: bytes, change: Callable[[pydicom.Dataset], object]) -> bytes:
    from io import BytesIO

    data = pydicom.dcmread(BytesIO(content))
    change(data)
    out = BytesIO()
    data.save_as(out)
    return out.getvalue()


def _replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def replaced(content: bytes) -> bytes:
        assert old in content
        return content.replace(old, new, 1)

    return replaced


BROKEN_DICOM: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda content: b"", "(empty-file)"),
    "preamble alone": (lambda content: content[:132], "there is no DICOM slide here"),
    "cut in the header": (lambda content: content[:1500], "(truncated)"),
    "cut in the pixels": (lambda content: content[:-3000], "(truncated)"),
    "no magic": (lambda content: bytes(132) + content[132:], "(not-dicom)"),
    "noise": (lambda content: b"DICM" + random.Random(1).randbytes(5000), "(not-dicom)"),
    "length past the end": (
        _replaced(b"\x08\x00\x60\x00CS\x02\x00", b"\x08\x00\x60\x00CS\xff\xff"),
        "(truncated)",
    ),
    "unknown representation": (
        _replaced(b"\x08\x00\x60\x00CS", b"\x08\x00\x60\x00\xff\xff"),
        "no DICOM element",
    ),
    "no series": (_without("SeriesInstanceUID"), "(damaged)"),
    "no columns": (_without("TotalPixelMatrixColumns"), "(damaged)"),
    "no frames": (_without("NumberOfFrames"), "(damaged)"),
    "no pixels": (_without("PixelData"), "(no-pixels)"),
    "number that is none": (
        lambda content: content.replace(b"\x28\x00\x08\x00IS\x02\x00", b"\x28\x00\x08\x00IS\x02\x00?", 1)[
            :-1
        ],
        "(",
    ),
    "no transfer syntax": (
        _replaced(b"\x02\x00\x10\x00UI", b"\x02\x00\x11\x00UI"),
        "(",
    ),
}


@pytest.mark.parametrize("name", BROKEN_DICOM)
def test_a_broken_dicom_file_is_not_vouched_for_and_says_why(
    good: dict[str, bytes], tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change, reason = BROKEN_DICOM[name]
    file = tmp_path / "level-0.dcm"
    file.write_bytes(change(good["dicom"]))
    for place in (file, tmp_path):  # the file, and the folder that holds nothing else
        assert run(["provenance", "verify", str(place)]) == UNKNOWN
        said = capsys.readouterr()
        assert "not vouched for" in said.out and "it cannot be read: " in said.out
        assert said.err == ""
    assert run(["provenance", "verify", str(file)]) == UNKNOWN
    assert reason in capsys.readouterr().out


BROKEN_TIFF: dict[str, Callable[[bytes], bytes]] = {
    "cut in half": lambda content: content[: len(content) // 2],
    "no directory": lambda content: content[:8],
    "directory past the end": lambda content: content[:4] + b"\xff\xff\xff\x7f" + content[8:],
    "noise after the first bytes": lambda content: content[:4] + random.Random(2).randbytes(3000),
}


@pytest.mark.parametrize("name", BROKEN_TIFF)
def test_a_broken_tiff_is_not_vouched_for_and_says_why(
    good: dict[str, bytes], tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "out.ome.tif"
    file.write_bytes(BROKEN_TIFF[name](good["ome"]))
    assert run(["provenance", "verify", str(file)]) == UNKNOWN
    assert "it cannot be read: " in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["dicom", "ome"])
@pytest.mark.parametrize("seed", range(3))
def test_any_flipped_bits_have_an_answer(
    good: dict[str, bytes], tmp_path: Path, kind: str, seed: int
) -> None:
    """Flips anywhere in a header: altered, or not vouched for; intact where no signature reaches."""
    chance = random.Random(seed)
    file = tmp_path / ("level-0.dcm" if kind == "dicom" else "out.ome.tif")
    for _ in range(40):
        content = bytearray(good[kind])
        for _ in range(chance.choice([1, 1, 4])):
            content[chance.randrange(min(HEADER, len(content)) if kind == "dicom" else len(content))] ^= (
                1 << chance.randrange(8)
            )
        file.write_bytes(content)
        verdict = verify_file(file)
        assert verdict.state is State.INTACT or verdict.findings


def test_tile_counts_that_do_not_fit_are_no_traceback(good: dict[str, bytes], tmp_path: Path) -> None:
    """TIFF 6.0, section 15: TileByteCounts has as many values as TileOffsets."""
    import tifffile

    file = tmp_path / "out.ome.tif"
    file.write_bytes(good["ome"])
    with tifffile.TiffFile(file, mode="r+") as tiff:
        page = tiff.pages[0]
        assert isinstance(page, tifffile.TiffPage)
        page.tags["TileByteCounts"].overwrite((5,))
    verdict = verify_file(file)
    assert verdict.state is State.UNKNOWN
    assert "a picture has 4 tiles and the sizes of 1" in verdict.findings[0]


def test_places_without_a_file_are_said_to_be_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.dcm").mkdir()
    os.mkfifo(tmp_path / "pipe.dcm")
    for name, reason in {
        "absent.dcm": "cannot-open",
        "empty": "there is no DICOM slide here",
        "folder.dcm": "there is no DICOM slide here",
        "pipe.dcm": "not-a-file",
    }.items():
        assert run(["provenance", "verify", str(tmp_path / name)]) == UNKNOWN
        assert reason in capsys.readouterr().out


def test_one_broken_level_alters_the_slide_and_the_others_are_still_read(tmp_path: Path) -> None:
    stained = stain(tmp_path, on_glass(700, 900, (100, 100, 800, 600)), StainSettings("KI67", 512, Codec()))
    folder = tmp_path / "out"
    export(stained, folder, "dicom", ORIGIN, Identity("P1"))
    manifest_beside(folder).unlink()
    broken = folder / "level-1.dcm"
    broken.write_bytes(broken.read_bytes()[:1500])
    verdict = verify_file(folder)
    assert verdict.state is State.ALTERED and verdict.state.value == ALTERED
    assert "levels were signed and" in verdict.findings[0]
    assert "not checked: level-1.dcm (the file ends in element" in verdict.findings[-1]
    assert verdict.provenance is not None and verdict.provenance.marks  # what is left still says what it is
    assert verify_file(broken).state is State.UNKNOWN


def test_frames_that_cannot_be_are_refused(good: dict[str, bytes], tmp_path: Path) -> None:
    file = tmp_path / "level-0.dcm"
    file.write_bytes(good["dicom"])
    header = pydicom.dcmread(file, stop_before_pixels=True)
    for count in (0, 2_000_000_000):
        header.NumberOfFrames = count
        with pytest.raises(InputRejected, match=f"{count} frames"):
            next(dicom_frames(file, header))


def test_what_is_read_says_of_itself_that_it_is_generated(good: dict[str, bytes], tmp_path: Path) -> None:
    for kind, name in (("dicom", "level-0.dcm"), ("ome", "out.ome.tif")):
        (tmp_path / name).write_bytes(good[kind])
        said = read_generated(tmp_path / name).said
        assert said is not None and said.stain == "KI67"
