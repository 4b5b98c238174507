"""Whether a map would be the same again: for an input a hair away, another seed, another member."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import spearmanr
from torch import Tensor, nn

from clinimm.explain.attribute import Explanation, explain_problem
from clinimm.explain.hide import ALL
from clinimm.explain.problem import Problem
from clinimm.model import FusionNetwork
from clinimm.nn.attention import Trace
from clinimm.nn.tokens import Batch, Tokens

#: Takes a problem of any number of subjects.
Explain = Callable[[Problem], Explanation]


def sensitivity(
    problem: Problem, explain: Explain, radius: float = 0.02, draws: int = 10
) -> dict[str, float]:
    """Largest relative change of each map when the input moves by a hair.

    Sensitivity-max of Yeh et al. (NeurIPS 2019, arXiv:1901.09392): each modality's embedded values move
    uniformly by up to ``radius`` of their own spread; the largest ``|map' - map| / |map|`` of the draws.
    It is a lower bound: the worst shift of all may do more.
    Captum's ``sensitivity_max`` gives one figure for all inputs together; here every modality has
    its own, and a test holds the whole equal to Captum's.

    Args:
        problem: of one subject.
        explain: the method.
        radius: largest shift of a value, in standard deviations of the modality's values.
        draws: how many shifts.
    """
    generator = torch.Generator().manual_seed(problem.setting.seed)
    moved = {}
    for name, tokens in problem.embedded.items():
        rows = tokens.expand(draws + 1)
        shift = radius * spread(tokens) * (2 * torch.rand(rows.values.shape, generator=generator) - 1)
        shift[0] = 0.0  # the first row is the input itself
        moved[name] = rows.with_values(rows.values + shift.to(rows.values))
    layout = problem.setting.layout
    if layout is not None:
        layout = replace(
            layout, positions={n: np.repeat(p, draws + 1, axis=0) for n, p in layout.positions.items()}
        )
    found = explain(replace(problem, embedded=moved, setting=replace(problem.setting, layout=layout)))
    whole = np.concatenate(list(found.scores.values()), axis=1)
    return {name: largest_change(part) for name, part in {**found.scores, ALL: whole}.items()}


def spread(tokens: Tokens) -> float:
    """Standard deviation of all values of real tokens; modalities differ in it fivefold."""
    return float(tokens.values[tokens.mask].std(correction=0))


def largest_change(maps: Float[np.ndarray, "draw token"]) -> float:
    """How far any map is from the first one, as a share of its size."""
    size = float(np.linalg.norm(maps[0]))
    change = np.linalg.norm(maps[1:] - maps[0], axis=1).max()
    return float(change / size) if size > 0 else float("nan")


def repeatability(problem: Problem, method: str, seeds: Sequence[int] = (0, 1, 2)) -> dict[str, float]:
    """Mean Spearman correlation of each map between seeds, for a method that draws."""
    runs = [
        explain_problem(replace(problem, setting=replace(problem.setting, seed=seed)), method)
        for seed in seeds
    ]
    return agreements(runs, problem)


def member_agreement(problem: Problem, batch: Batch, method: str) -> dict[str, float]:
    """Mean Spearman correlation of each map between the members of the model.

    Members differ by their training seed alone. Where their maps differ, the map of the mean is an
    average of different reasons. Empty for a model of one member.

    Args:
        problem: of one subject, posed for the whole model.
        batch: its raw tokens: members may embed them differently.
        method: a name in ``METHODS``.
    """
    members = getattr(problem.model, "members", ())
    if len(members) < 2:
        return {}
    runs = []
    for member in members:
        view = MemberView(member, getattr(problem.model, "kind", "binary"))
        present = {name: tokens for name, tokens in batch.items() if name in problem.embedded}
        embedded = {name: t.with_values(t.values.detach()) for name, t in view.embed(present).items()}
        runs.append(explain_problem(replace(problem, model=view, embedded=embedded), method))
    return agreements(runs, problem)


@dataclass(frozen=True)
class MemberView:
    """One member of a ``FusionModel`` as something explainable by itself, not calibrated.

    Attributes:
        member: the member.
        kind: of the model's task.
    """

    member: FusionNetwork
    kind: str = "binary"

    @property
    def encoders(self) -> nn.ModuleDict:
        """Its encoders by modality."""
        return self.member.encoders

    def embed(self, batch: Batch) -> Batch:
        """Raw tokens -> this member's embedded tokens."""
        return self.member.embed(batch)

    def logits(self, embedded: Batch, traces: list[Trace] | None = None) -> Tensor:
        """Embedded tokens -> this member's logits; its trace is appended to ``traces``."""
        trace = None if traces is None else Trace()
        if traces is not None and trace is not None:
            traces.append(trace)
        return self.member.answer(embedded, trace=trace).fused

    def reading(self, embedded: Batch) -> list[dict[str, Tensor]]:
        """Which embedded tokens each token of the fusion stands for."""
        return [{name: self.member.encoder(name).reading(tokens) for name, tokens in embedded.items()}]

    def baseline(self, embedded: Batch) -> Batch:
        """Uninformative tokens."""
        values = self.member.baseline(embedded)
        return {name: embedded[name].with_values(value) for name, value in values.items()}

    def eval(self) -> object:
        """Switch dropout off."""
        return self.member.eval()


def agreements(runs: Sequence[Explanation], problem: Problem) -> dict[str, float]:
    """Agreement of runs on one subject, a modality and over all; without those that have no order."""
    real = {name: tokens.mask[0].cpu().numpy() for name, tokens in problem.embedded.items()}
    maps = {name: [run.scores[name][0][mask] for run in runs] for name, mask in real.items()}
    maps[ALL] = [np.concatenate([maps[name][place] for name in real]) for place in range(len(runs))]
    found = {name: agreement(each) for name, each in maps.items()}
    return {name: value for name, value in found.items() if value is not None}


def agreement(maps: Sequence[Float[np.ndarray, " token"]]) -> float | None:
    """Mean Spearman correlation between every two maps; None where one has no order at all."""
    found = [rank_correlation(one, two) for one, two in combinations(maps, 2)]
    return None if not found or np.isnan(found).any() else float(np.mean(found))


def rank_correlation(one: Float[np.ndarray, " token"], two: Float[np.ndarray, " token"]) -> float:
    """Spearman's, NaN where a map has no order."""
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(two) == 0:
        return float("nan")
    return float(spearmanr(one, two).statistic)
