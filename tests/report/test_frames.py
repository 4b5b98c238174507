"""A file with two frames: a map a frame, each over its own picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest

from clinimm.modalities.radiology.explain import frame_of, locate
from clinimm.report.evidence import gather
from clinimm.report.facts import RunFacts
from clinimm.report.patient_report import patient_page
from clinimm.report.pictures import open_pixels, show
from tests.report.conftest import MockRun


@pytest.fixture
def two_frames(run: MockRun, tmp_path: Path) -> MockRun:
    """The film twice in its file, the second time inside out; a map of each."""
    file = tmp_path / "data" / "film.dcm"
    film = pydicom.dcmread(file)
    first = film.pixel_array
    film.NumberOfFrames = 2
    film.PixelData = np.stack([first, first.max() - first]).astype("<u2").tobytes()
    film.save_as(file)
    path = run.workspace.root / "explain" / "attributions.parquet"
    table = pd.read_parquet(path)
    cells = table[table["kind"] == "pixels"]
    halved = (cells, cells.assign(score=cells["score"] / 2))
    both = [found.assign(text=_texts(cells, frame)) for frame, found in enumerate(halved)]
    pd.concat([table[table["kind"] != "pixels"], *both], ignore_index=True).to_parquet(path)
    return run


def _texts(cells: pd.DataFrame, frame: int) -> list[str]:
    """As the modality itself words them."""
    rows = [
        dict(zip(("left", "top", "right", "bottom"), json.loads(box), strict=True))
        | {"code": "DICOM//CR", "frame": frame, "digest": "d", "time_hours": 0.0}
        for box in cells["box"]
    ]
    return [locate(row, 0).text for row in rows]


@pytest.mark.parametrize("view", [None, "AP", "x, frame 7, pixels 1"])
def test_the_frame_is_read_back_from_the_words_of_a_place(view: str | None) -> None:
    edges = dict.fromkeys(("left", "top", "right", "bottom"), 3.0)
    row = edges | {"code": "DICOM//CR", "view": view, "frame": 12, "digest": "d", "time_hours": 0.0}
    assert frame_of(locate(row, 0).text) == 12
    assert frame_of("tile 3 at 0, 0, 80% tissue") is None


def test_cells_are_drawn_over_their_own_frame(two_frames: MockRun) -> None:
    page = patient_page(RunFacts(two_frames.workspace), two_frames.subject)
    assert "Radiology, frame 1, at the index time</h2>" in page
    assert "Radiology, frame 2, at the index time</h2>" in page
    assert '<dd class="hash">2 of 2</dd>' in page
    assert page.count('id="pixels-0"') == page.count('id="pixels-1"') == 1
    first, second = (part.split("</svg>")[0] for part in page.split('<image id="pixels-')[1:3])
    assert first.split("href=")[1] != second.split("href=")[1], "two pictures, not one twice"
    overlays = [part.split("</svg>")[0] for part in page.split('<use href="#pixels-')[1:3]]
    assert all(1 <= part.count("<rect") <= 49 for part in overlays), "49 cells a frame"


def test_each_frame_has_its_own_cells(two_frames: MockRun) -> None:
    table = pd.read_parquet(two_frames.workspace.root / "explain" / "attributions.parquet")
    events = pd.read_parquet(two_frames.workspace.root / "ingest" / "events.parquet")
    films = [one for one in gather(table, events).pictures if one.kind == "pixels"]
    assert [one.frame for one in films] == [0, 1], "the stronger map first"
    assert [len(one.boxes) for one in films] == [49, 49]
    assert films[1].total == pytest.approx(films[0].total / 2)


def test_where_nobody_says_which_frame_no_overlay_is_drawn(two_frames: MockRun) -> None:
    path = two_frames.workspace.root / "explain" / "attributions.parquet"
    table = pd.read_parquet(path)
    table.loc[table["kind"] == "pixels", "text"] = "cell"
    table.to_parquet(path)
    page = patient_page(RunFacts(two_frames.workspace), two_frames.subject)
    assert "does not say on which of them its regions lie" in page
    assert '<use href="#pixels-' not in page and '<image id="pixels-0"' in page


def test_a_film_of_one_frame_is_called_as_before(run: MockRun) -> None:
    page = patient_page(RunFacts(run.workspace), run.subject)
    assert "frame 1" not in page and "does not say on which" not in page


def test_a_frame_that_the_file_has_not_is_said(two_frames: MockRun) -> None:
    table = pd.read_parquet(two_frames.workspace.root / "ingest" / "events.parquet")
    event = table[table["code"] == "DICOM//CR"].iloc[0].to_dict()
    event = {str(name): value for name, value in event.items()}
    shown = show(open_pixels(two_frames.workspace), event, "pixels", 64, frame=2)
    assert shown.uri is None and shown.reason == "the file has no frame 3."
