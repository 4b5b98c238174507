"""Pairs cut into blocks."""

from __future__ import annotations

import numpy as np
import pytest

from clinimm.staining.blocks import cut_blocks
from clinimm.staining.pairs import StainPair


def _pair(rows: int, columns: int) -> StainPair:
    source = np.random.default_rng(0).integers(0, 256, size=(rows, columns, 3), dtype=np.uint8)
    return StainPair("s", "a", source, {"KI67": source}, np.ones((rows, columns), dtype=bool), 0.5)


@pytest.mark.parametrize("shape", [(100, 150), (96, 64), (20, 20)])
def test_blocks_cover_every_pixel_once(shape: tuple[int, int]) -> None:
    pair = _pair(*shape)
    cut = cut_blocks([pair], {"model": [pair.source]}, 20.0)
    assert sum(block.valid.size for block in cut.pairs) == pair.valid.size
    assert len(set(cut.units)) == len(cut.pairs) == max(1, shape[0] // 40) * max(1, shape[1] // 40)
    for block, made in zip(cut.pairs, cut.predictions["model"], strict=True):
        assert np.array_equal(block.source, made)
        assert np.array_equal(block.targets["KI67"], made)


def test_blocks_without_a_valid_pixel_are_left_out() -> None:
    pair = _pair(80, 80)
    pair.valid[:40] = False
    assert len(cut_blocks([pair], {}, 20.0).pairs) == 2
