"""The label is legible at every size, and is found again in pixels that were compressed or exported."""

from __future__ import annotations

import numpy as np
import pytest

from clinimm.staining.codec import Codec, padded
from clinimm.staining.label_mark import draw, label, shows_label
from tests.staining.whole_slide_parts import tissue


@pytest.mark.parametrize("size", [(60_000, 80_000), (700, 900), (160, 256), (90, 130)])
def test_label_is_found_after_compression(size: tuple[int, int]) -> None:
    mark = label("KI67", size[1], size[0])
    picture = draw(tissue(min(size[0], 256), min(size[1], 256)), 0, 0, mark)
    codec = Codec("jpeg", 60)
    assert shows_label(codec.decode(codec.encode(padded(picture)))[: picture.shape[0], : picture.shape[1]])


def test_tissue_glass_and_another_text_are_no_label() -> None:
    assert not shows_label(tissue(128, 256))
    assert not shows_label(np.full((128, 256, 3), 255, np.uint8))
    other = label("KI67", 1000, 1000)[::-1]
    assert not shows_label(draw(tissue(128, 256), 0, 0, other))


def test_letters_are_as_tall_at_every_level_and_dark_on_white() -> None:
    large, small = label("CD3", 50_000, 50_000), label("CD3", 500, 500)
    assert (large == small).all()
    assert large.shape[0] >= 60
    assert (large == 255).all(axis=2).mean() > 0.5
    assert large[..., 1].min() < 60  # contrast: green of the letters against white


def test_label_runs_across_tiles() -> None:
    mark = label("KI67", 5000, 5000)
    whole = draw(tissue(300, 300), 0, 0, mark)
    parts = [
        [
            draw(tissue(300, 300)[top : top + 50, left : left + 50], top, left, mark)
            for left in range(0, 300, 50)
        ]
        for top in range(0, 300, 50)
    ]
    joined = np.concatenate([np.concatenate(row, axis=1) for row in parts])
    assert (joined == whole).all()
