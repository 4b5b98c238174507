"""Attention rollout: what the network looked at. Context, not attribution."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from clinimm.explain.method import Parts
from clinimm.explain.problem import Problem
from clinimm.explain.relevance import apart, readings, trace
from clinimm.nn.attention import CLASSES, TOKENS, Trace


def attention_rollout(problem: Problem) -> Parts:
    """Share of the class query's attention that ends at each token (Abnar and Zuidema, ACL 2020).

    Heads are averaged, and each layer keeps half of what it was, for its residual. Mean over
    members. Nothing says that what was looked at moved the answer (Jain and Wallace, NAACL 2019).

    Raises:
        ConfigError: the model's fusion does not trace its attention.
    """
    traces, _ = trace(problem)
    found = [
        torch.einsum("bt,bti->bi", rolled(one)[:, problem.target_class], reading)
        for one, reading in zip(traces, readings(problem), strict=True)
    ]
    return Parts(apart(problem, torch.stack(found).mean(0)))


def rolled(trace: Trace) -> Float[Tensor, "batch cls token"]:
    """What each class's query holds of each token of the fusion."""
    share: dict[str, Tensor] = {}
    for one in trace.attentions:
        weights = one.weights.detach().double().mean(1)[..., 1:]  # the first key holds nothing
        if one.read not in share and one.read == TOKENS:
            share[TOKENS] = torch.eye(weights.shape[2], dtype=torch.double).expand(len(weights), -1, -1)
        if one.read not in share:
            continue  # it has not met a token yet
        gained = weights @ share[one.read]
        share[one.reader] = (share.get(one.reader, torch.zeros_like(gained)) + gained) / 2
    return share[CLASSES]
