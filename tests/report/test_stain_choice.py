from __future__ import annotations

import math
from itertools import pairwise

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from clinimm.report.stain_choice import ranked, spread


@given(st.integers(0, 50), st.integers(0, 12))
def test_places_are_spread_from_the_first_to_the_last(count: int, most: int) -> None:
    places = spread(count, most)
    assert len(places) == min(count, most)
    assert places == sorted(set(places))
    if places:
        assert places[0] == 0
    if len(places) > 1:
        assert places[-1] == count - 1
        steps = [after - before for before, after in pairwise(places)]
        assert max(steps) - min(steps) <= 1


def test_the_riskiest_tile_ranks_a_region_and_what_is_unknown_counts_as_worst() -> None:
    tiles = pd.DataFrame({"file": ["a", "a", "b", "c"], "risk": [0.1, 0.9, 0.5, math.nan]})
    assert [file for file, _ in ranked(tiles, ["a", "b", "c", "d"])] == ["c", "d", "a", "b"]


def test_equal_risk_is_ordered_by_file() -> None:
    tiles = pd.DataFrame({"file": ["b", "a"], "risk": [0.5, 0.5]})
    assert [file for file, _ in ranked(tiles, ["b", "a"])] == ["a", "b"]
