"""Whether a stain's explanation has earned its place: the deletion check."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8

from clinimm.nn.tokens import Batch
from clinimm.staining.explain_stain import Explainable, StainExplanation, mean_amount, real_facts
from clinimm.staining.optical import Signal
from clinimm.staining.region_view import RegionView

#: How many removals the curve has, and how many random orders stand beside it.
_POINTS, _RANDOM_ORDERS = 10, 4


@dataclass(frozen=True)
class StainDeletion:
    """How fast the amount falls as source cells and facts are taken away, most supporting first.

    Attributes:
        auc: area under amount against share taken away; lower is better.
        auc_nearest: the same when those nearest to the region go first, which needs no explanation.
        auc_random: the same for random orders, averaged.
    """

    auc: float
    auc_nearest: float
    auc_random: float


def delete(
    stainer: Explainable,
    source: UInt8[np.ndarray, "row column 3"],
    explanation: StainExplanation,
    signal: Signal,
    resolution_um: float,
    record: Batch | None = None,
    seed: int = 0,
) -> StainDeletion:
    """Deletion curve (Petsiuk et al. 2018, arXiv:1806.07421) over cells of 16 pixels and facts together.

    A cell is taken away by its blurred version, a fact by hiding it. Only cells that the region can
    see take part, so that random orders are no straw man.

    Args:
        stainer, source, signal, resolution_um, record: as they were explained.
        explanation: of ``explain_stain``.
        seed: of the random orders.
    """
    view = RegionView.of(source, explanation.region, stainer.halo, stainer.stride, resolution_um)
    facts = {name: tokens for name, tokens in (record or {}).items() if tokens.mask.any()}
    cells, distance = view.cells(explanation.pixels)
    scores = np.concatenate([cells, *(explanation.record[name][real_facts(facts[name])] for name in facts)])
    near = np.concatenate([distance, np.full(len(scores) - len(cells), np.inf)])
    random = np.random.default_rng(seed)
    orders = [np.argsort(-scores, kind="stable"), np.argsort(near, kind="stable")]
    orders += [random.permutation(len(scores)) for _ in range(_RANDOM_ORDERS)]
    removed = np.unique(np.linspace(0, len(scores), _POINTS + 1).round().astype(int))
    areas = [
        np.trapezoid(_curve(stainer, view, facts, signal, order, removed), removed / len(scores))
        for order in orders
    ]
    return StainDeletion(float(areas[0]), float(areas[1]), float(np.mean(areas[2:])))


def _curve(
    stainer: Explainable,
    view: RegionView,
    facts: Batch,
    signal: Signal,
    order: np.ndarray,
    removed: np.ndarray,
) -> Float[np.ndarray, " point"]:
    rank = np.empty(len(order), dtype=int)
    rank[order] = np.arange(len(order))
    count = len(order) - sum(int(tokens.mask.sum()) for tokens in facts.values())
    found = []
    for number in removed:
        hidden = rank < number
        record, start = {}, count
        for name, tokens in facts.items():
            stop = start + int(tokens.mask.sum())
            mask = tokens.mask.clone()
            mask[0, tokens.mask[0]] = torch.from_numpy(~hidden[start:stop])
            record[name] = tokens.with_mask(mask)
            start = stop
        with torch.no_grad():
            colour = stainer.colour(view.without(hidden[:count]), record, view.origin)
            found.append(float(mean_amount(colour, signal, view.inside)))
    return np.array(found)
