"""Relevance through the attention of the fusion, for any number of modalities.

The bi-modal rules of Chefer, Gur and Wolf, "Generic Attention-model Explainability for
Interpreting Bi-Modal and Encoder-Decoder Transformers" (ICCV 2021, arXiv:2103.15679), on streams
instead of two modalities: all modalities' tokens are one stream, read together by the latents,
and the block of a modality is its relevance. Numbers of rules are the paper's. A batch at once;
weights and gradients come from the model's own trace, so nothing is hooked.
"""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from clinimm.core.errors import ConfigError
from clinimm.explain.method import Parts
from clinimm.explain.problem import Explainable, Problem, class_logit
from clinimm.nn.attention import CLASSES, TOKENS, Attention, Trace
from clinimm.nn.tokens import Batch, Tokens


class Traceable(Explainable, Protocol):
    """What relevance and rollout need beside what is explainable; ``FusionModel`` has it."""

    def logits(self, embedded: Batch, traces: list[Trace] | None = None) -> Tensor:
        """Logits; a trace a member is appended to ``traces``."""
        ...

    def reading(self, embedded: Batch) -> list[dict[str, Tensor]]:
        """A member and modality: (batch, token of the fusion, embedded token)."""
        ...


def attention_relevance(problem: Problem) -> Parts:
    """How much of the class's logit passed each token on its way through attention; never negative.

    Summed over members. What encoders mix among tokens enters by ``TokenEncoder.reading``,
    normalised as rule 8 normalises it; what reaches the logit past attention does not enter at all.

    Raises:
        ConfigError: the model's fusion does not trace its attention.
    """
    traces, logit = trace(problem)
    weights = [one.weights for each in traces for one in each.attentions]
    gradients = iter(torch.autograd.grad(logit.sum(), weights, allow_unused=True))
    total: Tensor | float = 0.0
    for each, reading in zip(traces, readings(problem), strict=True):
        streams = Streams()
        for one in each.attentions:
            streams.attend(one.reader, one.read, rule_5(one, next(gradients)))
        found = streams.relevance[CLASSES, TOKENS][:, problem.target_class]
        total = total + torch.einsum("bt,bti->bi", found, _normalised(reading))
    assert isinstance(total, Tensor)
    return Parts(apart(problem, total))


class Streams:
    """The relevance of every stream's vectors for those of every other, as attentions come in.

    Attributes:
        relevance: (reader, origin) -> (batch, reader, origin). A stream is relevant to itself at
            first (rule 2), and not to others.
    """

    def __init__(self) -> None:
        self.relevance: dict[tuple[str, str], Tensor] = {}

    def attend(self, reader: str, read: str, weights: Float[Tensor, "batch query key"]) -> None:
        """Let ``reader`` have read ``read``, which may be itself, with the weights of rule 5."""
        self._meet(reader, weights, weights.shape[1])
        self._meet(read, weights, weights.shape[2])
        gained = {}
        for origin in self._origins():
            if reader != read and origin == read:  # rule 10
                own, other = (
                    _normalised_self(self._of(reader, reader)),
                    _normalised_self(self._of(read, read)),
                )
                gained[reader, origin] = own.transpose(1, 2) @ weights @ other
            elif (read, origin) in self.relevance:  # rules 6 and 7, and rule 11
                gained[reader, origin] = weights @ self._of(read, origin)
        for key, value in gained.items():
            self.relevance[key] = self.relevance[key] + value if key in self.relevance else value

    def _meet(self, stream: str, like: Tensor, size: int) -> None:
        if (stream, stream) not in self.relevance:
            identity = torch.eye(size, dtype=like.dtype, device=like.device)
            self.relevance[stream, stream] = identity.expand(len(like), -1, -1)

    def _origins(self) -> list[str]:
        return [reader for reader, origin in self.relevance if reader == origin]

    def _of(self, reader: str, origin: str) -> Tensor:
        return self.relevance[reader, origin]


def rule_5(attention: Attention, gradient: Tensor | None) -> Float[Tensor, "batch query key"]:
    """Weights times their gradient, what lowers the logit cut off, mean over heads."""
    if gradient is None:  # the answer does not depend on it
        return torch.zeros_like(attention.weights[:, 0, :, 1:])
    # The first key holds nothing, so it is nobody's relevance.
    return (gradient * attention.weights).clamp(min=0).mean(1).detach().double()[..., 1:]


def trace(problem: Problem) -> tuple[list[Trace], Tensor]:
    """The attention of each member, and the (batch,) logit that its weights lead to.

    Raises:
        ConfigError: the model cannot trace, or its fusion noted nothing.
    """
    model: Traceable = problem.model  # type: ignore[assignment]  # checked by what follows
    if not hasattr(model, "reading"):
        raise ConfigError("this model does not say what its attention reads, so it has no relevance.")
    traces: list[Trace] = []
    values = {name: t.with_values(t.values.detach().requires_grad_()) for name, t in problem.embedded.items()}
    with torch.enable_grad():
        logit = class_logit(model, model.logits(values, traces), problem.target_class)
    if any(not {(CLASSES, "latents")} <= {(a.reader, a.read) for a in one.attentions} for one in traces):
        raise ConfigError("the model's fusion does not note its attention, so it has no relevance.")
    return traces, logit


def readings(problem: Problem) -> list[Float[Tensor, "batch token embedded"]]:
    """Which embedded tokens each token of the fusion stands for, all modalities together, a member."""
    model: Traceable = problem.model  # type: ignore[assignment]  # ``trace`` has checked
    with torch.no_grad():
        found = model.reading(problem.embedded)
    return [_block_diagonal([one[name].double() for name in problem.names]) for one in found]


def apart(problem: Problem, scores: Float[Tensor, "batch all"]) -> tuple[Tensor, ...]:
    """Scores of all modalities' embedded tokens, modality by modality."""
    sizes = [tokens.mask.shape[1] for tokens in problem.embedded.values()]
    pieces = scores.split(sizes, dim=1)
    return tuple(
        torch.where(_mask(tokens), piece, torch.zeros_like(piece))
        for tokens, piece in zip(problem.embedded.values(), pieces, strict=True)
    )


def _mask(tokens: Tokens) -> Tensor:
    return tokens.mask


def _normalised(reading: Float[Tensor, "batch token embedded"]) -> Float[Tensor, "batch token embedded"]:
    return reading / reading.sum(dim=2, keepdim=True).clamp(min=1e-12)


def _normalised_self(relevance: Float[Tensor, "batch own own"]) -> Float[Tensor, "batch own own"]:
    """Rules 8 and 9: what was gained over the identity, its rows to one, and the identity again."""
    identity = torch.eye(relevance.shape[1], dtype=relevance.dtype, device=relevance.device)
    gained = relevance - identity
    return gained / gained.sum(dim=2, keepdim=True).clamp(min=1e-12) + identity


def _block_diagonal(blocks: list[Float[Tensor, "batch _ _"]]) -> Float[Tensor, "batch token embedded"]:
    rows = []
    for index, block in enumerate(blocks):
        row = [
            block if place == index else block.new_zeros(len(block), block.shape[1], other.shape[2])
            for place, other in enumerate(blocks)
        ]
        rows.append(torch.cat(row, dim=2))
    return torch.cat(rows, dim=1)
