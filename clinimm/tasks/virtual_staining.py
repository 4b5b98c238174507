"""Virtual staining: which stains, and the losses from which a generator learns them.

All losses are means a pixel (or patch), so that their weights do not depend on the crop's size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from clinimm.core.errors import ConfigError

_TEMPERATURE = 0.07  # of CUT's contrast, as published


@dataclass(frozen=True)
class StainTask:
    """The stains that one model makes.

    Attributes:
        stains: their names, such as ``("KI67", "CK")``; the stain token is the index.
    """

    stains: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.stains or len(set(self.stains)) != len(self.stains):
            raise ConfigError(f"stains are {self.stains}; at least one is needed, and none twice.")

    def index(self, stain: str) -> int:
        """The token of a stain.

        Raises:
            ConfigError: the model does not make it.
        """
        if stain not in self.stains:
            raise ConfigError(f"stain {stain!r} is unknown; this model makes {', '.join(self.stains)}.")
        return self.stains.index(stain)


def absolute_error(
    made: Float[Tensor, "batch 3 row column"], real: Float[Tensor, "batch 3 row column"]
) -> Float[Tensor, "batch row column"]:
    """Mean over the colours of the absolute difference: what ``log_scale`` is to predict."""
    return (made - real).abs().mean(dim=1)


def known_mean(
    values: Float[Tensor, "batch row column"], known: Bool[Tensor, "batch row column"]
) -> Float[Tensor, ""]:
    """Mean over the pixels whose truth is known; 0 where none is."""
    return (values * known).sum() / known.sum().clamp(min=1)


def laplace_loss(
    log_scale: Float[Tensor, "batch 1 row column"],
    error: Float[Tensor, "batch row column"],
    known: Bool[Tensor, "batch row column"],
) -> Float[Tensor, ""]:
    """Negative log likelihood of the errors under a Laplace law, whose scale is their expectation.

    The errors are detached: the colours are not to blame for a wrong scale.
    """
    log_scale = log_scale[:, 0].float()
    return known_mean(log_scale + error.detach().float() * (-log_scale).exp(), known)


def adversarial_loss(scores: Float[Tensor, "batch 1 row column"], real: bool) -> Float[Tensor, ""]:
    """Least squares to 1 for real, to 0 for made (Mao et al., ICCV 2017)."""
    return (scores - float(real)).pow(2).mean()


def patch_contrast(
    queries: Sequence[Float[Tensor, "batch place width"]],
    keys: Sequence[Float[Tensor, "batch place width"]],
) -> Float[Tensor, ""]:
    """Cross entropy of finding each query's own place among all places of the same image."""
    total = queries[0].new_zeros(())
    for query, key in zip(queries, keys, strict=True):
        likeness = query @ key.detach().transpose(1, 2) / _TEMPERATURE  # (batch, place, place)
        own = torch.arange(likeness.shape[1]).expand(len(likeness), -1)
        total = total + F.cross_entropy(likeness.flatten(0, 1), own.flatten())
    return total / len(queries)


def gaussian_divergence(
    mean: Tensor, log_variance: Tensor, prior_mean: Tensor, prior_log_variance: Tensor
) -> Float[Tensor, ""]:
    """Kullback-Leibler divergence between diagonal normal laws, nats a number."""
    mean, log_variance = mean.float(), log_variance.float()
    ratio = (log_variance - prior_log_variance).exp()
    distance = (mean - prior_mean).pow(2) * (-prior_log_variance).exp()
    return 0.5 * (ratio + distance - 1 - log_variance + prior_log_variance).mean()
