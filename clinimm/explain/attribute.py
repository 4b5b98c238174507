"""Attributions through the fused model: every method behind one function.

Where a method's parts sum up, ``baseline_logit + sum(scores) = logit`` but for ``delta``. Where
they do not, ``delta`` is what they miss, and is kept and shown just the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from clinimm.explain.baselines import TRAINING
from clinimm.explain.method import Method, Parts
from clinimm.explain.methods import METHODS, get_method
from clinimm.explain.problem import DEFAULT, Explainable, Problem, Setting, double, pose
from clinimm.explain.promise import SHARE
from clinimm.nn.tokens import Batch

#: Draws of training tokens that a method without draws of its own is averaged over; ``gradient_shap`` draws
#: as many by itself.
_DRAWS = 16
_FEWEST_STEPS = 8

__all__ = ["METHODS", "Explainable", "Explanation", "attribute", "explain_problem"]


@dataclass(frozen=True)
class Explanation:
    """The attribution of one class's logit for a batch of subjects.

    Attributes:
        scores: modality -> (batch, token) score, exactly 0 where the token is padding: signed
            amounts of the logit, or shares (``Method.unit``). Modalities that no subject of the
            batch has are left out.
        logit: (batch,) the explained logit.
        baseline_logit: (batch,) the logit that scores are counted from; NaN for shares.
        delta: (batch,) what the scores fail to account for:
            ``baseline_logit + sum(scores) - logit``; NaN for shares.
        method: name of the method, in ``METHODS``.
        baseline: the name of what the scores are counted from; ``none`` for shares.
        baselines: modality -> the same in words.
        steps: ``Setting.steps`` that it was made with.
    """

    scores: dict[str, np.ndarray]
    logit: np.ndarray
    baseline_logit: np.ndarray
    delta: np.ndarray
    method: str
    baseline: str
    baselines: dict[str, str] = field(default_factory=dict)
    steps: int = 0

    @property
    def total(self) -> np.ndarray:
        """(batch,) sum of all scores of a subject."""
        sums = [scores.sum(axis=1) for scores in self.scores.values()]
        return np.sum(sums, axis=0) if sums else np.zeros_like(self.logit)


def attribute(
    model: Explainable,
    batch: Batch,
    target_class: int,
    method: str = "integrated_gradients",
    steps: int = 32,
    setting: Setting = DEFAULT,
) -> Explanation:
    """Score of each embedded token for ``target_class``'s logit.

    Args:
        model: a fused model.
        batch: raw tokens, as ``Corpus.batch`` gives them.
        target_class: which logit.
        method: a name in ``METHODS``.
        steps: nodes of a path integral, or samples of it; more make ``delta`` smaller.
        setting: baseline, seed, places; its ``steps`` gives way to ``steps``.

    Raises:
        ConfigError: the method is unknown, or cannot do what the setting asks.
        DataError: nobody in the batch has a token.
    """
    get_method(method)
    return explain_problem(pose(model, batch, target_class, replace(setting, steps=steps)), method)


def explain_problem(problem: Problem, method: str) -> Explanation:
    """The same for a problem that was posed already.

    Raises:
        ConfigError: the method is unknown, or cannot do what the setting asks.
    """
    chosen = get_method(method)
    asked, baseline = problem.setting, chosen.baseline(problem.setting.baseline)
    problem = replace(problem, setting=replace(problem.setting, baseline=baseline))
    parts = _averaged(problem, chosen) if baseline == TRAINING and not chosen.draws else chosen.run(problem)
    masks = [tokens.mask for tokens in problem.embedded.values()]
    raw = [torch.where(mask, one, 0.0) for mask, one in zip(masks, parts.scores, strict=True)]
    scores = {name: double(one) for name, one in zip(problem.names, raw, strict=True)}
    if chosen.unit == SHARE:
        scores = _shares(scores)
    logit = double(problem.logit())
    reference = np.full_like(logit, np.nan) if parts.reference is None else double(parts.reference)
    found = Explanation(
        scores,
        logit,
        reference,
        np.zeros(len(logit)),
        method,
        baseline or "none",
        parts.words or {},
        asked.steps,
    )
    return replace(found, delta=found.baseline_logit + found.total - found.logit)


def _averaged(problem: Problem, method: Method) -> Parts:
    """The mean over draws of training tokens: one draw of them is as good a reference as another.

    Each draw has its own seed, none in common with another seed of the setting, and a coarser path, for
    the errors of many paths average out as well.
    """
    setting, runs = problem.setting, []
    steps = max(_FEWEST_STEPS, setting.steps // 4)
    for draw in range(_DRAWS):
        own = replace(setting, seed=_DRAWS * setting.seed + draw, steps=steps)
        runs.append(method.run(replace(problem, setting=own)))
    scores = tuple(torch.stack(each).mean(0) for each in zip(*(run.scores for run in runs), strict=True))
    references = [run.reference for run in runs if run.reference is not None]
    return Parts(scores, torch.stack(references).mean(0) if references else None, runs[0].words)


def _shares(scores: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Each subject's scores so that their sizes sum to one over all modalities; zeros stay zeros."""
    size = np.sum([np.abs(one).sum(axis=1) for one in scores.values()], axis=0)[:, None]
    return {
        name: np.divide(one, size, out=np.zeros_like(one), where=size > 0) for name, one in scores.items()
    }
