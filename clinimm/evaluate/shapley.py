"""Exact Shapley values and interactions from the worth of every coalition; numpy alone.

Shapley 1953; the interaction index after Grabisch and Roubens (Int J Game Theory 28, 1999).
"""

from __future__ import annotations

from itertools import combinations
from math import factorial

import numpy as np
from jaxtyping import Float


def shapley(
    worth: Float[np.ndarray, "subject coalition"],
) -> tuple[Float[np.ndarray, "subject player"], Float[np.ndarray, "subject player player"]]:
    """Shapley values and the Shapley interaction index of each pair, from the worth of coalitions.

    Args:
        worth: (subject, 2^M); bit ``m`` of a column's number says whether player ``m`` takes part.

    >>> values, pairs = shapley(np.array([[0.0, 1.0, 0.0, 3.0]]))
    >>> values.tolist(), pairs[0, 0, 1].item()
    ([[2.0, 1.0]], 2.0)
    """
    count = int(worth.shape[1]).bit_length() - 1
    values = np.stack([worth @ value_weights(player, count) for player in range(count)], axis=1)
    pairs = np.zeros((len(worth), count, count))
    for one, two in combinations(range(count), 2):
        pairs[:, one, two] = pairs[:, two, one] = worth @ _pair_weights(one, two, count)
    return values, pairs


def value_weights(player: int, count: int) -> Float[np.ndarray, " coalition"]:
    """How a player's value is mixed from the worth of all coalitions."""
    coalition = np.arange(2**count)
    inside = (coalition >> player & 1).astype(bool)
    others = np.bitwise_count(coalition) - inside
    weight = np.array([factorial(s) * factorial(count - s - 1) / factorial(count) for s in range(count)])
    return np.where(inside, weight[others], -weight[others])


def _pair_weights(one: int, two: int, count: int) -> Float[np.ndarray, " coalition"]:
    """How a pair's interaction is mixed from the worth of all coalitions."""
    coalition = np.arange(2**count)
    inside = (coalition >> one & 1) + (coalition >> two & 1)
    others = np.bitwise_count(coalition) - inside
    weight = np.array(
        [factorial(s) * factorial(count - s - 2) / factorial(count - 1) for s in range(count - 1)]
    )
    return np.where(inside == 1, -weight[others], weight[others])
