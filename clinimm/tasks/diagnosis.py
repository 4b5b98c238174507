"""Diagnosis: binary, multi-class and multi-label heads, their loss and their probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from clinimm.config import ModelConfig
from clinimm.nn.attention import CLASSES, LATENTS, Trace
from clinimm.nn.blocks import MaskedAttention
from clinimm.nn.tokens import Tokens

Kind = Literal["binary", "multiclass", "multilabel", "virtual_staining"]


@dataclass(frozen=True)
class Task:
    """What is predicted; the content of ``cohort/task.json``.

    Attributes:
        name: such as ``deterioration``.
        kind: ``binary`` (one class: the positive one), ``multiclass`` (exactly one of several) or
            ``multilabel`` (any of several).
        classes: their names; a logit each.
    """

    name: str
    kind: Kind
    classes: tuple[str, ...]

    def probabilities(self, logits: Float[Tensor, "batch cls"]) -> Float[Tensor, "batch cls"]:
        """Softmax over exclusive classes, else a sigmoid each."""
        return logits.softmax(dim=1) if self.kind == "multiclass" else logits.sigmoid()

    def loss(
        self,
        logits: Float[Tensor, "batch cls"],
        targets: Float[Tensor, "batch cls"],
        weights: Float[Tensor, "two cls"],
        smoothing: float = 0.0,
    ) -> Float[Tensor, " batch"]:
        """Cross entropy a subject.

        Args:
            logits: one a class.
            targets: 0 or 1 a class (one-hot for multi-class); NaN is unknown and costs nothing.
            weights: weight of a negative (row 0) and of a positive (row 1) a class.
            smoothing: share of the label given to the other side.
        """
        known = ~targets.isnan()
        target = torch.where(known, targets, torch.zeros_like(targets))
        if self.kind == "multiclass":
            weight = (target * weights[1]).sum(1)
            cross_entropy = F.cross_entropy(
                logits, target.argmax(1), reduction="none", label_smoothing=smoothing
            )
            return weight * cross_entropy * known.all(1)
        weight = torch.where(target > 0.5, weights[1], weights[0]) * known
        soft = target * (1 - smoothing) + 0.5 * smoothing
        return (weight * F.binary_cross_entropy_with_logits(logits, soft, reduction="none")).sum(
            1
        ) / known.sum(1).clamp(min=1)

    def class_weights(self, targets: Float[Tensor, "subject cls"]) -> Float[Tensor, "two cls"]:
        """Weights under which negatives and positives of each class count alike; their mean is 1."""
        known = (~targets.isnan()).sum(0).clamp(min=1)
        positive = targets.nansum(0).clamp(min=1)
        if self.kind == "multiclass":
            weight = known / (len(self.classes) * positive)
            return torch.stack([torch.ones_like(weight), weight])
        return torch.stack([known / (2 * (known - positive).clamp(min=1)), known / (2 * positive)])


class DiagnosisHead(nn.Module):
    """One query a class reads the fused tokens; a linear read-out gives its logit."""

    def __init__(self, config: ModelConfig, classes: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(0.5 * torch.randn(classes, config.width))
        self.read = MaskedAttention(config.width, config.heads, config.dropout)
        self.norm = nn.LayerNorm(config.width)
        self.weight = nn.Parameter(torch.zeros(classes, config.width))
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, fused: Tokens, trace: Trace | None = None) -> Float[Tensor, "batch cls"]:
        """(batch, latent, width) -> (batch, class); ``trace`` notes the attention weights."""
        queries = self.queries.expand(len(fused), -1, -1)
        note = None if trace is None else trace.noting(CLASSES, LATENTS)
        answer = self.norm(queries + self.read(queries, fused.values, fused.mask, note))
        return (answer * self.weight).sum(2) + self.bias


class ModalityHead(nn.Module):
    """A unimodal auxiliary head: attention pooling over one modality's tokens, then linear.

    It keeps a weak modality learning, and its logit is also a term of the fused logit.
    """

    def __init__(self, width: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.Linear(width, 1)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, classes, bias=False)
        nn.init.zeros_(self.attention.weight)
        nn.init.zeros_(self.linear.weight)

    def forward(self, tokens: Tokens) -> Float[Tensor, "batch cls"]:
        """(batch, token, width) -> (batch, class); zero for a subject without the modality."""
        score = self.attention(tokens.values).squeeze(2)
        lowest = torch.finfo(score.dtype).min
        share = score.masked_fill(~tokens.mask, lowest).softmax(dim=1) * tokens.mask
        pooled = (share[..., None] * tokens.values).sum(1)  # (batch, width)
        return self.linear(self.dropout(pooled))
