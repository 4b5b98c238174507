"""The sibling ``flow``: few-step conditional flow matching on MONAI's residual blocks.

Lipman et al., "Flow matching for generative modelling" (ICLR 2023), with the straight paths of Liu
et al., "Flow straight and fast" (ICLR 2023), and a start that depends on the condition as in
Albergo et al., "Stochastic interpolants with data-dependent couplings" (ICML 2024): paths start
not from pure noise but from the expected stain with noise on it, which leaves little to travel, so
that a few steps are enough.

The image is read once, by the U-Net, which also gives the expected stain; a small network of two
residual blocks then says at each step where the path ends, and so how fast to go (predicting the
end and not the velocity makes the untrained sampler give the expected stain, free of noise). A step
adds little to the cost and to the reach. MONAI's blocks come with group normalisation, which
measures the tile; it is replaced by batch normalisation.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from clinimm.core.errors import MissingExtraError
from clinimm.nn.stain.blocks import ContextReader, constant_convolution
from clinimm.nn.stain.generator import Generator, GeneratorSettings, Origin, Painted
from clinimm.nn.stain.place_noise import place_noise
from clinimm.nn.stain.reach import Span
from clinimm.nn.stain.unet import Decoder, Encoder, Heads, level_widths, pull_decoder, pull_encoder
from clinimm.nn.tokens import Tokens

NOISE = 0.1  # deviation of the noise on the expected stain, in units of the colour range
_BLOCKS = 2
_TIME_UNITS = 1000.0  # MONAI's embedding of time expects steps, of which there are about so many


class PathEnd(nn.Module):
    """Where the path through a point ends, as a difference from the expected stain; at first none."""

    def __init__(self, width: int, fold: int) -> None:
        super().__init__()
        try:
            # About 20 s of processor time: only where a flow is asked for.
            from monai.networks.nets.diffusion_model_unet import (
                DiffusionUNetResnetBlock,
                get_timestep_embedding,
            )
        except ModuleNotFoundError as error:
            raise MissingExtraError(
                f"the flow sampler needs {error.name}, which is not installed: "
                "pip install 'clinimm[pathology]'."
            ) from error
        self.fold = fold
        self.width = width
        self.embed_time = get_timestep_embedding
        self.time = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))
        self.join = nn.Conv2d(3 * fold**2 + width, width, 1)
        self.blocks = nn.ModuleList(
            DiffusionUNetResnetBlock(2, width, 4 * width, norm_num_groups=1) for _ in range(_BLOCKS)
        )
        self.out = constant_convolution(width, 3 * fold**2, 0.0)
        replace_group_norms(self)

    def forward(
        self,
        point: Float[Tensor, "batch 3 row column"],
        time: Float[Tensor, " batch"],
        features: Float[Tensor, "batch width cell_row cell_column"],
    ) -> Float[Tensor, "batch 3 row column"]:
        """Times run from 0, the expected stain with noise, to 1, the stain.

        Args:
            point: on the path, as a difference from the expected stain.
            time: one an image.
            features: of the U-Net at each position.
        """
        folded = F.pixel_unshuffle(point / NOISE, self.fold) if self.fold > 1 else point / NOISE
        waves = self.embed_time(time * _TIME_UNITS, self.width).to(point.dtype)
        embedded = self.time(waves)
        x = self.join(torch.cat([folded, features], dim=1))
        for block in self.blocks:
            x = block(x, embedded)
        x = self.out(x)
        return F.pixel_shuffle(x, self.fold) if self.fold > 1 else x


class Flow(Generator):
    """A sampler whose noise is a function of the place on the slide, so that tiles agree."""

    def __init__(self, settings: GeneratorSettings) -> None:
        super().__init__(settings)
        widths = level_widths(settings)
        self.encoder = Encoder(settings)
        self.reader = None
        if settings.context_dim is not None:
            self.reader = ContextReader(widths[-1], settings.context_dim)
        self.decoder = Decoder(settings)
        self.heads = Heads(widths[0], settings.fold)
        self.path_end = PathEnd(widths[0], settings.fold)

    def paint(
        self,
        image: Float[Tensor, "batch 3 row column"],
        stain: Int[Tensor, " batch"],
        context: Tokens | None = None,
        origin: Origin | None = None,
    ) -> Painted:
        """See ``Generator.forward``: Euler steps along the path, from the noise of the place."""
        mean, features = self.regress(image, stain, context)
        if origin is None:
            origin = torch.zeros(len(image), 2, dtype=torch.int64, device=image.device)
        rows, columns = image.shape[2:]
        noise = place_noise(origin, 3, rows, columns, self.settings.noise_seed)
        point = NOISE * noise.to(mean.colour.dtype)
        steps = self.settings.sampler_steps
        for step in range(steps):
            time = torch.full((len(image),), step / steps, device=image.device)
            velocity = (self.path_end(point, time, features) - point) / (1 - step / steps)
            point = point + velocity / steps  # Euler's step
        return Painted(mean.colour + point, mean.log_scale, mean.features)

    def regress(
        self, image: Tensor, stain: Tensor, context: Tokens | None
    ) -> tuple[Painted, Float[Tensor, "batch width row column"]]:
        """The expected stain, around which the path starts, and the features of each position."""
        maps = self.encoder(image)
        bottom = maps[-1]
        if self.reader is not None:
            maps[-1] = self.reader(bottom, context)
        features = self.decoder(maps, stain)
        added, log_scale = self.heads(features, image)
        return Painted(self.start(image, stain) + added, log_scale, bottom), features

    def pull(self, span: Span) -> Span:
        """Output positions -> the input positions behind them."""
        cells = span.repeated(self.settings.fold)
        for _ in range(self.settings.sampler_steps):
            # A step reads the point, which the step before it made, and the features.
            cells = pull_step(cells)
        return pull_encoder(pull_decoder(cells, self.settings), self.settings)


def pull_step(span: Span) -> Span:
    """Cells after a step -> the cells that it reads: each block has two 3 × 3 convolutions."""
    for _ in range(2 * _BLOCKS):
        span = span.convolved(3)
    return span


def replace_group_norms(module: nn.Module) -> None:
    """Put batch normalisation in the place of every group normalisation inside ``module``."""
    for name, child in module.named_children():
        if isinstance(child, nn.GroupNorm):
            setattr(module, name, nn.BatchNorm2d(child.num_channels))
        else:
            replace_group_norms(child)
