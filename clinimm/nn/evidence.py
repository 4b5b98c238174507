"""The simple model inside the network: evidence a modality, and what two pieces mean together.

``Probe`` reads one modality with a linear model. ``EvidencePairs`` multiplies the evidence of two:
an interaction such as "an opacity matters only with inflammation" needs one weight there, where
attention over raw tokens would need thousands of subjects to find it. Both are fitted before the
network is trained (``clinimm.warm_start``).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

_MOMENTUM = 0.02
_SMALLEST_DEVIATION = 1e-3
_LARGEST = 2.0


class Probe(nn.Module):
    """A linear model on a modality's summary, cross-fitted.

    There is one model a fold of the training subjects. A subject in training is read by the model
    that has not seen it, so that what builds on the evidence meets it as honest as it will be for
    new subjects (Wolpert, "Stacked generalization", 1992); a new subject by the mean of all. The
    models are fitted, not trained: they are buffers, and those of the folds are not saved. Where
    the encoder itself is fine-tuned, that honesty holds at the start only (linear probing, then
    fine-tuning: Kumar et al., ICLR 2022).

    Args:
        features: length of the summary.
        classes: logits.
    """

    mean: Tensor
    weight: Tensor
    bias: Tensor
    fold_weight: Tensor
    fold_bias: Tensor

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("weight", torch.zeros(features, classes))
        self.register_buffer("bias", torch.zeros(classes))
        self.register_buffer("fold_weight", torch.zeros(1, features, classes), persistent=False)
        self.register_buffer("fold_bias", torch.zeros(1, classes), persistent=False)

    @torch.no_grad()
    def set(
        self,
        mean: Float[Tensor, " feature"],
        weight: Float[Tensor, "fold feature cls"],
        bias: Float[Tensor, "fold cls"],
    ) -> None:
        """Take over fitted models, one a fold, for features less ``mean``."""
        self.mean.copy_(mean)
        self.fold_weight, self.fold_bias = weight.to(self.weight), bias.to(self.bias)
        # A fold whose model could not be fitted, for want of a class, has no say.
        fitted = (weight != 0).any(dim=1, keepdim=True).sum(0).clamp(min=1)
        self.weight.copy_(weight.sum(0) / fitted)
        self.bias.copy_(bias.sum(0) / fitted[0])

    @torch.no_grad()
    def scale(self, slope: float) -> None:
        """Multiply all evidence."""
        for part in (self.weight, self.bias, self.fold_weight, self.fold_bias):
            part.mul_(slope)

    def forward(
        self,
        summary: Float[Tensor, "batch feature"],
        present: Bool[Tensor, " batch"],
        fold: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch cls"]:
        """The evidence in log odds, 0 where a subject lacks the modality.

        Args:
            summary: of ``TokenEncoder.summarise``.
            present: who has the modality.
            fold: each subject's fold in training; None for new subjects.
        """
        centred = summary - self.mean
        if fold is None or len(self.fold_weight) == 1:  # nothing was fitted fold by fold
            logit = centred @ self.weight + self.bias
        else:
            every = torch.einsum("bf,kfc->bkc", centred, self.fold_weight) + self.fold_bias
            logit = every[torch.arange(len(fold), device=fold.device), fold]
        return logit * present[:, None]


class EvidencePairs(nn.Module):
    """Adds a weighted product of logits for every pair of modalities that a subject has.

    Args:
        names: the modalities.
        classes: logits a modality.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, names: Sequence[str], classes: int) -> None:
        super().__init__()
        self.names = tuple(names)
        self.pairs = tuple(combinations(range(len(self.names)), 2))
        self.weight = nn.Parameter(torch.zeros(len(self.pairs), classes))
        self.register_buffer("mean", torch.zeros(len(self.names), classes))
        self.register_buffer("variance", torch.ones(len(self.names), classes))

    def forward(
        self,
        logits: dict[str, Float[Tensor, "batch cls"]],
        present: dict[str, Bool[Tensor, " batch"]],
    ) -> Float[Tensor, "batch cls"]:
        """The pairs' contribution; zero for a pair of which a subject lacks one."""
        return (self.products(logits, present) * self.weight[:, None]).sum(0)

    def products(
        self,
        logits: dict[str, Float[Tensor, "batch cls"]],
        present: dict[str, Bool[Tensor, " batch"]],
    ) -> Float[Tensor, "pair batch cls"]:
        """Product of standardised logits of each pair."""
        standard = [self._standardise(index, logits, present) for index in range(len(self.names))]
        none = standard[0].new_zeros(0, *standard[0].shape)
        return torch.stack([standard[one] * standard[two] for one, two in self.pairs]) if self.pairs else none

    @torch.no_grad()
    def settle(self, logits: dict[str, Tensor], present: dict[str, Tensor]) -> None:
        """Take the logits' mean and spread from all training subjects at once."""
        for index, name in enumerate(self.names):
            seen = logits[name][present[name]].float()
            if len(seen) > 1:
                self.mean[index].copy_(seen.mean(0))
                self.variance[index].copy_(seen.var(0))

    def _standardise(
        self, index: int, logits: dict[str, Tensor], present: dict[str, Tensor]
    ) -> Float[Tensor, "batch cls"]:
        """Zero mean and unit spread over training subjects, bounded so that no outlier rules."""
        name = self.names[index]
        if name not in logits:
            return torch.zeros_like(next(iter(logits.values())))
        value, there = logits[name], present[name]
        if self.training and int(there.sum()) > 1:
            self._update(index, value.detach()[there].float())
        deviation = self.variance[index].sqrt().clamp(min=_SMALLEST_DEVIATION)
        standard = (value - self.mean[index]) / deviation
        return _LARGEST * torch.tanh(standard / _LARGEST) * there[:, None]

    @torch.no_grad()
    def _update(self, index: int, seen: Float[Tensor, "subject cls"]) -> None:
        """Follow the logits as the network changes them."""
        self.mean[index].lerp_(seen.mean(0), _MOMENTUM)
        self.variance[index].lerp_(seen.var(0), _MOMENTUM)
