"""Broken and hostile slides: each is read or refused by name, in a process that may not take much memory.

One process reads all files of a test, under ``RLIMIT_AS``: whatever asks for more than that is an error
there, and so is any other exception than a refusal.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile

from tests.modalities.pathology.made_slides import (
    textured,
    write_dicom,
    write_ome,
    write_pyramid,
    write_svs,
)

#: Address space above what the imports have taken, MiB.
_ALLOWED_MIB = 320
_CHILD = """
import json, resource, sys
from pathlib import Path
import imagecodecs, numpy, openslide, PIL.Image, PIL.PngImagePlugin, PIL.JpegImagePlugin
from clinimm.core.errors import InputRejected
from clinimm.modalities.pathology import dicom_slide, openslide_file, picture, tiff_file
from clinimm.modalities.pathology.slide import Slide
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + (int(sys.argv[1]) << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
found = {}
for path in map(Path, sys.argv[2:]):
    try:
        with Slide(path) as slide:
            for index, level in enumerate(slide.info.levels):
                slide.read_region(index, (0, 0, min(level.width, 600), min(level.height, 600)))
            slide.thumbnail(64)
            found[path.name] = "read"
            slide.resolution
    except InputRejected as refusal:
        assert refusal.reason and refusal.remedy
        found[path.name] = refusal.code
    except BaseException as error:
        found[path.name] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
"""


def _outcomes(paths: list[Path]) -> dict[str, str]:
    command = [sys.executable, "-c", _CHILD, str(_ALLOWED_MIB), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _patched(path: Path, tag: int, value: Any) -> Path:
    """A TIFF after one tag of its first directory was overwritten."""
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages.first.tags[tag].overwrite(value)
    return path


def _tiff(path: Path, **options: Any) -> Path:
    return write_pyramid(path, textured(600, 500), **options)


def _tile_tags(path: Path) -> tuple[list[int], list[int]]:
    with tifffile.TiffFile(path) as file:
        return list(file.pages.first.dataoffsets), list(file.pages.first.databytecounts)


def test_tiffs_are_read_or_refused_by_name(tmp_path: Path) -> None:
    expected = {}

    def case(name: str, code: str) -> Path:
        expected[name] = code
        return tmp_path / name

    path = _tiff(case("loop.tif", "corrupt-header"))
    _loop(path)
    path = _tiff(case("zero_length_tile.tif", "cannot-read"))
    offsets, counts = _tile_tags(path)
    _patched(path, 325, [0, *counts[1:]])
    path = _tiff(case("offset_past_end.tif", "truncated"))
    _patched(path, 324, [offsets[0] + (1 << 31), *offsets[1:]])
    path = _tiff(case("count_past_end.tif", "truncated"))
    _patched(path, 325, [1 << 31, *counts[1:]])
    path = _tiff(case("too_few_offsets.tif", "corrupt-header"))
    _patched(path, 324, offsets[:2])
    path = _tiff(case("wider_than_its_tiles.tif", "corrupt-header"))
    _patched(path, 256, 2_000_000_000)
    path = _tiff(case("tile_bomb.tif", "too-many-pixels"))
    _patched(path, 322, 1 << 20)
    path = _tiff(case("no_tile_width.tif", "corrupt-header"))
    _patched(path, 322, 0)
    path = _tiff(case("no_width.tif", "corrupt-header"))
    _patched(path, 256, 0)
    path = _tiff(case("old_jpeg.tif", "unsupported-compression"))
    _patched(path, 259, 6)
    path = _tiff(case("not_deflate.tif", "cannot-read"))
    _patched(path, 259, 5)
    _tiff(case("no_resolution.tif", "no-resolution"), resolution=(72, 72), resolutionunit="INCH")
    _tiff(case("fine.tif", "read"))
    tifffile.imwrite(
        case("sixteen_bits.tif", "bit-depth"), textured(300, 300).astype(np.uint16), tile=(64, 64)
    )
    case("huge_ifd.tif", "corrupt-header").write_bytes(b"II*\0" + struct.pack("<IH", 8, 60_000) + bytes(99))
    case("huge_big_ifd.tif", "corrupt-header").write_bytes(
        b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, 1 << 62) + bytes(99)
    )
    content = _tiff(tmp_path / "whole.tif").read_bytes()
    case("no_directory.tif", "truncated").write_bytes(content[: len(content) // 2])
    found = _outcomes([tmp_path / name for name in expected])
    assert found == expected


def _loop(path: Path) -> None:
    """Let the last directory name the first as the next."""
    with tifffile.TiffFile(path) as file:
        first, last = file.pages[0].offset, file.pages[-1].offset
    content = bytearray(path.read_bytes())
    (count,) = struct.unpack_from("<H", content, last)
    struct.pack_into("<I", content, last + 2 + 12 * count, first)
    path.write_bytes(content)


def test_tiles_that_claim_another_size_take_no_memory(tmp_path: Path) -> None:
    """A JPEG of 65,000 x 65,000 pixels, a Deflate stream of 512 MiB, in the place of a tile of 256."""
    jpeg = bytearray(imagecodecs.jpeg8_encode(textured(256, 256)))
    frame = jpeg.index(b"\xff\xc0")
    struct.pack_into(">HH", jpeg, frame + 5, 65_000, 65_000)
    machine = zlib.compressobj(1)
    deflated = b"".join(machine.compress(bytes(1 << 24)) for _ in range(32)) + machine.flush()
    codes = {}
    for name, compression, tile in (("jpeg.tif", 7, bytes(jpeg)), ("deflate.tif", 8, deflated)):
        path = tmp_path / name
        tifffile.imwrite(path, textured(256, 256), tile=(256, 256), photometric="rgb", metadata=None)
        end = path.stat().st_size
        path.write_bytes(path.read_bytes() + tile)
        for tag, value in ((259, compression), (324, end), (325, len(tile))):
            _patched(path, tag, value)
        codes[name] = "cannot-read"
    assert _outcomes([tmp_path / name for name in codes]) == codes


def test_a_strip_as_large_as_a_city_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "strip.tif"
    tifffile.imwrite(path, textured(300, 300), photometric="rgb", metadata=None)
    for tag, value in ((256, 60_000), (257, 60_000), (278, 60_000)):
        _patched(path, tag, value)
    assert _outcomes([path]) == {"strip.tif": "too-many-pixels"}


def test_svs_and_ome_cut_anywhere_are_read_or_refused(tmp_path: Path) -> None:
    paths = []
    pixels = textured(500, 420)
    for whole in (write_svs(tmp_path / "a.svs", pixels), write_ome(tmp_path / "a.ome.tif", pixels)):
        content = whole.read_bytes()
        for share in (0.02, 0.2, 0.5, 0.8, 0.95, 0.999):
            path = tmp_path / f"{share}{whole.suffix}"
            path.write_bytes(content[: int(len(content) * share)])
            paths.append(path)
    codes = set(_outcomes(paths).values())
    assert codes <= {"read", "truncated", "corrupt-header", "cannot-read", "not-a-slide"}
    assert "truncated" in codes


def test_bytes_flipped_anywhere_are_read_or_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    content = write_pyramid(tmp_path / "a.tif", textured(300, 300), compression="lzw").read_bytes()
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        headers = [place for page in file.pages for place in range(page.offset, page.offset + 200)]
    paths = []
    for index in range(60):
        broken = bytearray(content)
        for place in rng.choice([place for place in headers if place < len(content)], 3):
            broken[place] = rng.integers(256)
        paths.append(tmp_path / f"{index}.tif")
        paths[-1].write_bytes(broken)
    strange = {name: code for name, code in _outcomes(paths).items() if ": " in code}
    assert not strange


def test_dicom_slides_are_read_or_refused_by_name(tmp_path: Path) -> None:
    pixels = textured(480, 480)
    expected = {}

    def case(name: str, code: str, **changes: Any) -> Path:
        expected[name] = code
        return write_dicom(tmp_path / name / name, pixels, **changes)

    case("fine.dcm", "read")
    case("jpeg_ls.dcm", "read", syntax="1.2.840.10008.1.2.4.80")
    case("no_image_type.dcm", "no-image-type", ImageType=None)
    case("sixteen_bits.dcm", "bit-depth", BitsAllocated=16, BitsStored=16, HighBit=15)
    case("bomb.dcm", "too-many-pixels", Rows=65_000, Columns=65_000)
    case("billion_frames.dcm", "bad-number", NumberOfFrames=1_000_000_000)
    case("more_tiles_than_frames.dcm", "truncated", TotalPixelMatrixColumns=4_000_000_000)
    changes = {"SharedFunctionalGroupsSequence": None, "ImagedVolumeWidth": None, "ImagedVolumeHeight": None}
    case("no_resolution.dcm", "no-resolution", **changes)
    cut = case("cut.dcm", "truncated")
    cut.write_bytes(cut.read_bytes()[:-9_000])
    lying = case("jpeg_bomb.dcm", "cannot-read")
    content = bytearray(lying.read_bytes())
    place = content.index(b"\xff\xc0\0\x11")
    struct.pack_into(">HH", content, place + 5, 65_000, 65_000)
    lying.write_bytes(content)
    emptied = case("zero_length_frame.dcm", "truncated")
    content = bytearray(emptied.read_bytes())
    first = content.index(b"\xfe\xff\x00\xe0", content.index(b"\xe0\x7f\x10\x00OB") + 20)
    struct.pack_into("<I", content, first + 4, 0)
    del content[first + 8 : content.index(b"\xfe\xff\x00\xe0", first + 8)]
    emptied.write_bytes(content)
    expected["zero_length_frame.dcm"] = "cannot-read"
    found = _outcomes([tmp_path / name / name for name in expected])
    assert found == expected


@pytest.mark.parametrize("name", ["CMU-1-Small-Region.svs", "TCGA-CR-7395-01A-01-TS1.svs", "boxes.tiff"])
def test_sample_slides_cut_and_zeroed_are_read_or_refused(test_data: Path, tmp_path: Path, name: str) -> None:
    content = (test_data / "slides" / name).read_bytes()
    paths = []
    for share in (0.001, 0.1, 0.6, 0.99):
        edge = int(len(content) * share)
        for kind, broken in (
            ("cut", content[:edge]),
            ("zeroed", content[:edge] + bytes(len(content) - edge)),
        ):
            paths.append(tmp_path / f"{kind}{share}{Path(name).suffix}")
            paths[-1].write_bytes(broken)
    known = {"read", "no-resolution", "truncated", "corrupt-header", "cannot-read", "cannot-open"}
    assert set(_outcomes(paths).values()) <= known | {"not-a-slide", "bit-depth", "empty-file"}
