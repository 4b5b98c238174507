"""The optimiser of a stainer in training, and the running average of its weights."""

from __future__ import annotations

import torch
from torch import nn

from clinimm.checkpoint import Weights

_AVERAGE = 0.98  # weight of the past in the running average of the weights, a step
_WEIGHT_DECAY = 0.01


def build_optimiser(
    trainee: nn.Module, learning_rate: float, betas: tuple[float, float]
) -> torch.optim.AdamW:
    """AdamW; gains, offsets and stain tokens do not decay.

    Args:
        trainee: what learns.
        learning_rate: at its peak, which each group keeps as ``peak``.
        betas: decay of the running moments.
    """
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in trainee.named_parameters():
        if parameter.requires_grad:
            groups[parameter.ndim > 1 and "scale" not in name and "latents" not in name].append(parameter)
    return torch.optim.AdamW(
        [
            {"params": group, "peak": learning_rate, "weight_decay": _WEIGHT_DECAY if decays else 0.0}
            for decays, group in groups.items()
        ],
        betas=betas,
    )


def update_average(average: Weights, trainee: nn.Module, step: int) -> None:
    """The running average; young ones forget their start sooner."""
    past = min(_AVERAGE, (1 + step) / (10 + step))
    for name, value in trainee.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - past)
        else:
            average[name].copy_(value)
