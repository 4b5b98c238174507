"""Deletion and insertion: does taking away, or putting back, what a map calls important matter most?

Petsiuk, Das and Saenko, "RISE" (BMVC 2018, arXiv:1806.07421), on logits instead of probabilities,
so that a confident prediction does not flatten the curve. The order is by signed score, from the
most supporting to the most opposing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from jaxtyping import Bool, Float, Int

from clinimm.explain.hide import Hider

#: A map of fewer tokens has hardly an order that could be right or wrong.
FEWEST_TOKENS = 4
#: Removals of a curve, and random orders beside it; each stands for its reverse as well. Coarse steps
#: leave room for so many orders.
_POINTS, _ORDERS = 8, 50
#: Of so many tokens every order is asked (120), and the share is exact.
_ENUMERATED = 5


@dataclass(frozen=True)
class Curves:
    """Areas under the logit against the share of tokens removed, or put back (0 to 1), in logits.

    Attributes:
        tokens: how many tokens the map has.
        deletion: lower is better: a faithful order finds what holds the logit up.
        insertion: higher is better.
        random: of random orders, averaged; the same for both, for an order that is put back is its
            reverse taken away.
        beaten: one less the share of orders, this one among them, whose two gains together are at least
            as large. An order that knows nothing comes to 0.95 or more one time in twenty.
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
    """How many removals a curve has, and how many random orders, with their reverses, stand beside it."""

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
        effort: points and orders; None is a fixed choice.
    """
    effort = effort or Effort(_POINTS, _ORDERS)
    place = np.flatnonzero(scope)
    orders = [place[_order(scores[place])]]
    if edges is not None:
        orders.append(place[_order(edges[place])])
    drawn = _rivals(place, effort.orders, seed)
    steps = np.unique(np.linspace(0, len(place), effort.points + 1).round().astype(int))
    # Putting back from the top is taking away from the bottom, read from its end.
    both = (*orders, *drawn)
    sets = [hidden_along(way, steps, len(scope)) for order in both for way in (order, order[::-1])]
    logits = hider.logits(np.concatenate(sets)).reshape(len(sets), len(steps))
    deletion, insertion = np.trapezoid(logits, steps / len(place), axis=1).reshape(-1, 2).T
    rivals = slice(len(orders), None)
    return Curves(
        len(place),
        float(deletion[0]),
        float(insertion[0]),
        float(np.mean([deletion[rivals], insertion[rivals]])),
        _share_beaten(insertion[0] - deletion[0], (insertion - deletion)[rivals], len(place) <= _ENUMERATED),
        None if edges is None else float(deletion[1]),
        None if edges is None else float(insertion[1]),
    )


def _rivals(place: Int[np.ndarray, " token"], count: int, seed: int) -> list[Int[np.ndarray, " token"]]:
    """Orders of these tokens: all of them where they are few, else random ones."""
    if len(place) <= _ENUMERATED:
        return [np.array(order) for order in permutations(place)]
    random = np.random.default_rng(seed)
    return [random.permutation(place) for _ in range(count)]


def _share_beaten(own: float, rivals: Float[np.ndarray, " order"], every: bool) -> float:
    """One less the permutation test's p-value of ``insertion - deletion``.

    An order's reverse is as random as the order, and swaps the two areas: it counts with the other
    sign. Where every order was asked, the map's own and all reverses are among them.
    """
    slack = 1e-6 * float(np.abs(rivals).max())  # equal orders add up the same areas, but for rounding
    if every:
        return 1 - float(np.mean(rivals >= own - slack))
    against = np.concatenate([rivals, -rivals])
    return 1 - float(1 + np.sum(against >= own - slack)) / (1 + len(against))


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
