"""Series in anatomical order, slides as tiles: the very pixels of the files, and only after the log knows."""

from __future__ import annotations

import io
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clinimm.modalities.pathology.slide import Slide
from clinimm.serve.deepzoom import OVERLAP, TILE, Pyramid, read_tile
from clinimm.serve.errors import Refused
from clinimm.serve.identity import Role
from clinimm.serve.office import Office
from clinimm.serve.study import Study
from tests.modalities.pathology.made_slides import FORBIDDEN, textured, write_pyramid
from tests.serve.hospital import OTHER, SLICES, SUBJECT, Hospital, sign_in

PATIENT = f"/runs/mock/patients/{SUBJECT}"


def study(office: Office) -> Study:
    return office.pictures.study(office.catalogue.run("mock"), SUBJECT)


def picture(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def test_a_series_is_in_the_order_of_the_body_and_not_of_its_numbers(
    client: TestClient, office: Office, hospital: Hospital
) -> None:
    sign_in(client, office, Role.CLINICIAN)
    series = next(one for one in study(office).series if one.title == "CT CHEST")
    assert len(series.slices) == SLICES
    address = f"{PATIENT}/series/{series.name}"
    assert client.get(address).status_code == 200
    shown = [picture(client.get(f"{address}/{place}.png").content) for place in range(SLICES)]
    assert [int(one.mean()) for one in shown] == [pytest.approx(grey, abs=1) for grey in hospital.slices]
    assert shown[0].shape == (32, 48)
    assert client.get(f"{address}/{SLICES}.png").status_code == 404
    assert client.get(f"{address}/-1.png").status_code == 404


def test_what_came_after_the_index_time_is_not_there(office: Office) -> None:
    """The hospital holds a further object of the series, five hours after the index time."""
    names = [one.name for one in study(office).series]
    assert "9" * 16 not in names and sum(len(one.slices) for one in study(office).series) == SLICES + 1


@pytest.mark.parametrize("kind", ["series", "slides"])
def test_pictures_are_sent_only_after_their_page_was_entered(
    client: TestClient, office: Office, kind: str
) -> None:
    sign_in(client, office, Role.CLINICIAN)
    found = getattr(study(office), kind)[0]
    part = (
        f"{PATIENT}/series/{found.name}/0.png" if kind == "series" else f"{PATIENT}/slides/{found.name}.dzi"
    )
    assert client.get(part).status_code == 403
    client.get(f"{PATIENT}/{kind}/{found.name}")
    assert client.get(part).status_code == 200
    assert client.get(part.replace(SUBJECT, OTHER)).status_code == 403
    sign_in(client, office, Role.CLINICIAN, subject="p2")
    assert client.get(part).status_code == 403


def test_a_picture_that_is_looked_at_for_long_is_entered_again(
    client: TestClient, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    sign_in(client, office, Role.CLINICIAN)
    slide = study(office).slides[0]
    client.get(f"{PATIENT}/slides/{slide.name}")
    now = time.monotonic()
    monkeypatch.setattr("clinimm.serve.guard.time.monotonic", lambda: now + 60 * 14)
    assert client.get(f"{PATIENT}/slides/{slide.name}.dzi").status_code == 200
    monkeypatch.setattr("clinimm.serve.guard.time.monotonic", lambda: now + 60 * 16)
    assert client.get(f"{PATIENT}/slides/{slide.name}.dzi").status_code == 403


def test_the_descriptor_is_deep_zoom(client: TestClient, office: Office, hospital: Hospital) -> None:
    sign_in(client, office, Role.CLINICIAN)
    slide = study(office).slides[0]
    client.get(f"{PATIENT}/slides/{slide.name}")
    answer = client.get(f"{PATIENT}/slides/{slide.name}.dzi")
    image = ElementTree.fromstring(answer.text)
    assert (image.get("TileSize"), image.get("Overlap"), image.get("Format")) == ("254", "1", "jpeg")
    assert [(one.get("Width"), one.get("Height")) for one in image] == [("700", "520")]


def put_together(slide: Slide, level: int) -> np.ndarray:
    """All tiles of a level as one picture, their overlap cut off."""
    width, height = Pyramid(*slide.dimensions).size(level)
    whole = np.zeros((height, width, 3), np.uint8)
    for row in range(-(-height // TILE)):
        for column in range(-(-width // TILE)):
            tile = read_tile(slide, level, column, row)
            left, top = (OVERLAP if column else 0), (OVERLAP if row else 0)
            part = tile[top : top + TILE, left : left + TILE]
            part = part[: height - row * TILE, : width - column * TILE]
            whole[row * TILE : row * TILE + part.shape[0], column * TILE : column * TILE + part.shape[1]] = (
                part
            )
    return whole


def test_tiles_of_the_finest_level_are_the_slide_s_own_pixels(tmp_path: Path) -> None:
    pixels = textured(700, 520)
    with Slide(write_pyramid(tmp_path / "slide.tif", pixels)) as slide:
        last = Pyramid(*slide.dimensions).last
        assert np.array_equal(put_together(slide, last), pixels)
        half = put_together(slide, last - 1)
        stored = slide.read_region(1, (0, 0, 350, 260))
        assert np.array_equal(half, stored)  # the half level as the file has it


@pytest.mark.parametrize("below", [2, 3, 5])
def test_coarse_tiles_are_the_mean_of_what_they_cover(tmp_path: Path, below: int) -> None:
    pixels = textured(704, 512)
    with Slide(write_pyramid(tmp_path / "slide.tif", pixels)) as slide:
        last = Pyramid(*slide.dimensions).last
        shown = put_together(slide, last - below).astype(float)
        edge = 2**below
        rows, columns = 512 // edge, 704 // edge
        mean = pixels.reshape(rows, edge, columns, edge, 3).mean(axis=(1, 3))
        assert np.abs(shown[1:-1, 1:-1] - mean[1:-1, 1:-1]).mean() < 6


def test_the_first_level_is_one_pixel_and_none_shows_the_label(office: Office, hospital: Hospital) -> None:
    with Slide(hospital.slide) as slide:
        assert read_tile(slide, 0, 0, 0).shape == (1, 1, 3)
        for level in range(Pyramid(*slide.dimensions).last + 1):
            far = np.abs(put_together(slide, level).astype(int) - FORBIDDEN).sum(axis=-1)
            assert far.min() > 60


def test_tiles_over_http_are_what_is_read_directly(
    client: TestClient, office: Office, hospital: Hospital
) -> None:
    sign_in(client, office, Role.CLINICIAN)
    name = study(office).slides[0].name
    client.get(f"{PATIENT}/slides/{name}")
    with Slide(hospital.slide) as slide:
        for level, column, row in ((10, 0, 0), (10, 2, 2), (9, 1, 1), (7, 0, 0)):
            answer = client.get(f"{PATIENT}/slides/{name}_files/{level}/{column}_{row}.jpeg")
            direct = read_tile(slide, level, column, row)
            assert answer.headers["content-type"] == "image/jpeg"
            shown = picture(answer.content)
            assert shown.shape == direct.shape
            assert np.abs(shown.astype(int) - direct).mean() < 8


@pytest.mark.parametrize(
    "tile", ["11/0_0", "10/3_0", "10/0_3", "-1/0_0", "10/0", "10/a_b", "10/0_0_0", "10/-1_0"]
)
def test_there_is_no_tile_outside(client: TestClient, office: Office, tile: str) -> None:
    sign_in(client, office, Role.CLINICIAN)
    name = study(office).slides[0].name
    client.get(f"{PATIENT}/slides/{name}")
    assert client.get(f"{PATIENT}/slides/{name}_files/{tile}.jpeg").status_code in (404, 422)


@given(st.integers(1, 300_000), st.integers(1, 300_000), st.data())
def test_levels_halve_and_tiles_cover_them(width: int, height: int, data: st.DataObject) -> None:
    pyramid = Pyramid(width, height)
    assert pyramid.size(0) == (1, 1) and pyramid.size(pyramid.last) == (width, height)
    level = data.draw(st.integers(0, pyramid.last))
    across, down = pyramid.size(level)
    column = data.draw(st.integers(0, (across - 1) // TILE))
    row = data.draw(st.integers(0, (down - 1) // TILE))
    left, top, right, bottom = pyramid.box(level, column, row)
    assert 0 <= left < right <= across and 0 <= top < bottom <= down
    assert right - left <= TILE + 2 * OVERLAP
    with pytest.raises(Refused):
        pyramid.box(level, (across - 1) // TILE + 1, row)


def test_many_slides_are_not_kept_open_for_ever(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    import clinimm.serve.pictures as pictures

    monkeypatch.setattr(pictures, "_OPEN_SLIDES", 0)
    run, slide = office.catalogue.run("mock"), study(office).slides[0]
    office.pictures.pyramid(run, slide)
    office.pictures.pyramid(run, slide)
    assert len(office.pictures._slides) <= 1


def test_a_file_that_moved_is_named_and_its_path_is_not(own_hospital: Hospital, tmp_path: Path) -> None:
    from tests.serve.hospital import make_client, make_office

    office = make_office(own_hospital)
    client = make_client(office)
    sign_in(client, office, Role.CLINICIAN)
    name = study(office).slides[0].name
    own_hospital.slide.rename(own_hospital.slide.with_suffix(".gone"))
    answer = client.get(f"{PATIENT}/slides/{name}")
    assert answer.status_code == 422 and "picture-unreadable" in answer.text
    assert str(tmp_path) not in answer.text and "slide.svs" not in answer.text
