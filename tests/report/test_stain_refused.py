from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from clinimm.report.stain_refused import WHY, refused_blocks, words
from clinimm.staining.refusal import TILE_REASONS

SIDE = 32


def test_every_reason_has_words() -> None:
    assert set(TILE_REASONS) <= set(WHY)
    assert words("outside,pen") == ("unlike the training tissue", "pen on the tissue")


def table(refused: np.ndarray, reasons: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"left": SIDE * column, "top": SIDE * row, "side": SIDE, "refused": bool(refused[row, column]),
             "reasons": str(reasons[row, column])}
            for row in range(refused.shape[0])
            for column in range(refused.shape[1])
        ]
    )  # fmt: skip


@given(
    st.lists(
        st.lists(st.sampled_from(["", "outside", "quality"]), min_size=4, max_size=4), min_size=3, max_size=3
    )
)
def test_blocks_cover_each_refused_tile_once_with_its_own_reason(grid: list[list[str]]) -> None:
    reasons = np.array(grid)
    blocks = refused_blocks(table(reasons != "", reasons))
    drawn = np.zeros(reasons.shape, dtype=int)
    for block in blocks:
        place = (
            slice(block.top // SIDE, (block.top + block.height) // SIDE),
            slice(block.left // SIDE, (block.left + block.width) // SIDE),
        )
        drawn[place] += 1
        assert all(words(str(one)) == block.why for one in reasons[place].ravel())
    assert (drawn == (reasons != "")).all()


def test_neighbours_with_the_same_reason_become_one_rectangle() -> None:
    reasons = np.array([["outside", "outside", ""], ["outside", "outside", "quality"]])
    assert len(refused_blocks(table(reasons != "", reasons))) == 2


def test_an_unknown_reason_is_shown_as_it_is() -> None:
    assert words("outside,novel") == ("unlike the training tissue", "novel")
