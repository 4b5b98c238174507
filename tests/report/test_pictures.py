from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clinimm.core.errors import InputRejected
from clinimm.report import patient_report, pictures
from clinimm.report.facts import RunFacts
from clinimm.report.patient_report import MAX_BYTES, patient_page
from clinimm.report.pictures import open_pixels, show


def _noise(opener: object, event: object, frame: int | None) -> tuple[np.ndarray, tuple[float, float], int]:
    pixels = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8)
    return pixels, (1500.0, 1500.0), 1


def test_pictures_shrink_until_the_page_fits(run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise in colour is the worst that PNG can be given."""
    monkeypatch.setattr(pictures, "_film", _noise)
    monkeypatch.setattr(patient_report, "_PICTURES", 3)
    page = patient_page(RunFacts(run.workspace), run.subject)
    assert 100_000 < len(page.encode()) < MAX_BYTES
    assert "data:image/png" in page


def test_a_film_that_cannot_be_decoded_is_said_and_not_raised(run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise InputRejected("cannot-decode", "the pixel data are damaged", "send again")

    monkeypatch.setattr(pictures, "_film", refuse)
    shown = show(open_pixels(run.workspace), {"uri": "sealed:x"}, "pixels", 64)
    assert shown.uri is None
    assert "the pixel data are damaged" in (shown.reason or "")


def test_a_uri_that_is_not_sealed_is_not_opened(run, tmp_path: Path) -> None:
    shown = show(open_pixels(run.workspace), {"uri": str(tmp_path / "data" / "film.dcm")}, "pixels", 64)
    assert shown.uri is None
    assert "not sealed" in (shown.reason or "")
