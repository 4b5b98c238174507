"""Directories against tifffile's reading of them, and headers that lie."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import tifffile

from clinimm.core.errors import InputRejected
from clinimm.modalities.pathology.file_bytes import FileBytes
from clinimm.modalities.pathology.tiff_directory import Directory, Tag, read_directories, sub_directories
from tests.modalities.pathology.made_slides import textured, write_ome, write_pyramid


def _pages(path: Path) -> tuple[Directory, ...]:
    return read_directories(FileBytes(path))


def _refusal(path: Path) -> InputRejected:
    with pytest.raises(InputRejected) as caught:
        _pages(path)
    return caught.value


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_tags_equal_those_of_tifffile(tmp_path: Path, bigtiff: bool, byteorder: str) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, bigtiff=bigtiff, byteorder=byteorder) as writer:  # type: ignore[arg-type]
        for side in (300, 150):
            writer.write(
                textured(side, side), tile=(64, 64), compression="zlib", resolution=(12345.6, 2.5),
                subfiletype=int(side == 150), description="tissue", metadata=None,
            )  # fmt: skip
    with tifffile.TiffFile(path) as theirs:
        pages = _pages(path)
        assert len(pages) == len(theirs.pages) == 2
        for ours, page in zip(pages, theirs.pages, strict=True):
            assert isinstance(page, tifffile.TiffPage)
            assert ours.size == (page.shape[1], page.shape[0])
            assert tuple(ours.numbers(Tag.TILE_OFFSETS)) == page.dataoffsets
            assert tuple(ours.numbers(Tag.TILE_COUNTS)) == page.databytecounts
            assert ours.text(Tag.DESCRIPTION) == page.tags[270].value
            numerator, denominator = page.tags[282].value
            assert ours.rational(Tag.X_RESOLUTION) == pytest.approx(numerator / denominator)
        assert [page.is_reduced for page in pages] == [False, True]


def test_sub_directories_are_found(tmp_path: Path) -> None:
    pages = _pages(write_ome(tmp_path / "a.ome.tif", textured(600, 500)))
    assert [page.size for page in pages] == [(600, 500), (400, 300)]
    assert [page.size for page in sub_directories(pages[0])] == [(300, 250)]


def _one_field(value: bytes = struct.pack("<HHII", 256, 4, 1, 64), following: int = 0) -> bytes:
    """A little-endian TIFF of one directory at byte 8 with one field."""
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 1) + value + struct.pack("<I", following)


def test_a_loop_of_directories_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(_one_field(following=8))
    assert _refusal(path).code == "corrupt-header" and "point back" in _refusal(path).reason


def test_a_huge_directory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, 65535) + bytes(100))
    assert _refusal(path).code == "corrupt-header"
    path.write_bytes(b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, 1 << 60) + bytes(100))
    assert _refusal(path).code == "corrupt-header"


@pytest.mark.parametrize("content", [b"II*\0", b"II*\0\xff\xff\xff\x7f", b"II+\0\x08\0\0\0\x10"])
def test_a_cut_header_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    assert _refusal(path).code in {"truncated", "corrupt-header", "not-a-slide"}


def test_a_value_beyond_the_end_is_refused_when_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(_one_field(struct.pack("<HHII", 324, 4, 1000, 50)))
    (page,) = _pages(path)
    with pytest.raises(InputRejected, match="truncated"):
        page.numbers(Tag.TILE_OFFSETS)
    with pytest.raises(InputRejected, match="at most 10 "):
        page.numbers(Tag.TILE_OFFSETS, most=10)


def test_the_whole_cut_anywhere_is_read_or_refused(tmp_path: Path) -> None:
    content = write_pyramid(tmp_path / "a.tif", textured(300, 300), bigtiff=True).read_bytes()
    path = tmp_path / "b.tif"
    for stop in range(1, len(content), len(content) // 60):
        path.write_bytes(content[:stop])
        try:
            _pages(path)
        except InputRejected as refusal:
            assert refusal.code in {"truncated", "corrupt-header", "not-a-slide"}
