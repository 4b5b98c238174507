"""What each modality contributed: exact Shapley values over the modalities present.

All 2^M coalitions go through the model as one batch (16 rows for four modalities), so the answer
is exact, not sampled (Shapley 1953; Lundberg and Lee 2017, arXiv:1705.07874).
"""

from __future__ import annotations

from itertools import combinations
from math import factorial

import numpy as np
import torch

from clinimm.core.errors import DataError
from clinimm.explain.attribute import Explainable, embed_present
from clinimm.nn.tokens import Batch, Tokens

#: More modalities than this would make the one batch too large (2^8 = 256 rows).
_MOST_MODALITIES = 8


def modality_shapley(model: Explainable, batch: Batch, target_class: int) -> dict[str, float]:
    """Signed Shapley value of each modality that the one subject in ``batch`` has.

    A coalition keeps its modalities' tokens and masks all others, as if they were absent; the sum
    is ``logit - logit(no modality)``.

    Args:
        model: a fused model.
        batch: raw tokens of one subject.
        target_class: which logit.

    Raises:
        DataError: the batch holds more than one subject, no token, or more than 8 modalities.
    """
    model.eval()
    embedded, _ = embed_present(model, batch)
    names = tuple(sorted(embedded))
    _check(embedded, names)
    coalitions = [subset for size in range(len(names) + 1) for subset in combinations(names, size)]
    with torch.no_grad():
        logits = model.logits({name: _repeat(embedded[name], name, coalitions) for name in names})
    worth = dict(zip(coalitions, logits[:, target_class].double().cpu().tolist(), strict=True))
    return shapley_values(names, worth)


def shapley_values(names: tuple[str, ...], worth: dict[tuple[str, ...], float]) -> dict[str, float]:
    """Shapley value of each player from the worth of every coalition.

    Args:
        names: players, in the order in which the keys of ``worth`` list them.
        worth: every subset of ``names``, the empty one too -> what it achieves.

    >>> shapley_values(("a", "b"), {(): 0.0, ("a",): 1.0, ("b",): 0.0, ("a", "b"): 3.0})
    {'a': 2.0, 'b': 1.0}
    """
    count = len(names)
    found = {}
    for player in names:
        others = tuple(name for name in names if name != player)
        gains = [
            _weight(size, count) * (worth[_with(player, subset, names)] - worth[subset])
            for size in range(count)
            for subset in combinations(others, size)
        ]
        found[player] = float(np.sum(gains))
    return found


def _weight(size: int, count: int) -> float:
    return factorial(size) * factorial(count - size - 1) / factorial(count)


def _with(player: str, subset: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name == player or name in subset)


def _repeat(tokens: Tokens, name: str, coalitions: list[tuple[str, ...]]) -> Tokens:
    """The one subject's tokens once a coalition, masked where the coalition lacks the modality."""
    rows = len(coalitions)
    inside = torch.tensor([name in subset for subset in coalitions], device=tokens.mask.device)
    return tokens.expand(rows).with_mask(tokens.mask & inside[:, None])


def _check(embedded: Batch, names: tuple[str, ...]) -> None:
    subjects = len(embedded[names[0]])
    if subjects != 1:
        raise DataError(f"got {subjects} subjects, expected one: explain them one at a time.")
    if len(names) > _MOST_MODALITIES:
        raise DataError(
            f"{len(names)} modalities make {2 ** len(names)} coalitions; at most {_MOST_MODALITIES} fit."
        )
