"""Coarser levels are means of the finer ones, carry the label, and go on after an interruption."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clinimm.staining.codec import Codec
from clinimm.staining.label_mark import label, shows_label
from clinimm.staining.pyramid import build_levels, halved, level_sizes
from clinimm.staining.whole_slide import StainSettings
from tests.staining.whole_slide_parts import TinyStainer, level_pixels, source_of, stain, tissue

LOSSLESS = StainSettings("KI67", block=256, codec=Codec("deflate"), all_tissue=True)


def test_half_is_scikit_image_s_local_mean() -> None:
    from skimage.transform import downscale_local_mean

    pixels = tissue(101, 64)
    even = np.pad(pixels, ((0, 1), (0, 0), (0, 0)), mode="edge")
    expected = downscale_local_mean(even.astype(float), (2, 2, 1))
    assert np.abs(halved(pixels) - expected).max() <= 0.5


def test_levels_are_means_of_the_level_below_outside_the_label(tmp_path: Path) -> None:
    stained = stain(tmp_path, tissue(1200, 1700), LOSSLESS)
    sizes = [(level.width, level.height) for level in stained.pyramid.levels]
    assert sizes == level_sizes(1700, 1200) == [(1700, 1200), (850, 600), (425, 300)]
    for number in (1, 2):
        found, expected = level_pixels(stained, number), halved(level_pixels(stained, number - 1))
        mark = label("KI67", *sizes[number])
        found, expected = found.copy(), expected.copy()
        for one in (found, expected):
            one[: mark.shape[0], : mark.shape[1]] = 0
        assert (found == expected).all()


def test_every_level_shows_the_label(tmp_path: Path) -> None:
    stained = stain(tmp_path, tissue(1200, 1700), LOSSLESS)
    for number in range(3):
        assert shows_label(level_pixels(stained, number)[:128, :256])


def test_interrupted_pyramid_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clinimm.staining import pyramid as module
    from clinimm.staining.whole_slide import plan_for

    stained = stain(tmp_path, tissue(1200, 1700), LOSSLESS)
    spool = stained.pyramid.spool
    digests = [stained.pyramid.digest(one) for one in stained.pyramid.levels]
    for one in (spool.folder / "level-01" / "band-00001.npz", spool.folder / "level-02" / "band-00000.npz"):
        one.unlink()
    made = []
    original = module._tile_row
    monkeypatch.setattr(module, "_tile_row", lambda *given: made.append(given[3]) or original(*given))
    source = source_of(tissue(1200, 1700))
    again = build_levels(spool, plan_for(source.grid, TinyStainer(), 256), LOSSLESS.codec, "KI67")
    assert made == [1, 0]
    assert [again.digest(one) for one in again.levels] == digests
