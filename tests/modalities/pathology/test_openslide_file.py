"""Formats that OpenSlide reads: a Trestle file made here stands for all; OpenSlide's failures by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openslide
import PIL
import pytest
import tifffile

from clinimm.core.errors import InputRejected
from clinimm.modalities.pathology.openslide_file import OpenSlidePixels
from clinimm.modalities.pathology.resolution import Resolution
from clinimm.modalities.pathology.slide import Slide
from tests.modalities.pathology.made_slides import halved, textured


@pytest.fixture
def trestle(tmp_path: Path) -> Path:
    """A Trestle TIFF, by OpenSlide's description of the format."""
    path = tmp_path / "a.tif"
    pixels = textured(640, 512)
    with tifffile.TiffWriter(path) as writer:
        for picture in (pixels, halved(pixels)):
            writer.write(
                picture,
                tile=(128, 128),
                photometric="rgb",
                compression="lzw",
                software="MedScan",
                resolution=(0.5, 0.5),
                description="Background Color=ffffff;Objective Power=20;",
                metadata=None,
            )
    return path


def test_pixels_and_levels_are_openslides(trestle: Path) -> None:
    pixels = textured(640, 512)
    with Slide(trestle) as slide:
        assert slide.info.vendor == "trestle" and slide.info.fingerprint
        assert [(level.width, level.height, level.downsample) for level in slide.info.levels] == [
            (640, 512, 1.0),
            (320, 256, 2.0),
        ]
        assert np.array_equal(slide.read_region(0, (30, 40, 630, 500)), pixels[40:500, 30:630])
        assert np.array_equal(slide.read_region(1, (8, 4, 300, 200)), halved(pixels)[4:200, 8:300])
        assert (slide.read_region(0, (600, 500, 700, 600))[12:] == 255).all()
        assert slide.resolution == Resolution.of(0.5)


def test_associated_images_are_never_asked_for(trestle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("an associated image was asked for")

    monkeypatch.setattr(openslide.OpenSlide, "associated_images", property(forbidden))
    with Slide(trestle) as slide:
        slide.thumbnail(256)
        slide.read((0, 0, 224, 224), 224)


class _Broken:
    """A slide whose handle is in OpenSlide's error state: every call fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        raise self._error


@pytest.mark.parametrize("error", [openslide.OpenSlideError("x"), PIL.UnidentifiedImageError("x")])
def test_whatever_the_library_raises_on_a_bad_slide_is_a_refusal(trestle: Path, error: Exception) -> None:
    pixels = OpenSlidePixels(trestle)
    pixels.close()
    pixels._slide = _Broken(error)  # type: ignore[assignment]  # what OpenSlide is like after a failed read
    with pytest.raises(InputRejected) as refusal:
        pixels.read(0, (0, 0, 256, 256))
    assert refusal.value.code == "cannot-read"


def test_a_slide_that_opens_and_cannot_be_described_is_a_refusal(
    trestle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openslide, "OpenSlide", lambda name: _Broken(openslide.OpenSlideError("x")))
    with pytest.raises(InputRejected) as refusal:
        OpenSlidePixels(trestle)
    assert refusal.value.code == "cannot-open"


def test_what_no_format_knows_is_no_slide(tmp_path: Path) -> None:
    (tmp_path / "a.svs").write_bytes(b"no slide at all" * 50)
    with pytest.raises(InputRejected, match="not-a-slide"):
        Slide(tmp_path / "a.svs")
