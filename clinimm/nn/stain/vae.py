"""The sibling ``vae``: what the pixels leave open is a latent map, not an average.

Sohn et al., "Learning structured output representation using deep conditional generative models"
(NeurIPS 2015). In training the latent comes from source and target together; afterwards from the
source alone, and its mean is taken, so the same tile always gives the same stain.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from clinimm.nn.stain.blocks import ContextReader
from clinimm.nn.stain.generator import Generator, GeneratorSettings, Origin, Painted
from clinimm.nn.stain.reach import Span
from clinimm.nn.stain.unet import Decoder, Encoder, Heads, level_widths, pull_decoder, pull_encoder
from clinimm.nn.tokens import Tokens

_LATENTS = 8
_LOG_VARIANCES = (-8.0, 4.0)


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution a position and latent."""

    mean: Float[Tensor, "batch latent row column"]
    log_variance: Float[Tensor, "batch latent row column"]

    def sample(self) -> Float[Tensor, "batch latent row column"]:
        """One draw, with a gradient to mean and variance."""
        return self.mean + torch.randn_like(self.mean) * (0.5 * self.log_variance).exp()


class VAE(Generator):
    """A conditional variational autoencoder with the U-Net's encoder and decoder."""

    def __init__(self, settings: GeneratorSettings) -> None:
        super().__init__(settings)
        widths = level_widths(settings)
        self.encoder = Encoder(settings)
        self.posterior_encoder = Encoder(settings, channels_in=6)
        self.prior = nn.Conv2d(widths[-1], 2 * _LATENTS, 1)
        self.posterior = nn.Conv2d(widths[-1], 2 * _LATENTS, 1)
        self.latent = nn.Conv2d(_LATENTS, widths[-1], 1)
        self.reader = None
        if settings.context_dim is not None:
            self.reader = ContextReader(widths[-1], settings.context_dim)
        self.decoder = Decoder(settings)
        self.heads = Heads(widths[0], settings.fold)

    def paint(
        self,
        image: Float[Tensor, "batch 3 row column"],
        stain: Int[Tensor, " batch"],
        context: Tokens | None = None,
        origin: Origin | None = None,
    ) -> Painted:
        """See ``Generator.forward``; the latent is the prior's mean."""
        maps = self.encoder(image)
        return self._decode(image, stain, context, maps, _gaussian(self.prior(maps[-1])).mean)

    def reconstruct(
        self,
        image: Float[Tensor, "batch 3 row column"],
        target: Float[Tensor, "batch 3 row column"],
        stain: Int[Tensor, " batch"],
        context: Tokens | None = None,
    ) -> tuple[Painted, Gaussian, Gaussian]:
        """In training: the stain with a latent drawn from the posterior; posterior and prior."""
        maps = self.encoder(image)
        both = self.posterior_encoder(torch.cat([image, target], dim=1))[-1]
        posterior, prior = _gaussian(self.posterior(both)), _gaussian(self.prior(maps[-1]))
        return self._decode(image, stain, context, maps, posterior.sample()), posterior, prior

    def _decode(
        self, image: Tensor, stain: Tensor, context: Tokens | None, maps: list[Tensor], latent: Tensor
    ) -> Painted:
        features = maps[-1]
        bottom = features + self.latent(latent)
        if self.reader is not None:
            bottom = self.reader(bottom, context)
        added, log_scale = self.heads(self.decoder([*maps[:-1], bottom], stain), image)
        return Painted(self.start(image, stain) + added, log_scale, features)

    def pull(self, span: Span) -> Span:
        """Output positions -> the input positions behind them."""
        return pull_encoder(pull_decoder(span.repeated(self.settings.fold), self.settings), self.settings)


def _gaussian(both: Tensor) -> Gaussian:
    mean, log_variance = both.chunk(2, dim=1)
    return Gaussian(mean, log_variance.clamp(*_LOG_VARIANCES))
