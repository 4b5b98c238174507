from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from clinimm.audit.table.suppress import hidden_groups, indicators


def _table(counts: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Everybody, rows and columns of a two-by-three table of atoms, and the atoms."""
    atoms = np.arange(6)
    groupings = [np.zeros(6, dtype=int), atoms // 3, atoms % 3, atoms]
    members = indicators(groupings, [1, 2, 3, 6])
    return members, members @ np.array(counts)[:, None]


def test_one_small_group_takes_another_with_it() -> None:
    members = indicators([np.zeros(3, dtype=int), np.arange(3)], [1, 3])
    counts = members @ np.array([[5], [100], [40]])
    assert hidden_groups(members, counts, 11).tolist() == [False, True, False, True]


def test_nothing_small_hides_nothing() -> None:
    members, counts = _table([20, 30, 40, 50, 60, 70])
    assert not hidden_groups(members, counts, 11).any()


@settings(max_examples=60)
@given(st.lists(st.integers(0, 60), min_size=6, max_size=6))
def test_no_hidden_count_follows_from_shown_ones(counts: list[int]) -> None:
    members, totals = _table(counts)
    hidden = hidden_groups(members, totals, 11)
    assert all(hidden[totals[:, 0] < 11])
    shown = members[~hidden].astype(float)
    rank = np.linalg.matrix_rank(shown) if len(shown) else 0
    for group in np.flatnonzero(hidden):
        with_it = np.vstack([shown, members[group].astype(float)])
        assert np.linalg.matrix_rank(with_it) == rank + 1
