"""What each sibling is trained on: one class a method, behind one signature.

An objective turns a generator and a batch of crops into one number to go down. Where there is a
critic, its own loss is a term of that number: the generator's part is computed with the critic's
weights held, the critic's part on images that are detached, so one backward pass and one optimiser
serve both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from clinimm.config import StainingConfig
from clinimm.nn.stain import build_generator
from clinimm.nn.stain.contrast import PatchProjector
from clinimm.nn.stain.critic import PatchCritic
from clinimm.nn.stain.flow import NOISE, Flow
from clinimm.nn.stain.generator import Generator, GeneratorSettings, Painted
from clinimm.nn.stain.perception import Perception
from clinimm.nn.stain.unet import UNet, level_widths
from clinimm.nn.stain.vae import VAE
from clinimm.nn.tokens import Tokens
from clinimm.staining.crops import Crops
from clinimm.tasks.virtual_staining import (
    absolute_error,
    adversarial_loss,
    gaussian_divergence,
    known_mean,
    laplace_loss,
    patch_contrast,
)

_SCALE_WEIGHT = 0.05  # of the error's head; it shares no weights with the colours, so only its pace
_CYCLE_WEIGHT = 10.0  # as published (Zhu et al., ICCV 2017)
_DIVERGENCE_WEIGHT = 0.01


class Objective(nn.Module):
    """Base; also what the paired methods share.

    Attributes:
        paired: whether the target shows the same place as the source.
        betas: of Adam; a game against a critic needs a short memory.
    """

    paired = True
    betas = (0.9, 0.999)

    def __init__(self, config: StainingConfig, settings: GeneratorSettings) -> None:
        super().__init__()
        self.config = config
        self.settings = settings
        self.perception = Perception() if self.paired and config.perceptual_weight else None

    def forward(self, generator: Generator, crops: Crops, context: Tokens | None) -> Tensor:
        """The loss of a batch."""
        raise NotImplementedError

    def pixel_loss(self, painted: Painted, crops: Crops) -> Tensor:
        """L1, the perceptual term, and how well the error was foreseen."""
        error = absolute_error(painted.colour, crops.target)
        loss = known_mean(error, crops.known)
        if self.perception is not None:
            # On every other crop: the frozen network costs as much as the generator.
            seen = slice(None, None, 2)
            distance = self.perception.distance(painted.colour[seen], crops.target[seen], crops.known[seen])
            loss = loss + self.config.perceptual_weight * distance
        return loss + _SCALE_WEIGHT * laplace_loss(painted.log_scale, error, crops.known)


class Regress(Objective):
    """``unet``: L1 and perceptual terms."""

    def forward(self, generator: Generator, crops: Crops, context: Tokens | None) -> Tensor:
        """The loss of a batch."""
        return self.pixel_loss(generator.paint(crops.source, crops.stain, context), crops)


class Pix2Pix(Objective):
    """``pix2pix``: the same, and a critic that sees source and stain together (Isola et al., 2017)."""

    def __init__(self, config: StainingConfig, settings: GeneratorSettings) -> None:
        super().__init__(config, settings)
        self.critic = PatchCritic(6, settings.stains)

    def forward(self, generator: Generator, crops: Crops, context: Tokens | None) -> Tensor:
        """The loss of a batch."""
        painted = generator.paint(crops.source, crops.stain, context)
        made = torch.cat([crops.source, _where_known(painted.colour, crops)], dim=1)
        real = torch.cat([crops.source, _where_known(crops.target, crops)], dim=1)
        deceive, tell = adversarial_terms(self.critic, made, real, crops.stain)
        return self.pixel_loss(painted, crops) + self.config.adversarial_weight * deceive + tell


class Cycle(Objective):
    """``cyclegan``: there and back again, with a critic on either side (Zhu et al., ICCV 2017).

    No pixel's truth is known, so the expected error is learned from what the way back misses.
    """

    paired = False
    betas = (0.5, 0.999)

    def __init__(self, config: StainingConfig, settings: GeneratorSettings) -> None:
        super().__init__(config, settings)
        self.back = build_generator("unet", settings)
        self.stain_critic = PatchCritic(3, settings.stains)
        self.source_critic = PatchCritic(3, settings.stains)

    def forward(self, generator: Generator, crops: Crops, context: Tokens | None) -> Tensor:
        """The loss of a batch."""
        stain, source, target = crops.stain, crops.source, crops.target
        there = generator.paint(source, stain, context)
        back = self.back.paint(target, stain)
        with constant_statistics(self):
            missed = absolute_error(self.back.paint(there.colour, stain).colour, source)
        with constant_statistics(generator):
            missed_there = absolute_error(generator.paint(back.colour, stain, context).colour, target)
        deceive, tell = adversarial_terms(self.stain_critic, there.colour, target, stain)
        deceive_back, tell_back = adversarial_terms(self.source_critic, back.colour, source, stain)
        everywhere = torch.ones_like(crops.known)
        return (
            deceive
            + deceive_back
            + tell
            + tell_back
            + _CYCLE_WEIGHT * (missed.mean() + missed_there.mean())
            + _SCALE_WEIGHT * laplace_loss(there.log_scale, missed, everywhere)
        )


class Contrast(Objective):
    """``cut``: one critic, and places that must stay recognisable (Park et al., ECCV 2020).

    No pixel's truth is known, nor is there a way back, so the expected error is learned from how far
    the stain was moved from a mere transfer of colours, of which nothing has proved that it is right.
    """

    paired = False
    betas = (0.5, 0.999)

    def __init__(self, config: StainingConfig, settings: GeneratorSettings) -> None:
        super().__init__(config, settings)
        self.critic = PatchCritic(3, settings.stains)
        self.projector = PatchProjector(level_widths(settings))

    def forward(self, generator: Generator, crops: Crops, context: Tokens | None) -> Tensor:
        """The loss of a batch."""
        assert isinstance(generator, UNet)
        painted = generator.paint(crops.source, crops.stain, context)
        with constant_statistics(generator):
            contrast = self._contrast(generator, crops.source, painted.colour)
        deceive, tell = adversarial_terms(self.critic, painted.colour, crops.target, crops.stain)
        moved = absolute_error(painted.colour, generator.start(crops.source, crops.stain))
        everywhere = torch.ones_like(crops.known)
        scale = laplace_loss(painted.log_scale, moved, everywhere)
        return deceive + tell + contrast + _SCALE_WEIGHT * scale

    def _contrast(self, generator: UNet, before: Tensor, after: Tensor) -> Tensor:
        maps = generator.encoder(before)
        places = self.projector.draw(maps)
        keys = self.projector(maps, places)
        return patch_contrast(self.projector(generator.encoder(after), places), keys)


class Latent(Objective):
    """``vae``: the paired loss with the posterior's latent, and its divergence from the prior."""

    def forward(self, generator: Generator, crops: Crops, context: Tokens | None) -> Tensor:
        """The loss of a batch."""
        assert isinstance(generator, VAE)
        painted, posterior, prior = generator.reconstruct(crops.source, crops.target, crops.stain, context)
        divergence = gaussian_divergence(
            posterior.mean, posterior.log_variance, prior.mean, prior.log_variance
        )
        return self.pixel_loss(painted, crops) + _DIVERGENCE_WEIGHT * divergence


