"""Every format that a slide may come in can say that it was generated."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from clinimm.modalities.pathology.synthetic import is_simulated, is_synthetic
from clinimm.modalities.synthetic import Provenance
from clinimm.simulate.slide_file import slide_bytes

MADE = Provenance("KI67", "a" * 64, "b" * 64, "clinimm 1")
PIXELS = np.zeros((32, 32, 3), np.uint8)


def _stain(path: Path) -> str | None:
    found = is_synthetic(path)
    return None if found is None else found.stain


def test_png_by_its_text(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("Comment", MADE.mark)
    Image.fromarray(PIXELS).save(tmp_path / "a.png", pnginfo=info)
    Image.fromarray(PIXELS).save(tmp_path / "b.png")
    assert _stain(tmp_path / "a.png") == "KI67"
    assert is_synthetic(tmp_path / "b.png") is None


def test_jpeg_by_its_comment_or_its_exif(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg", comment=MADE.mark)
    exif = Image.Exif()
    exif[0x010E] = MADE.mark
    Image.fromarray(PIXELS).save(tmp_path / "b.jpg", exif=exif)
    Image.fromarray(PIXELS).save(tmp_path / "c.jpg")
    assert [_stain(tmp_path / f"{name}.jpg") for name in "abc"] == ["KI67", "KI67", None]


@pytest.mark.parametrize("place", ["first", "second", "below"])
def test_tiff_by_the_description_of_any_picture(tmp_path: Path, place: str) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        marks = {one: MADE.mark if place == one else None for one in ("first", "second", "below")}
        writer.write(PIXELS, subifds=1, description=marks["first"], metadata=None)
        writer.write(PIXELS[::2, ::2], subfiletype=1, description=marks["below"], metadata=None)
        writer.write(PIXELS, description=marks["second"], metadata=None)
    assert _stain(path) == "KI67"


def test_ordinary_files_and_other_files_are_not_marked(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, description="a slide", metadata=None)
    (tmp_path / "a.txt").write_text("a text")
    assert is_synthetic(tmp_path / "a.tif") is None
    assert is_synthetic(tmp_path / "a.txt") is None
    assert is_synthetic(tmp_path) is None


def test_slides_of_the_scanner_are_not_marked(test_data: Path) -> None:
    slides = test_data / "slides"
    assert all(is_synthetic(path) is None for path in sorted(slides.glob("*.svs")))
    assert is_synthetic(slides / "dicom_wsi") is None


def test_slides_of_the_simulated_hospital_are_told_from_scans(tmp_path: Path) -> None:
    pixels = np.full((512, 512, 3), 200, np.uint8)
    for aperio in (True, False):
        path = tmp_path / f"{aperio}.svs"
        path.write_bytes(slide_bytes(pixels, datetime(2026, 1, 1, tzinfo=UTC), aperio))
        assert is_simulated(path) and is_synthetic(path) is None
    tifffile.imwrite(tmp_path / "scan.tif", pixels, tile=(256, 256), software="Scanner 1")
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    assert not any(is_simulated(path) for path in (tmp_path / "scan.tif", tmp_path / "a.png", tmp_path))
