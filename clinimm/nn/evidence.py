"""What two modalities' evidence means together: the product of their standardised logits.

An interaction such as "an opacity matters only with inflammation" needs one weight here, where
attention over raw tokens would need thousands of subjects to find it. A modality's logit already
condenses its tokens to what bears on the question, so a handful of products is all there is to fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

#: The weights learn this much faster than the rest: they are few, and start at zero.
_GAIN = 30.0
_MOMENTUM = 0.1
_SMALLEST_DEVIATION = 0.05
_LARGEST = 2.0


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
        standard = [self._standardise(index, logits, present) for index in range(len(self.names))]
        total = torch.zeros_like(standard[0])
        for weight, (one, two) in zip(self.weight, self.pairs, strict=True):
            total = total + _GAIN * weight * standard[one] * standard[two]
        return total

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
        self.mean[index].lerp_(seen.mean(0), _MOMENTUM)
        self.variance[index].lerp_(seen.var(0), _MOMENTUM)
