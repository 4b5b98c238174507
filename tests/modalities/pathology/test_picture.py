"""PNG and JPEG: pixels against Pillow; no resolution of their own; no picture too large to hold."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clinimm.core.errors import InputRejected
from clinimm.modalities.pathology.resolution import Resolution
from clinimm.modalities.pathology.slide import Slide, open_slide
from tests.modalities.pathology.made_slides import textured

_PIXELS = textured(400, 300)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_pixels_are_those_of_the_file_and_white_outside(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    Image.fromarray(_PIXELS).save(path, dpi=(50_800, 50_800))
    expected = np.asarray(Image.open(path))
    with open_slide(path) as slide:
        assert slide.dimensions == (400, 300)
        assert np.array_equal(slide.read_region(0, (10, 20, 390, 290)), expected[20:290, 10:390])
        assert (slide.read_region(0, (350, 250, 450, 350))[50:] == 255).all()


def test_dpi_is_no_resolution_and_a_given_one_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(_PIXELS).save(path, dpi=(50_800, 50_800))
    with open_slide(path) as slide, pytest.raises(InputRejected, match=r"no-resolution.*options\.mpp_um"):
        _ = slide.resolution
    with open_slide(path, Resolution(0.25, 0.5)) as slide:
        assert slide.resolution == Resolution(0.25, 0.5) and slide.mpp_um == 0.375


def test_grey_palette_and_opacity_become_rgb(tmp_path: Path) -> None:
    image = Image.fromarray(_PIXELS)
    image.convert("L").save(tmp_path / "grey.png")
    image.convert("P").save(tmp_path / "palette.png")
    clear = image.convert("RGBA")
    clear.putalpha(0)
    clear.save(tmp_path / "clear.png")
    for name in ("grey.png", "palette.png"):
        expected = np.asarray(Image.open(tmp_path / name).convert("RGB"))
        with Slide(tmp_path / name) as slide:
            assert np.array_equal(slide.read_region(0, (0, 0, 400, 300)), expected)
    with Slide(tmp_path / "clear.png") as slide:
        assert (slide.read_region(0, (0, 0, 400, 300)) == 255).all()


def test_16_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(_PIXELS[..., 0].astype(np.uint16) * 256).save(tmp_path / "a.png")
    with pytest.raises(InputRejected, match="bit-depth"):
        Slide(tmp_path / "a.png")


def _png(width: int, height: int) -> bytes:
    """A PNG whose header declares a size that its data do not have."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(12_000, 12_000), (100_000, 100_000)])
def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "a.png").write_bytes(_png(*size))
    with pytest.raises(InputRejected, match="too-many-pixels"):
        Slide(tmp_path / "a.png")


def test_damage_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(_png(500, 500))
    with Slide(tmp_path / "a.png") as slide, pytest.raises(InputRejected, match="cannot-read"):
        slide.thumbnail(100)
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    with pytest.raises(InputRejected, match="cannot-open"):
        Slide(tmp_path / "b.png")
