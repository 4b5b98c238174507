"""Gradients along a path from a baseline to the input: integrated gradients and gradient SHAP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from clinimm.explain.baselines import TRAINING, UNINFORMATIVE, reference
from clinimm.explain.method import Parts
from clinimm.explain.problem import Problem

#: Rows that go through the model at once; bounds the memory whatever the number of steps.
_ROWS = 64
#: Draws of baseline tokens that gradient SHAP takes its samples from.
_REFERENCES = 16


def integrated_gradients(problem: Problem) -> Parts:
    """Integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365), Gauss-Legendre nodes."""
    from captum.attr import IntegratedGradients

    counted_from = reference(problem, problem.setting.baseline or UNINFORMATIVE)
    found: tuple[Tensor, ...] = IntegratedGradients(problem.forward).attribute(
        problem.values,
        baselines=counted_from.values,
        additional_forward_args=problem.unchanged,
        n_steps=problem.setting.steps,
        method="gausslegendre",
        # One subject a row and step: at least one whole step must fit.
        internal_batch_size=max(_ROWS, problem.subjects),
    )
    return Parts(_summed(found), problem.logit(counted_from.values), counted_from.words)


def gradient_shap(problem: Problem) -> Parts:
    """Expected gradients (Erion et al. 2021, arXiv:1906.10670; Captum's ``GradientShap``).

    The path's baseline and the point on it are drawn, ``steps`` times a subject; without noise on
    the input. The reference is the mean logit over the baselines, so parts sum up but for the
    error of sampling. Each subject has its own baselines and draws: a batch equals one by one.
    """
    parts = [_shap_of_one(problem.one(subject)) for subject in range(problem.subjects)]
    scores = tuple(torch.cat(pieces) for pieces in zip(*(part.scores for part in parts), strict=True))
    references = [part.reference for part in parts if part.reference is not None]
    return Parts(scores, torch.cat(references), parts[0].words)


def _shap_of_one(problem: Problem) -> Parts:
    from captum.attr import GradientShap

    choice, generator = problem.setting.baseline, np.random.default_rng(problem.setting.seed)
    choice = choice or (TRAINING if problem.setting.references else UNINFORMATIVE)
    # Captum draws from several baselines or none: one alone is given twice.
    count = _REFERENCES if choice == TRAINING else 2
    drawn = [reference(problem, choice, generator) for _ in range(count)]
    baselines = tuple(torch.cat(rows) for rows in zip(*(one.values for one in drawn), strict=True))
    method = GradientShap(problem.forward)
    total = [torch.zeros_like(value) for value in problem.values]
    left = problem.setting.steps
    with _seeded(problem.setting.seed):
        while left > 0:
            samples = min(left, _ROWS)
            found = method.attribute(
                problem.values,
                baselines=baselines,
                n_samples=samples,
                additional_forward_args=problem.unchanged,
            )
            total = [sum_ + samples * part for sum_, part in zip(total, found, strict=True)]
            left -= samples
    parts = tuple(sum_ / problem.setting.steps for sum_ in total)
    expanded = tuple(extra.expand(count, -1) for extra in problem.unchanged)
    with torch.no_grad():
        logits = problem.forward(*baselines, *expanded)
    return Parts(_summed(parts), logits.mean(0, keepdim=True), drawn[0].words)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Captum draws from the generators of the process: they are seeded, and then put back."""
    numpy_state, torch_state = np.random.get_state(), torch.get_rng_state()
    np.random.seed(seed)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)
        torch.set_rng_state(torch_state)


def _summed(parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """(batch, token, dim) -> (batch, token), summed in double."""
    return tuple(part.detach().double().sum(dim=2) for part in parts)
