"""Small models with the fused model's interface, for which the right answer is known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from clinimm.nn.tokens import Batch, Tokens


class LinearModel(nn.Module):
    """The logit is the sum of weight · token over real tokens: attribution is weight · token."""

    def __init__(self, weights: dict[str, list[float]], bias: float = -0.5) -> None:
        super().__init__()
        self.weights = {name: torch.tensor(weight) for name, weight in weights.items()}
        self.bias = bias

    def embed(self, batch: Batch) -> Batch:
        return {name: tokens.with_values(2 * tokens.values) for name, tokens in batch.items()}

    def baseline(self, embedded: Batch) -> Batch:
        return {name: t.with_values(torch.zeros_like(t.values)) for name, t in embedded.items()}

    def logits(self, embedded: Batch) -> Tensor:
        parts = [((t.values @ self.weights[name]) * t.mask).sum(dim=1) for name, t in embedded.items()]
        total = torch.stack(parts).sum(dim=0) + self.bias
        return torch.stack([-total, total], dim=1)


class CurvedModel(LinearModel):
    """A smooth network in which the modalities interact and tokens saturate."""

    def logits(self, embedded: Batch) -> Tensor:
        parts = [
            (torch.tanh(t.values @ self.weights[name]) * t.mask).sum(dim=1) for name, t in embedded.items()
        ]
        stacked = torch.stack(parts)
        together = stacked.prod(dim=0) if len(parts) == len(self.weights) else 0.0
        total = stacked.sum(dim=0) + 0.7 * together + self.bias
        return torch.stack([-total, total], dim=1)


def make_tokens(shape: tuple[int, int, int], real: list[int], seed: int) -> Tokens:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    mask = torch.arange(shape[1])[None, :] < torch.tensor(real)[:, None]
    return Tokens(values, mask, torch.zeros(shape[:2]))


WEIGHTS = {"ehr": [0.5, -1.0, 0.25], "notes": [1.0, 0.5], "radiology": [-0.3, 0.8]}


@pytest.fixture
def linear() -> LinearModel:
    return LinearModel(WEIGHTS)


@pytest.fixture
def curved() -> CurvedModel:
    return CurvedModel(WEIGHTS)


@pytest.fixture
def batch_of() -> Callable[..., Batch]:
    """``batch_of(subjects)``: three modalities; the last subject has no note."""

    def make(subjects: int = 1, notes: bool = True) -> Batch:
        real = [3] * subjects
        real_notes = [2] * subjects if notes else [0] * subjects
        return {
            "ehr": make_tokens((subjects, 5, 3), real, 1),
            "notes": make_tokens((subjects, 4, 2), real_notes, 2),
            "radiology": make_tokens((subjects, 3, 2), [3] * subjects, 3),
        }

    return make
