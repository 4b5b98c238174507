"""Deletion and insertion: does taking away, or putting back, what a map calls important matter most?

Petsiuk, Das and Saenko, "RISE" (BMVC 2018, arXiv:1806.07421), on logits instead of probabilities,
so that a confident prediction does not flatten the curve. The order is by signed score, from the
most supporting to the most opposing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from clinimm.explain.hide import Hider

#: A map of fewer tokens has hardly an order that could be right or wrong.
FEWEST_TOKENS = 4
#: Removals of a curve and random orders beside it: of the whole budget, and of one modality's map.
_POINTS = {True: 16, False: 10}
_ORDERS = {True: 8, False: 6}


@dataclass(frozen=True)
class Curves:
    """Areas under the logit against the share of tokens removed, or put back (0 to 1), in logits.

    Attributes:
        tokens: how many tokens the map has.
        deletion: lower is better: a faithful order finds what holds the logit up.
        insertion: higher is better.
        random: of random orders, averaged; the same for both, for an order that is put back is its
            reverse taken away.
        beaten: share of random orders that both curves beat.
        edges_deletion, edges_insertion: of an edge detector's order; None where there is none.
    """

    tokens: int
    deletion: float
    insertion: float
    random: float
    beaten: float
    edges_deletion: float | None = None
    edges_insertion: float | None = None


@dataclass(frozen=True)
class Effort:
    """How many removals a curve has, and how many random orders stand beside it."""

    points: int
    orders: int


def curves(
    hider: Hider,
    scores: Float[np.ndarray, " token"],
    scope: Bool[np.ndarray, " token"],
    edges: Float[np.ndarray, " token"] | None = None,
    seed: int = 0,
    effort: Effort | None = None,
) -> Curves:
    """The curves of one map; tokens outside ``scope`` stay.

    Args:
        hider: of the subject.
        scores: of its real tokens, modality after modality.
        scope: which of them are the map.
        edges: an edge detector's score of them; only those in ``scope`` are looked at.
        seed: of the random orders.
        effort: points and orders; None is a fixed choice, more for the whole budget.
    """
    whole = bool(scope.all())
    effort = effort or Effort(_POINTS[whole], _ORDERS[whole])
    place = np.flatnonzero(scope)
    random = np.random.default_rng(seed)
    orders = [place[_order(scores[place])]]
    if edges is not None:
        orders.append(place[_order(edges[place])])
    drawn = [random.permutation(place) for _ in range(effort.orders)]
    steps = np.unique(np.linspace(0, len(place), effort.points + 1).round().astype(int))
    sets = [hidden_along(order, steps, len(scope)) for order in (*orders, *drawn)]
    sets += [hidden_along(order[::-1], steps, len(scope)) for order in orders]
    logits = hider.logits(np.concatenate(sets)).reshape(len(sets), len(steps))
    areas = np.trapezoid(logits, steps / len(place), axis=1)
    asked, at_random, reverse = np.split(areas, [len(orders), len(orders) + len(drawn)])
    # Putting back from the top is taking away from the bottom, read from its end.
    beats = (asked[0] < at_random) & (reverse[0] > at_random)
    return Curves(
        len(place),
        float(asked[0]),
        float(reverse[0]),
        float(at_random.mean()),
        float(beats.mean()),
        None if edges is None else float(asked[1]),
        None if edges is None else float(reverse[1]),
    )


def all_curves(
    hider: Hider,
    scores: Float[np.ndarray, " token"],
    edges: Mapping[str, Float[np.ndarray, " token"]] | None = None,
    seed: int = 0,
) -> dict[str, Curves]:
    """The curves of every modality's map that has tokens enough, and of the budget as a whole.

    Args:
        hider: of the subject.
        scores: of its real tokens.
        edges: modality -> an edge detector's score of that modality's real tokens.
        seed: of the random orders.
    """
    found = {}
    scopes = hider.scopes()
    for name, scope in scopes.items():
        if scope.sum() < FEWEST_TOKENS:
            continue
        detector = None
        if edges is not None and name in edges:
            detector = np.zeros(len(scope))
            detector[scope] = edges[name]
        found[name] = curves(hider, scores, scope, detector, seed)
    return found


def hidden_along(
    order: Int[np.ndarray, " token"], steps: Int[np.ndarray, " point"], tokens: int
) -> Bool[np.ndarray, "point token"]:
    """True where a token is hidden after each number of steps along an order."""
    rank = np.full(tokens, tokens)
    rank[order] = np.arange(len(order))
    return rank[None, :] < steps[:, None]


def _order(scores: Float[np.ndarray, " token"]) -> Int[np.ndarray, " token"]:
    return np.argsort(-scores, kind="stable")
