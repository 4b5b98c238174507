"""Layer Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391) on the trunk's embedded tokens."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from clinimm.explain.method import Parts
from clinimm.explain.problem import Problem


class _Observed(nn.Module):
    """The problem's forward function, with a layer to look at where the tokens go in."""

    def __init__(self, forward: Callable[..., Tensor], count: int) -> None:
        super().__init__()
        self.tokens = nn.Identity()
        self.rest = forward
        self.count = count

    def forward(self, *tensors: Tensor) -> Tensor:
        values = self.tokens(tensors[: self.count])  # (batch, dim, token) each, as Captum has channels
        return self.rest(*(value.transpose(1, 2) for value in values), *tensors[self.count :])


def layer_grad_cam(problem: Problem) -> Parts:
    """Each token's product with its modality's mean gradient, sign kept.

    The mean is over real tokens: Captum's divides by padding too, which is undone here, so that
    padding changes nothing.
    """
    from captum.attr import LayerGradCam

    network = _Observed(problem.forward, len(problem.names))
    values = tuple(value.transpose(1, 2).requires_grad_() for value in problem.values)
    found = LayerGradCam(network, network.tokens).attribute(
        values, additional_forward_args=problem.unchanged, relu_attributions=False
    )
    parts = found if isinstance(found, tuple) else (found,)
    scores = []
    for part, tokens in zip(parts, problem.embedded.values(), strict=True):
        real = tokens.mask.sum(dim=1, keepdim=True).clamp(min=1)
        scores.append(part.detach().double().squeeze(1) * (tokens.mask.shape[1] / real))
    return Parts(
        tuple(torch.where(t.mask, s, 0.0) for t, s in zip(problem.embedded.values(), scores, strict=True))
    )
