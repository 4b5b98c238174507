from __future__ import annotations

import numpy as np

from clinimm.core.attribution import Place
from clinimm.explain.layout import canvas, grid, layout_of


def _cells(digest: str, lefts: list[float], tops: list[float]) -> list[Place]:
    return [
        Place("pixels", digest, (left, top, left + 10, top + 10), "", 0.0) for top in tops for left in lefts
    ]


def test_cells_of_a_film_are_ranked_even_where_those_at_the_border_are_smaller() -> None:
    found = grid(_cells("film", [0, 4, 14], [0, 10]))
    assert found.tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 1, 0], [0, 1, 1], [0, 1, 2]]


def test_tiles_of_a_slide_keep_their_gaps() -> None:
    places = [
        Place("tile", "s", (x, y, x + 100, y + 100), "", 0.0) for x, y in ((50, 70), (350, 70), (50, 471))
    ]
    assert grid(places)[:, 1:].tolist() == [[0, 0], [0, 3], [4, 0]]


def test_two_films_are_two_pictures_and_so_are_two_frames_of_a_file() -> None:
    films = grid(_cells("one", [0, 10], [0]) + _cells("two", [0, 10], [0]))
    frames = grid(_cells("one", [0, 10], [0]) * 2)
    assert films[:, 0].tolist() == frames[:, 0].tolist() == [0, 0, 1, 1]


def test_only_modalities_with_pictures_have_places_and_padding_has_none() -> None:
    fact = Place("event", None, (), "x", 0.0)
    subjects = [{"radiology": _cells("f", [0, 10], [0]), "ehr": [fact]}, {"ehr": [fact]}]
    found = layout_of(subjects, {"radiology": 3, "ehr": 1}).positions
    assert set(found) == {"radiology"}
    assert found["radiology"][0].tolist() == [[0, 0, 0], [0, 0, 1], [-1, -1, -1]]
    assert (found["radiology"][1] == -1).all()


def test_a_canvas_is_the_map_with_holes_where_no_token_is() -> None:
    positions = np.array([[0, 0, 0], [0, 1, 1], [-1, -1, -1]])
    (found,) = canvas(positions, np.array([1.0, 2.0, 9.0]))
    np.testing.assert_array_equal(found, [[1.0, np.nan], [np.nan, 2.0]])


def test_cells_of_a_film_share_one_feature_map_and_tiles_of_a_slide_do_not() -> None:
    tile = Place("tile", "s", (0, 0, 100, 100), "", 0.0)
    found = layout_of(
        [{"radiology": _cells("f", [0, 10], [0]), "pathology": [tile]}], {"radiology": 2, "pathology": 1}
    )
    assert set(found.positions) == {"radiology", "pathology"}
    assert found.films == {"radiology"}
