"""Pixels of a slide against tifffile, and a resolution that is never guessed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import PIL
import pytest
import tifffile

from clinimm.core.errors import InputRejected
from clinimm.modalities.pathology.slide import Slide

MakeSlide = Callable[..., Path]


def test_level_0_pixels_equal_tifffile(make_slide: MakeSlide, tmp_path: Path) -> None:
    path = make_slide(tmp_path / "a.tif")
    expected = tifffile.imread(path)
    with Slide(path) as slide:
        assert slide.dimensions == (1024, 1024)
        assert np.array_equal(slide.read((200, 300, 456, 556), 256), expected[300:556, 200:456])


def test_a_coarser_read_is_the_mean_of_its_pixels(make_slide: MakeSlide, tmp_path: Path) -> None:
    path = make_slide(tmp_path / "a.tif")
    expected = tifffile.imread(path).reshape(256, 4, 256, 4, 3).mean(axis=(1, 3))
    with Slide(path) as slide:
        assert np.abs(slide.read((0, 0, 1024, 1024), 256).astype(float) - expected).mean() < 2


def test_beyond_the_edge_it_is_white(make_slide: MakeSlide, tmp_path: Path) -> None:
    with Slide(make_slide(tmp_path / "a.tif")) as slide:
        tile = slide.read((896, 896, 1152, 1152), 256)
        assert (tile[140:, 140:] == 255).all()
        assert tile[:120, :120].mean() < 250


@pytest.mark.parametrize("longest", [100, 512, 5000])
def test_thumbnails_show_the_whole(make_slide: MakeSlide, tmp_path: Path, longest: int) -> None:
    with Slide(make_slide(tmp_path / "a.tif")) as slide:
        thumbnail = slide.thumbnail(longest)
        side = min(longest, 1024)
        assert thumbnail.shape == (side, side, 3)
        assert thumbnail[side // 2, side // 2, 1] < 130 and thumbnail[5, 5].min() > 235


def test_a_thumbnail_in_bands_equals_one_in_a_piece(
    make_slide: MakeSlide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_slide(tmp_path / "a.tif")
    with Slide(path) as slide:
        whole = slide.thumbnail(512).astype(int)
        monkeypatch.setattr("clinimm.modalities.pathology.slide._BAND_PIXELS", 1 << 16)
        assert np.abs(slide.thumbnail(512).astype(int) - whole).max() <= 2


def test_the_resolution_is_stated_given_or_an_error(make_slide: MakeSlide, tmp_path: Path) -> None:
    stated = make_slide(tmp_path / "a.tif", mpp_um=0.25)
    silent = make_slide(tmp_path / "b.tif", mpp_um=None)
    screen = make_slide(tmp_path / "c.tif", mpp_um=352.8)
    with Slide(stated, mpp_um=0.5) as slide:
        assert slide.mpp_um == pytest.approx(0.25)
    with Slide(silent, mpp_um=0.5) as slide:
        assert slide.mpp_um == 0.5
    for path in (silent, screen):
        with Slide(path) as slide, pytest.raises(InputRejected, match=r"no-resolution.*options\.mpp_um"):
            _ = slide.mpp_um


def test_the_label_is_never_read(test_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("an associated image was asked for")

    monkeypatch.setattr(openslide.OpenSlide, "associated_images", property(forbidden))
    with Slide(test_data / "slides" / "CMU-1-Small-Region.svs") as slide:
        slide.thumbnail(256)
        slide.read((0, 0, 224, 224), 224)


def test_a_damaged_slide_is_refused_by_name(test_data: Path, tmp_path: Path) -> None:
    data = bytearray((test_data / "slides" / "CMU-1-Small-Region.svs").read_bytes())
    data[2000:600_000] = bytes(598_000)
    path = tmp_path / "a.svs"
    path.write_bytes(data)
    with pytest.raises(InputRejected, match="cannot-"), Slide(path) as slide:
        slide.thumbnail(512)


class _Broken:
    """A slide whose handle is in OpenSlide's error state: every call fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        raise self._error


@pytest.mark.parametrize("error", [openslide.OpenSlideError("x"), PIL.UnidentifiedImageError("x")])
def test_whatever_the_library_raises_on_a_bad_slide_is_a_refusal(
    make_slide: MakeSlide, tmp_path: Path, error: Exception
) -> None:
    slide = Slide(make_slide(tmp_path / "a.tif"))
    slide.close()
    slide._slide = _Broken(error)  # type: ignore[assignment]  # what OpenSlide is like after a failed read
    for call in (lambda: slide.read((0, 0, 256, 256), 256), lambda: slide.thumbnail(64)):
        with pytest.raises(InputRejected) as refusal:
            call()
        assert refusal.value.code == "cannot-read"


def test_a_slide_that_opens_and_cannot_be_described_is_a_refusal(
    make_slide: MakeSlide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_slide(tmp_path / "a.tif")
    monkeypatch.setattr(openslide, "OpenSlide", lambda name: _Broken(openslide.OpenSlideError("x")))
    with pytest.raises(InputRejected) as refusal:
        Slide(path)
    assert refusal.value.code == "cannot-open"
