from __future__ import annotations

import numpy as np
import pytest
import torch

from clinimm.explain.attribute import attribute
from clinimm.explain.layout import Layout
from clinimm.explain.problem import Setting
from clinimm.explain.spread import VIEW_CELLS, shared_out, shares
from clinimm.nn.image import load_image_encoder
from clinimm.simulate.film import draw_body, draw_lesions, plan_film, render_film


def _places(rows: int, columns: int, picture: int = 0) -> np.ndarray:
    return np.array([[picture, row, column] for row in range(rows) for column in range(columns)])


def test_a_score_goes_to_its_neighbours_as_a_gaussian_of_one_cell() -> None:
    found = shares(_places(3, 4)).numpy()
    # The token in row 1, column 2, worked out cell by cell.
    weight = np.array([[np.exp(-((r - 1) ** 2 + (c - 2) ** 2) / 2) for c in range(4)] for r in range(3)])
    np.testing.assert_allclose(found[6], (weight / weight.sum()).ravel())
    assert VIEW_CELLS == 1.0


def test_a_token_of_the_usual_encoder_sees_further_than_scores_are_spread() -> None:
    generator = np.random.default_rng(0)
    body = draw_body(generator)
    film = render_film(plan_film((224, 224), "N", "PA", body, draw_lesions(True, generator), generator))
    pictures = np.repeat(film.grey.astype(np.float32)[None, None], 3, axis=1).repeat(2, axis=0)
    pictures[1, :, 96:128, 96:128] += 0.02 * generator.standard_normal((32, 32), dtype=np.float32)
    plain, other = load_image_encoder(None).features(pictures).astype(float)
    moved = np.square(other - plain).sum(axis=0)  # (row, column): how much each token notices
    moved /= moved.sum()
    assert moved[3, 3] < 0.25
    assert np.sqrt((moved.sum(axis=1) * np.square(np.arange(7) - 3)).sum()) > VIEW_CELLS


def test_what_is_shared_out_is_all_there_was() -> None:
    place = np.concatenate([_places(2, 3), _places(2, 3, picture=1), [[-1, -1, -1]]])
    scores = torch.randn(2, 13, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    scores[:, -1] = 0
    found = shared_out(scores, np.stack([place, place]))
    for film in (slice(0, 6), slice(6, 12)):  # and nothing goes from one film to the other
        np.testing.assert_allclose(found[:, film].sum(1), scores[:, film].sum(1))
    assert (found[:, -1] == 0).all()
    assert (shares(place)[:6, 6:] == 0).all()


def test_a_region_outweighs_one_cell_that_stands_alone() -> None:
    scores = torch.zeros(1, 49, dtype=torch.double)
    region, alone = [8, 9, 15, 16], 40
    scores[0, region], scores[0, alone] = 1.0, 1.3
    found = shared_out(scores, _places(7, 7)[None])[0]
    assert int(scores[0].argmax()) == alone
    assert int(found.argmax()) in region


@pytest.mark.parametrize("films", [True, False])
def test_the_method_moves_scores_of_films_alone_and_still_sums_up(curved, batch_of, films: bool) -> None:
    batch = batch_of(2)
    positions = np.tile(np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0]]), (2, 1, 1))
    layout = Layout({"radiology": positions}, frozenset({"radiology"} if films else ()))
    setting = Setting(layout=layout)
    plain = attribute(curved, batch, 1, "integrated_gradients", 32, setting)
    found = attribute(curved, batch, 1, "spread_gradients", 32, setting)
    for name in ("ehr", "notes"):
        np.testing.assert_array_equal(found.scores[name], plain.scores[name])
    moved = not np.allclose(found.scores["radiology"], plain.scores["radiology"])
    assert moved == films
    np.testing.assert_allclose(found.scores["radiology"].sum(1), plain.scores["radiology"].sum(1))
    np.testing.assert_allclose(found.delta, plain.delta, atol=1e-9)


def test_without_places_nothing_is_known_of_neighbours(curved, batch_of) -> None:
    plain = attribute(curved, batch_of(), 1)
    found = attribute(curved, batch_of(), 1, "spread_gradients")
    np.testing.assert_array_equal(found.scores["radiology"], plain.scores["radiology"])
