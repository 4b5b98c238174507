"""Which groups a published table must not show, so that no small count can be seen or derived.

A group is hidden where its rows, or any cell of its two-by-two table, number from 1 to below the
minimum. That alone can be undone by subtraction (overall less the others), so more groups are hidden
until no hidden group is a linear combination of shown ones. Each shown group is one equation over the
smallest units of the table; a hidden group can be derived exactly if it lies in their span.
Bounds that follow from counts not being negative are not looked for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int
from numpy import ndarray

_ZERO = 1e-8


def hidden_groups(
    members: Bool[ndarray, "group atom"], counts: Int[ndarray, "group cell"], minimum: int
) -> Bool[ndarray, " group"]:
    """The groups that are not published.

    Args:
        members: which atoms each group consists of; everybody may be one of the groups.
        counts: the cells of each group's two-by-two table.
        minimum: no count from 1 to below this is shown.
    """
    small = ((counts > 0) & (counts < minimum)).any(axis=1) | (counts.sum(axis=1) < minimum)
    hidden = small.copy()
    sizes = counts.sum(axis=1)
    while True:
        used = _that_derive_hidden(members, hidden)
        if not used:
            return hidden
        # The smallest shown group of each derivation is given up; everybody goes last.
        for shown in used:
            hidden[shown[np.argmin(sizes[shown])]] = True


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


def indicators(
    of_atoms: Sequence[Int[ndarray, " atom"]], sizes: Sequence[int]
) -> Bool[ndarray, "group atom"]:
    """Which atoms each group of several groupings consists of, grouping after grouping."""
    return np.concatenate(
        [np.arange(size)[:, None] == of_atom[None] for of_atom, size in zip(of_atoms, sizes, strict=True)]
    )