class Match(Objective):
    """``flow``: the paired loss for the expected stain, and flow matching from there to the truth."""

    def forward(self, generator: Generator, crops: Crops, context: Tokens | None) -> Tensor:
        """The loss of a batch."""
        assert isinstance(generator, Flow)
        mean, features = generator.regress(crops.source, crops.stain, context)
        end = crops.target - mean.colour.detach()
        time = torch.rand(len(end))
        way = time[:, None, None, None]
        point = (1 - way) * NOISE * torch.randn_like(end) + way * end
        missed = (generator.path_end(point, time, features) - end).pow(2).mean(1)
        return self.pixel_loss(mean, crops) + known_mean(missed, crops.known) / NOISE


_OBJECTIVES: dict[str, type[Objective]] = {
    "unet": Regress,
    "pix2pix": Pix2Pix,
    "cyclegan": Cycle,
    "cut": Contrast,
    "vae": Latent,
    "flow": Match,
}


def build_objective(config: StainingConfig, settings: GeneratorSettings) -> Objective:
    """The objective of ``staining.generator``."""
    return _OBJECTIVES[config.generator](config, settings)


def adversarial_terms(
    critic: PatchCritic, made: Tensor, real: Tensor, stain: Tensor
) -> tuple[Tensor, Tensor]:
    """How badly the critic is deceived (for the generator), and how badly it tells (for itself)."""
    with held(critic):
        deceive = adversarial_loss(critic(made, stain), real=True)
    tell = adversarial_loss(critic(made.detach(), stain), real=False)
    tell = tell + adversarial_loss(critic(real, stain), real=True)
    return deceive, 0.5 * tell


@contextmanager
def held(module: nn.Module) -> Iterator[None]:
    """Inside, gradients pass through the module and leave its weights alone."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)


@contextmanager
def constant_statistics(module: nn.Module) -> Iterator[None]:
    """Inside, batch normalisation keeps its running statistics as they are.

    They are to describe source images, which is what the generator meets later; passes over made
    images and over targets must not mix into them.
    """
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _where_known(image: Tensor, crops: Crops) -> Tensor:
    return image * crops.known[:, None]
