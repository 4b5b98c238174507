"""Whether an explanation has earned a place on the page: completeness and deletion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clinimm.core.errors import DataError
from clinimm.explain.attribute import Explainable, Explanation, attribute, embed_present
from clinimm.nn.tokens import Batch

_ROWS = 64
_REFINEMENTS = (1, 2, 4, 8, 16)
_SMALL_DELTA = 0.01  # share of the logit's change that may be left over
_SMALLEST_CHANGE = 1e-3


@dataclass(frozen=True)
class Deletion:
    """How fast the logit falls as tokens are taken away, most supporting first.

    Attributes:
        auc: area under logit against share of tokens removed (0 to 1), in logits; **lower is
            better**: a faithful order finds what holds the logit up.
        auc_random: the same for random orders, averaged.
    """

    auc: float
    auc_random: float


def relative_delta(explanation: Explanation) -> np.ndarray:
    """(batch,) size of the residual as a share of ``logit - baseline_logit``.

    Changes smaller than 0.001 logits count as 0.001, so that a subject about whom the model says
    nothing does not look like a failure.
    """
    change = np.abs(explanation.logit - explanation.baseline_logit)
    return np.abs(explanation.delta) / np.maximum(change, _SMALLEST_CHANGE)


def attribute_fully(
    model: Explainable, batch: Batch, target_class: int, method: str = "integrated_gradients", steps: int = 32
) -> Explanation:
    """``attribute`` with twice the steps, and twice again, until the parts sum to the whole.

    The model bends most near the baseline, where a token's normalisation sets in, so some subjects
    need a finer path than others. After 16 times ``steps`` the last answer is given as it is; its
    ``delta`` says what is missing.

    Raises:
        ConfigError: the method is unknown.
        DataError: nobody in the batch has a token.
    """
    for factor in _REFINEMENTS:
        found = attribute(model, batch, target_class, method, factor * steps)
        if (relative_delta(found) <= _SMALL_DELTA).all():
            break
    return found


def deletion(
    model: Explainable,
    batch: Batch,
    explanation: Explanation,
    target_class: int,
    seed: int = 0,
    points: int = 16,
    random_orders: int = 8,
) -> Deletion:
    """Deletion curve of one subject over the tokens of all modalities together.

    Tokens are hidden by the mask, so they are absent to the model rather than replaced by a value
    that it never saw. The order is by signed score from the most supporting to the most opposing
    (Petsiuk et al. 2018, arXiv:1806.07421, on logits instead of probabilities, so that a
    confident prediction does not flatten the curve).

    Args:
        model: the model that was explained.
        batch: raw tokens of one subject.
        explanation: its attribution.
        target_class: which logit.
        seed: of the random orders.
        points: how many removals the curve has; fewer where there are fewer tokens.
        random_orders: how many random orders are averaged.

    Raises:
        DataError: the batch holds more than one subject.
    """
    embedded, _ = embed_present(model, batch)
    if len(explanation.logit) != 1:
        raise DataError(f"got {len(explanation.logit)} subjects, expected one.")
    model.eval()
    scores = _real_scores(embedded, explanation)
    random = np.random.default_rng(seed)
    orders = [np.argsort(-scores, kind="stable")]
    orders += [random.permutation(len(scores)) for _ in range(random_orders)]
    removed = np.unique(np.linspace(0, len(scores), points + 1).round().astype(int))
    hidden = np.concatenate([_hidden(order, removed) for order in orders])
    logits = _logits_without(model, embedded, hidden, target_class).reshape(len(orders), len(removed))
    areas = np.trapezoid(logits, removed / len(scores), axis=1)
    return Deletion(float(areas[0]), float(areas[1:].mean()))


def _real_scores(embedded: Batch, explanation: Explanation) -> np.ndarray:
    """Scores of the real tokens, modality after modality."""
    parts = [explanation.scores[name][0][tokens.mask[0].cpu().numpy()] for name, tokens in embedded.items()]
    return np.concatenate(parts)


def _hidden(order: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """(point, token), True where the token is hidden at that point of the curve."""
    rank = np.empty(len(order), dtype=int)
    rank[order] = np.arange(len(order))
    return rank[None, :] < removed[:, None]


def _logits_without(model: Explainable, embedded: Batch, hidden: np.ndarray, target_class: int) -> np.ndarray:
    """(row,) logits of the one subject with each row's tokens hidden."""
    found = []
    with torch.no_grad():
        for start in range(0, len(hidden), _ROWS):
            part = torch.from_numpy(hidden[start : start + _ROWS])
            found.append(model.logits(_hide(embedded, part))[:, target_class].double().cpu().numpy())
    return np.concatenate(found)


def _hide(embedded: Batch, hidden: Tensor) -> Batch:
    batch, start = {}, 0
    for name, tokens in embedded.items():
        real = tokens.mask[0]
        stop = start + int(real.sum())
        mask = tokens.mask.repeat(len(hidden), 1)
        mask[:, real] = ~hidden[:, start:stop].to(mask.device)
        rows = len(hidden)
        batch[name] = tokens.expand(rows).with_mask(mask)
        start = stop
    return batch
