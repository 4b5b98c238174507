from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from clinimm.cli.app import EXIT_REFUSED, run


def write_slide(path: Path, mpp_um: float | None = 0.5) -> Path:
    picture = np.full((512, 512, 3), 244, np.uint8)
    picture[128:384, 128:384] = (190, 110, 170)
    stated = {"resolution": (1e4 / mpp_um,) * 2, "resolutionunit": "CENTIMETER"} if mpp_um else {}
    tifffile.imwrite(path, picture, tile=(256, 256), photometric="rgb", software=False, **stated)
    return path


def test_slide_quality_writes_a_page_or_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slide = write_slide(tmp_path / "a.tiff")
    assert run(["slide-quality", str(slide), "--out", str(tmp_path / "a.html"), "--title", "block A"]) == 0
    assert "usable tissue" in capsys.readouterr().out
    assert "Slide quality: block A" in (tmp_path / "a.html").read_text()
    assert run(["slide-quality", str(slide), "--out", str(tmp_path / "a.png")]) == 0
    assert Image.open(tmp_path / "a.png").size[0] > 100


def test_what_it_cannot_do_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slide = write_slide(tmp_path / "a.tiff", mpp_um=None)
    assert run(["slide-quality", str(slide), "--out", str(tmp_path / "a.jpg")]) == EXIT_REFUSED
    assert "ends in .html or .png" in capsys.readouterr().err
    assert run(["slide-quality", str(slide), "--out", str(tmp_path / "a.png")]) == EXIT_REFUSED
    assert "no resolution" in capsys.readouterr().err
    assert run(["slide-quality", str(slide), "--out", str(tmp_path / "a.png"), "--mpp-um", "0.5"]) == 0
