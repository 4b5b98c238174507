"""What every stain generator has in common: its signature, its margin, its two heads."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from clinimm.nn.stain.reach import Span, reach, round_up
from clinimm.nn.stain.start import ColourStart
from clinimm.nn.tokens import Tokens

#: Where a tile lies on its slide: row and column of its first pixel, at the working resolution.
Origin = Int[Tensor, "batch 2"]

_LOG_SCALES = (-7.0, 0.7)  # errors from a quarter of a grey level to the whole range


@dataclass(frozen=True)
class GeneratorSettings:
    """What a generator is built from; plain values, saved in ``config.json``.

    Attributes:
        stains: how many stains it makes; the stain token is an index below.
        width: channels of the first level of convolutions; each deeper level has twice as many.
        levels: resolutions, the pixels themselves counted; the coarsest is 2**(levels - 1) pixels.
        fold: pixels a side that become channels before the first convolution, 1 or 2. Convolutions
            at full resolution cost four times as much as all others together, and buy little.
        context_dim: length of a context token; None where nothing conditions the stain.
        sampler_steps: steps of the flow sampler.
        noise_seed: of the flow sampler's noise.
    """

    stains: int
    width: int = 24
    levels: int = 4
    fold: int = 2
    context_dim: int | None = None
    sampler_steps: int = 4
    noise_seed: int = 0

    def __post_init__(self) -> None:
        if self.fold not in (1, 2) or self.levels < 2 or self.stains < 1:
            raise ValueError(
                f"fold is {self.fold} (1 or 2 are possible), levels {self.levels} (2 or more), "
                f"stains {self.stains} (1 or more)."
            )

    @property
    def stride(self) -> int:
        """Rows and columns of a tile are multiples of this."""
        return 2 ** (self.levels - 1)


@dataclass(frozen=True)
class Painted:
    """What a generator makes of a tile.

    Attributes:
        colour: the stain; in training it may leave [0, 1].
        log_scale: log of the Laplace scale, which is the expected absolute error of a channel.
        features: the bottleneck before stain and context touch it: what the network saw.
    """

    colour: Float[Tensor, "batch 3 row column"]
    log_scale: Float[Tensor, "batch 1 row column"]
    features: Float[Tensor, "batch feature cell_row cell_column"]

    def clamped(self) -> Painted:
        """The colours held in [0, 1]."""
        return replace(self, colour=self.colour.clamp(0, 1))


class Generator(nn.Module):
    """Base of the siblings: an image and a stain in, the stained image and its expected error out.

    Attributes:
        stride: rows and columns of an image must be multiples of it.
        reach: exact distance in pixels beyond which nothing influences a pixel.
        halo: ``reach`` rounded up to a multiple of ``stride``: the margin of a tile.
    """

    def __init__(self, settings: GeneratorSettings) -> None:
        super().__init__()
        self.settings = settings
        self.start = ColourStart(settings.stains)
        self.stride = settings.stride
        self.reach = reach(self.pull, self.stride)
        self.halo = round_up(self.reach, self.stride)

    @abstractmethod
    def paint(
        self,
        image: Float[Tensor, "batch 3 row column"],
        stain: Int[Tensor, " batch"],
        context: Tokens | None = None,
        origin: Origin | None = None,
    ) -> Painted:
        """The stained image with its parts apart; see ``forward``."""

    @abstractmethod
    def pull(self, span: Span) -> Span:
        """The input positions that output positions depend on, along one axis."""

    def forward(
        self,
        image: Float[Tensor, "batch 3 row column"],
        stain: Int[Tensor, " batch"],
        context: Tokens | None = None,
        origin: Origin | None = None,
    ) -> Float[Tensor, "batch 4 row column"]:
        """Three colours in [0, 1], and the log of a Laplace scale.

        Args:
            image: in [0, 1].
            stain: index of the stain that is asked for.
            context: the patient's fused tokens; None, or a row without tokens, is "nothing known".
            origin: where each image lies on its slide; only samplers, whose noise belongs to places,
                need it. None is the corner of the slide.

        Raises:
            ValueError: rows or columns are no multiple of ``stride``.
        """
        check_size(image, self.stride)
        painted = self.paint(image, stain, context, origin).clamped()
        return torch.cat([painted.colour, painted.log_scale], dim=1)


def check_size(image: Tensor, stride: int) -> None:
    """Raise ValueError where rows or columns are no multiple of ``stride``."""
    rows, columns = image.shape[-2:]
    if rows % stride or columns % stride or not rows or not columns:
        raise ValueError(
            f"the image has {rows} x {columns} pixels; this generator needs multiples of {stride}: pad it."
        )


def bounded_log_scale(raw: Tensor) -> Tensor:
    """A log scale held where an error of an 8-bit image can lie."""
    return raw.clamp(*_LOG_SCALES)
