from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from clinimm.audit.table.suppress import bounds_of_hidden, hidden_groups, indicators


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


def test_rows_that_can_only_be_few_are_not_left_between_shown_ones() -> None:
    """Groups of five and four: everybody less the third leaves at most nine, so the third goes as well."""
    members = indicators([np.zeros(3, dtype=int), np.arange(3)], [1, 3])
    counts = members @ np.array([[5, 0], [4, 0], [100, 100]])
    few = np.array([False, True, True, False])
    assert bounds_of_hidden(members, counts, few, 1, 0) == (0.0, 9.0)
    assert hidden_groups(members, counts, 11).tolist() == [False, True, True, True]


def test_a_count_between_one_and_the_minimum_is_not_left_between_its_bounds() -> None:
    """Margins of a two-by-two table of 20 bound its smallest cell to 2 to 9: they must go."""
    atoms = np.arange(4)
    members = indicators([np.zeros(4, dtype=int), atoms // 2, atoms % 2, atoms], [1, 2, 2, 4])
    counts = members @ np.array([[20], [21], [5], [15]])
    cells_alone = np.array([False] * 5 + [False, False, True, True])
    low, high = bounds_of_hidden(members, counts, cells_alone, 7, 0)
    assert (low, high) == (5.0, 5.0)
    hidden = hidden_groups(members, counts, 11)
    low, high = bounds_of_hidden(members, counts, hidden, 7, 0)
    assert low < 1e-6 or high >= 11


def test_a_hidden_table_of_everybody_is_no_hiding_place() -> None:
    """Other pages tell that five are missed in all; with the second group shown, so is the first."""
    members = indicators([np.zeros(2, dtype=int), np.arange(2)], [1, 2])
    counts = members @ np.array([[5, 100], [0, 100]])
    assert hidden_groups(members, counts, 11).tolist() == [True, True, True]


def test_a_group_that_is_hidden_already_takes_another_with_it() -> None:
    members = indicators([np.zeros(3, dtype=int), np.arange(3)], [1, 3])
    counts = members @ np.array([[50], [100], [40]])
    already = np.array([False, True, False, False])
    assert hidden_groups(members, counts, 11, already).tolist() == [False, True, False, True]


@settings(max_examples=30, deadline=None)
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


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=4, max_size=4))
def test_every_hidden_small_count_could_be_another_by_brute_force(counts: list[int]) -> None:
    """All tables of whole numbers that fit what is shown: a small count is never pinned below 11."""
    atoms = np.arange(4)
    members = indicators([np.zeros(4, dtype=int), atoms // 2, atoms % 2, atoms], [1, 2, 2, 4])
    totals = members @ np.array(counts)
    hidden = hidden_groups(members, totals[:, None], 11)
    shown = members[~hidden]
    grid = np.array(list(itertools.product(range(26), repeat=4)))[:: 1 if shown.any() else 997]
    fits = grid[(grid @ shown.T == totals[~hidden]).all(axis=1)]
    could_be = fits @ members.T
    for group in np.flatnonzero(hidden & (totals > 0) & (totals < 11)):
        assert could_be[:, group].min() == 0 or could_be[:, group].max() >= 11
