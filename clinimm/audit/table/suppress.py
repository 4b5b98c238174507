"""Which groups a published table must not show, so that no small count can be seen or derived.

A group is hidden where its rows, or any cell of its two-by-two table, number from 1 to below the
minimum. That alone can be undone, by subtraction (overall less the others) and by bounds (a part is
never larger than the whole, nor below zero). So more groups are hidden until neither works: no hidden
group is a linear combination of shown ones, and for no hidden small count do the shown ones leave only
values from 1 to below the minimum. The second is a linear programme over the smallest units of the
table, whose counts are at least zero (Fischetti and Salazar, Management Science 2001: the attacker's
problem). Units that nobody is in are taken as known to be empty, which only helps the attacker. So is
the table of everybody taken as known, even where it is hidden: other pages tell how a model does for all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64, Int
from numpy import ndarray
from scipy import sparse
from scipy.optimize import linprog

_ZERO = 1e-8
_TOLERANCE = 1e-6
#: No table has so many rows: what no shown group holds is bounded by this alone.
_MOST = 1e9


def hidden_groups(
    members: Bool[ndarray, "group atom"],
    counts: Int[ndarray, "group cell"],
    minimum: int,
    already: Bool[ndarray, " group"] | None = None,
) -> Bool[ndarray, " group"]:
    """The groups that are not published.

    Args:
        members: which atoms each group consists of; everybody may be one of the groups.
        counts: the cells of each group's two-by-two table.
        minimum: no count from 1 to below this is shown.
        already: groups that are hidden for another reason.
    """
    small = ((counts > 0) & (counts < minimum)).any(axis=1) | (counts.sum(axis=1) < minimum)
    everybody = np.asarray(members.all(axis=1))
    hidden = small.copy() if already is None else small | already
    sizes = counts.sum(axis=1)
    while True:
        unseen = hidden & ~everybody
        used = _given_up(_that_derive_hidden(members, unseen), everybody)
        used = used or _given_up(_that_bound_hidden(members, counts, unseen, minimum), everybody)
        if not used:
            return hidden
        # The smallest shown group of each derivation is given up.
        for shown in used:
            hidden[shown[np.argmin(sizes[shown])]] = True


def _given_up(
    derivations: Sequence[Int[ndarray, " shown"]], everybody: Bool[ndarray, " group"]
) -> list[Int[ndarray, " shown"]]:
    """Of each derivation the groups that can be hidden against it: all but everybody."""
    left = [shown[~everybody[shown]] for shown in derivations]
    return [shown for shown in left if len(shown)]


def bounds_of_hidden(
    members: Bool[ndarray, "group atom"],
    counts: Int[ndarray, "group cell"],
    hidden: Bool[ndarray, " group"],
    group: int,
    cell: int,
) -> tuple[float, float]:
    """Least and most that a hidden count could be, by what is shown (the attacker's problem)."""
    problem = _Attack(members[~hidden], counts[~hidden, cell])
    ends = [problem.solve(sign * members[group].astype(float))[0] @ members[group] for sign in (1.0, -1.0)]
    return float(ends[0]), float(ends[1])


class _Attack:
    """Everything that the counts in one cell can be, seen from outside.

    Args:
        shown: atoms of the shown groups.
        totals: their counts.
    """

    def __init__(self, shown: Bool[ndarray, "shown atom"], totals: Int[ndarray, " shown"]) -> None:
        self._matrix = sparse.csr_array(shown.astype(float))
        self._totals = totals.astype(float)

    def solve(
        self, goal: Float64[ndarray, " atom"]
    ) -> tuple[Float64[ndarray, " atom"], Bool[ndarray, " shown"]]:
        """Counts of the atoms that fit what is shown and make the goal least, and what holds them there."""
        if not self._matrix.shape[0]:
            return np.where(goal < 0, _MOST, 0.0), np.zeros(0, dtype=bool)
        found = linprog(goal, A_eq=self._matrix, b_eq=self._totals, bounds=(0, _MOST), method="highs")
        return np.asarray(found.x), np.abs(found.eqlin.marginals) > _ZERO


def _that_derive_hidden(
    members: Bool[ndarray, "group atom"], hidden: Bool[ndarray, " group"]
) -> list[Int[ndarray, " shown"]]:
    """For each hidden group that shown ones add up to, those that it takes."""
    if not hidden.any() or hidden.all():
        return []
    shown = members[~hidden].astype(float)
    targets = members[hidden].astype(float)
    weights, *_ = np.linalg.lstsq(shown.T, targets.T, rcond=None)
    error = np.abs(shown.T @ weights - targets.T).max(axis=0)
    places = np.flatnonzero(~hidden)
    return [places[np.abs(column) > _ZERO] for column in weights.T[error < 1e-6]]


def _that_bound_hidden(
    members: Bool[ndarray, "group atom"],
    counts: Int[ndarray, "group cell"],
    hidden: Bool[ndarray, " group"],
    minimum: int,
) -> list[Int[ndarray, " shown"]]:
    """For each hidden small count that the shown ones pin down, the shown groups that hold it there."""
    if not hidden.any() or hidden.all():
        return []
    cells = range(counts.shape[1])
    attacks = [_Attack(members[~hidden], counts[~hidden, cell]) for cell in cells]
    pinned: list[Bool[ndarray, " shown"]] = []
    for cell in cells:
        pinned += _pinned(members, counts[:, cell], attacks[cell : cell + 1], hidden, minimum)
    if counts.shape[1] > 1:
        pinned += _pinned(members, counts.sum(axis=1), attacks, hidden, minimum, named=True)
    places = np.flatnonzero(~hidden)
    return [places[held] for held in pinned if held.any()]


def _pinned(  # the attacker's problem, and what is to be found out
    members: Bool[ndarray, "group atom"],
    counts: Int[ndarray, " group"],
    attacks: Sequence[_Attack],
    hidden: Bool[ndarray, " group"],
    minimum: int,
    named: bool = False,
) -> list[Bool[ndarray, " shown"]]:
    """What holds each hidden count of which it would follow that it is from 1 to below the minimum.

    Each solution is a table that fits; it clears every group whose count in it lies outside that range,
    so most groups never need a programme of their own. Of rows, ``named`` says that nobody needs to be
    told that there is at least one: the group stands in the list.
    """
    open_ones = [int(group) for group in np.flatnonzero(hidden & (counts > 0) & (counts < minimum))]
    found = []
    while open_ones:
        group = open_ones[0]
        held = np.zeros(int((~hidden).sum()), dtype=bool)
        for sign in (-1.0,) if named else (-1.0, 1.0):
            solved = [attack.solve(sign * members[group].astype(float)) for attack in attacks]
            could_be = members @ np.sum([counts_of for counts_of, _ in solved], axis=0)
            held |= np.any([tight for _, tight in solved], axis=0)
            cleared = could_be > minimum - _TOLERANCE
            if not named:
                cleared |= could_be < _TOLERANCE
            open_ones = [one for one in open_ones if not cleared[one]]
            if group not in open_ones:
                break
        else:
            found.append(held)
            open_ones.remove(group)
    return found


def indicators(
    of_atoms: Sequence[Int[ndarray, " atom"]], sizes: Sequence[int]
) -> Bool[ndarray, "group atom"]:
    """Which atoms each group of several groupings consists of, grouping after grouping."""
    return np.concatenate(
        [np.arange(size)[:, None] == of_atom[None] for of_atom, size in zip(of_atoms, sizes, strict=True)]
    )
