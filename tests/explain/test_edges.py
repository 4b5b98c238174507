from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from skimage.filters import sobel as skimage_sobel

from clinimm.core.attribution import Place
from clinimm.core.errors import InputRejected
from clinimm.explain.edges import Edges, edge_scores


def test_only_the_box_with_the_edge_is_strong_and_a_flat_one_has_none() -> None:
    picture = np.zeros((20, 40))
    picture[:, 30:] = 1.0
    found = edge_scores(picture, np.array([[0.0, 0, 20, 20], [20, 0, 40, 20]]))
    assert found[0] == 0
    assert found[1] > 0


def test_boxes_are_ordered_as_by_scikit_images_sobel() -> None:
    picture = np.random.default_rng(0).random((32, 32)).cumsum(axis=0)
    boxes = np.array([[x, y, x + 8, y + 8] for y in range(8, 24, 8) for x in range(8, 24, 8)], dtype=float)
    strength = skimage_sobel(picture)
    expected = [strength[int(b[1]) : int(b[3]), int(b[0]) : int(b[2])].mean() for b in boxes]
    found = edge_scores(picture, boxes)
    np.testing.assert_allclose(found / found.sum(), np.array(expected) / np.sum(expected), rtol=1e-6)


def _place(kind: str, digest: str) -> Place:
    return Place(kind, digest, (0.0, 0.0, 4.0, 4.0), "", 0.0)


def test_a_picture_that_cannot_be_read_is_counted_and_the_rest_goes_on(monkeypatch) -> None:
    rows = {
        "radiology": pd.DataFrame({"digest": ["d"], "uri": ["u"]}),
        "ehr": pd.DataFrame({"code": ["x"]}),
    }
    corpus = SimpleNamespace(rows=lambda subject, name: rows[name])
    places = {"radiology": [_place("pixels", "d")], "ehr": [Place("event", None, (), "", 0.0)]}
    edges = Edges(opener=None)  # type: ignore[arg-type]  # never reached
    monkeypatch.setattr(Edges, "_film", lambda self, uri: (np.eye(4), 1.0))
    assert set(edges.of(corpus, "s", places)) == {"radiology"}

    def refuse(self: Edges, uri: str) -> None:
        raise InputRejected("broken", "the file is broken", "export it again")

    monkeypatch.setattr(Edges, "_film", refuse)
    assert edges.of(corpus, "s", places) == {}
    assert edges.missed == {"s/radiology": "InputRejected"}


def test_a_slides_boxes_are_scaled_to_its_overview(monkeypatch) -> None:
    corpus = SimpleNamespace(rows=lambda subject, name: pd.DataFrame({"digest": ["d"], "uri": ["u"]}))
    picture = np.zeros((10, 10))
    picture[:, 5:] = 1.0
    monkeypatch.setattr(Edges, "_slide", lambda self, uri: (picture, 0.1))
    places = [Place("tile", "d", box, "", 0.0) for box in ((0.0, 0, 30, 100), (40, 0, 60, 100))]
    found = Edges(opener=None).of(corpus, "s", {"pathology": places})["pathology"]  # type: ignore[arg-type]
    assert found[0] == 0
    assert found[1] == pytest.approx(found.max())
