from __future__ import annotations

import io
import re

import numpy as np
from PIL import Image

from clinimm.modalities.pathology.overlay import draw, lines, page, picture_png
from clinimm.modalities.pathology.quality import ARTEFACTS, Quality, examine
from tests.modalities.pathology.drawn_artefacts import UM, overview, pen


def spoilt() -> Quality:
    return examine(pen(overview(0), "green", 0)[0], UM)


def test_artefacts_are_coloured_and_the_rest_is_left() -> None:
    found = spoilt()
    picture = draw(found)
    inked, usable = found.artefacts["pen_green"], found.usable
    untouched = ~inked & ~found.faulty & ~usable
    np.testing.assert_array_equal(picture[untouched], found.overview[untouched])
    assert (picture[inked] != found.overview[inked]).any(axis=-1).mean() > 0.99
    # The outline of usable tissue is drawn, its inside is not.
    changed = (picture[usable] != found.overview[usable]).any(axis=-1)
    assert 0 < changed.mean() < 0.8


def test_the_page_stands_alone_and_states_shares_and_n() -> None:
    found = spoilt()
    text = page(found, "block <A>")
    assert "block &lt;A&gt;" in text and "<A>" not in text
    assert not re.search(r'(src|href)="(?!data:)', text) and "<script" not in text
    assert f"n = {found.tissue.size:,}" in text
    assert f"<td>{found.share('pen_green'):.1%}</td>" in text
    assert "Focus was not judged" in text
    assert text.count("<svg") == len(ARTEFACTS) + 1
    assert len(lines(found)) == len(ARTEFACTS) + 2


def test_the_picture_is_enlarged_or_shrunk_to_be_looked_at() -> None:
    picture = Image.open(io.BytesIO(picture_png(spoilt())))
    assert 600 <= max(picture.size) <= 1600
    large = examine(np.full((10, 2000, 3), 244, np.uint8), UM)
    assert max(Image.open(io.BytesIO(picture_png(large))).size) == 1600
