from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pydicom
from pydicom.uid import generate_uid

from clinimm.report.evidence import Picture
from clinimm.report.facts import RunFacts
from clinimm.report.maps import make_map
from clinimm.report.pictures import open_pixels
from clinimm.report.standings import MapState

SHOWN = MapState("shown", "")
BOXES = (((0.0, 0.0, 100.0, 100.0), 0.5), ((300.0, 200.0, 400.0, 300.0), -0.2))


def _film(run) -> Picture:
    table = pd.read_parquet(run.workspace.root / "ingest" / "events.parquet")
    row = table[table["code"] == "DICOM//CR"].iloc[0].to_dict()
    return Picture("d", "radiology", "pixels", "now", 0.3, BOXES, row, "2024-03-02 10:00 UTC")


def test_a_film_names_its_series_and_its_instance(run, tmp_path: Path) -> None:
    file = tmp_path / "data" / "film.dcm"
    film = pydicom.dcmread(file)
    film.SeriesInstanceUID = generate_uid(entropy_srcs=["series"])
    film.save_as(file)
    found = make_map(RunFacts(run.workspace), open_pixels(run.workspace), _film(run), 0, 64, SHOWN)
    assert found.origin == (("Series", film.SeriesInstanceUID), ("Instance", "1.2.3.4"))


def test_a_uid_that_is_none_hides_the_picture_and_is_not_repeated(run, tmp_path: Path) -> None:
    file = tmp_path / "data" / "film.dcm"
    film = pydicom.dcmread(file)
    film.add_new(0x0020000E, "UI", "1.2")
    raw = tmp_path / "raw.dcm"
    film.save_as(raw)
    file.write_bytes(raw.read_bytes().replace(b"UI\x04\x001.2\x00", b"UI\x04\x00<b>\x00"))
    found = make_map(RunFacts(run.workspace), open_pixels(run.workspace), _film(run), 0, 64, SHOWN)
    assert found.original is None and "cannot be shown" in (found.shown.reason or "")
    assert "<b>" not in str(found)


def test_evidence_and_counter_evidence_stand_side_by_side(run) -> None:
    found = make_map(RunFacts(run.workspace), open_pixels(run.workspace), _film(run), 0, 64, SHOWN)
    assert [region.where for region in found.raising] == [
        "upper left of the picture, x 0 to 100, y 0 to 100 px"
    ]
    assert [region.score for region in found.lowering] == [-0.2]


def test_a_hidden_map_leaves_the_picture_and_nothing_of_the_map(run) -> None:
    hidden = MapState("hidden", "Not shown.")
    found = make_map(RunFacts(run.workspace), open_pixels(run.workspace), _film(run), 0, 64, hidden)
    assert found.original is not None
    assert (found.overlay, found.raising, found.lowering) == (None, (), ())


def test_tiles_have_micrometres_and_a_magnification(run) -> None:
    attributes = {"mpp_um": 0.25, "objective_power": "40"}
    event = {"uri": None, "attributes": json.dumps(attributes)}
    picture = Picture("d", "pathology", "tile", "now", 0.3, BOXES, event)
    found = make_map(RunFacts(run.workspace), open_pixels(run.workspace), picture, 0, 64, SHOWN)
    assert found.raising[0].where == "x 0 to 100, y 0 to 100 px (0 to 25, 0 to 25 µm)"
    assert dict(found.origin) == {
        "Scanned at": "0.25 µm a pixel, 40× objective",
        "Tiles read at": "0.5 µm a pixel, about 20×",
    }
