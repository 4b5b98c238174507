"""Infidelity: does a map foretell what the logit loses when tokens go missing together?

Yeh et al., "On the (In)fidelity and Sensitivity of Explanations" (NeurIPS 2019,
arXiv:1901.09392), with the perturbation that a hospital knows: some tokens are not there. Captum's
``infidelity`` wants tensors of one shape; this asks the same of a record, and a test holds the two
equal.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from clinimm.explain.hide import Hider

_SMALLEST_LOSS = 1e-6


def draw_hidden(scope: Bool[np.ndarray, " token"], draws: int, seed: int) -> Bool[np.ndarray, "draw token"]:
    """Random sets of a map's tokens, of every size alike, so that few and many are both asked for."""
    random = np.random.default_rng(seed)
    place = np.flatnonzero(scope)
    found = np.zeros((draws, len(scope)), dtype=bool)
    for row in found:
        row[random.choice(place, size=random.integers(1, len(place) + 1), replace=False)] = True
    return found


def infidelity(
    scores: Float[np.ndarray, " token"],
    hidden: Bool[np.ndarray, "draw token"],
    lost: Float[np.ndarray, " draw"],
    scaled: bool = False,
) -> float | None:
    """Share of what the logit lost that the map does not foretell: 0 is faithful, 1 as good as no map.

    The mean squared error of ``sum of the hidden tokens' scores`` against the loss, over the mean squared
    loss. A map that foretells the wrong side, or far too much, is above 1. None where hiding changes
    nothing.

    Args:
        scores: of the real tokens.
        hidden: which of them each draw hides.
        lost: the logit less the logit of each draw.
        scaled: each map at its best scale (the paper's normalisation), for scores that are no amounts
            of the logit. The scale is never negative: a map turned round is no good map.
    """
    power = float(np.mean(lost**2))
    if power < _SMALLEST_LOSS**2:
        return None
    foretold = hidden @ scores
    size = float(np.mean(foretold**2))
    best = max(0.0, float(np.mean(foretold * lost)) / size) if size > 0 else 0.0
    return float(np.mean(((best if scaled else 1.0) * foretold - lost) ** 2)) / power


def all_infidelities(
    hider: Hider, scores: Float[np.ndarray, " token"], draws: int = 24, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """The infidelity, as it is and scaled, of every modality's map with more than one token, and of all."""
    scopes = {name: scope for name, scope in hider.scopes().items() if scope.sum() > 1}
    sets = [draw_hidden(scope, draws, seed) for scope in scopes.values()]
    nothing = np.zeros((1, len(scores)), dtype=bool)
    logits = hider.logits(np.concatenate([nothing, *sets]))
    losses = (logits[0] - logits[1:]).reshape(len(sets), draws)
    found = {}
    for name, hidden, lost in zip(scopes, sets, losses, strict=True):
        plain, scaled = (infidelity(scores, hidden, lost, way) for way in (False, True))
        if plain is not None and scaled is not None:
            found[name] = (plain, scaled)
    return found
