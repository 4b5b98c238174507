"""Blocks cover a slide once, lie on the network's grid, and are mirrored as numpy mirrors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinimm.staining.plan import TILE_PIXELS, Plan, reflected

sizes = st.integers(1, 3000)


@given(sizes, sizes, st.sampled_from([1, 4, 8, 16]), st.sampled_from([256, 512, 1024]))
def test_blocks_cover_every_pixel_once(width: int, height: int, stride: int, block: int) -> None:
    plan = Plan(width, height, stride, 4 * stride, block)
    seen = np.zeros((height, width), np.uint8)
    for number in range(plan.bands):
        for one in plan.band(number):
            seen[one.top : one.bottom, one.left : one.right] += 1
            run = plan.run(one)
            assert (run.top % stride, run.left % stride) == (0, 0)
            assert (run.rows % stride, run.columns % stride) == (0, 0)
            assert run.top <= one.top - plan.halo and run.right >= one.right + plan.halo
            assert (one.top % TILE_PIXELS, one.left % TILE_PIXELS) == (0, 0)
    assert (seen == 1).all()


@given(st.integers(1, 40), st.integers(0, 100), st.integers(0, 100))
def test_reflection_is_numpy_s(length: int, before: int, after: int) -> None:
    expected = np.pad(np.arange(length), (before, after), mode="reflect")
    assert (reflected(-before, length + after, length) == expected).all()


def test_blocks_off_the_grid_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 256"):
        Plan(100, 100, 8, 64, 300)
    with pytest.raises(ValueError, match="halo 60"):
        Plan(100, 100, 8, 60, 512)
