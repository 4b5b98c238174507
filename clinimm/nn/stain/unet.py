"""The U-Net that the generators share, and the sibling ``unet``.

Ronneberger et al., "U-Net" (MICCAI 2015), with three changes for slides on a processor: pixels are
folded into channels before the first convolution (Shi et al., 2016, the other way round), skips
are added and not concatenated, and maps are reduced before they are enlarged. Together they are
about six times as fast as the textbook network of the same width.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from clinimm.nn.stain.blocks import ContextReader, ConvBlock, StainScale, constant_convolution
from clinimm.nn.stain.generator import Generator, GeneratorSettings, Origin, Painted, bounded_log_scale
from clinimm.nn.stain.reach import Span
from clinimm.nn.tokens import Tokens

_FIRST_LOG_SCALE = -3.0  # an error of about 13 grey levels: what a start has


class Encoder(nn.Module):
    """Image -> maps of every level, finest first."""

    def __init__(self, settings: GeneratorSettings, channels_in: int = 3) -> None:
        super().__init__()
        self.fold = settings.fold
        self.widths = level_widths(settings)
        before = channels_in * self.fold**2
        levels = []
        for width in self.widths:
            levels.append(nn.Sequential(ConvBlock(before, width), ConvBlock(width, width)))
            before = width
        self.levels = nn.ModuleList(levels)

    def forward(self, image: Float[Tensor, "batch channel row column"]) -> list[Tensor]:
        """(batch, width of level, row / 2**level, column / 2**level) each."""
        maps = []
        x = F.pixel_unshuffle(image, self.fold) if self.fold > 1 else image
        for index, level in enumerate(self.levels):
            x = level(F.max_pool2d(x, 2) if index else x)
            maps.append(x)
        return maps


class Decoder(nn.Module):
    """Maps of every level and a stain -> features at the finest level."""

    def __init__(self, settings: GeneratorSettings) -> None:
        super().__init__()
        widths = level_widths(settings)
        coarse_to_fine = list(zip(reversed(widths[1:]), reversed(widths[:-1]), strict=True))
        self.stain = StainScale(settings.stains, widths[-1])
        self.narrow = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for coarse, fine in coarse_to_fine)
        self.scales = nn.ModuleList(StainScale(settings.stains, fine) for _, fine in coarse_to_fine)
        self.levels = nn.ModuleList(
            nn.Sequential(ConvBlock(fine, fine), ConvBlock(fine, fine)) for _, fine in coarse_to_fine
        )

    def forward(
        self, maps: list[Tensor], stain: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch width row column"]:
        """The finest level's features, shaped as ``maps[0]``."""
        x = self.stain(maps[-1], stain)
        steps = zip(self.narrow, self.scales, self.levels, reversed(maps[:-1]), strict=True)
        for narrow, scale, level, skip in steps:
            x = F.interpolate(narrow(x), scale_factor=2, mode="nearest")
            x = level(scale(x + skip, stain))
        return x


class Heads(nn.Module):
    """Features at the finest level -> what is added to the start, and the log of its expected error.

    What is added has two parts: a colour a pixel, and a change of the source's own colours that holds
    for a cell of ``fold`` pixels a side (a local linear map, as in Gharbi et al., "Deep bilateral
    learning", 2017). The second keeps edges as sharp as the source has them, though the network
    works at a coarser grid.

    The error's head reads the features without a gradient: learning how wrong the colours are must
    not change the colours.
    """

    def __init__(self, width: int, fold: int) -> None:
        super().__init__()
        self.fold = fold
        self.colour = constant_convolution(width, 3 * fold**2, 0.0)
        self.change = constant_convolution(width, 9, 0.0)
        self.scale = nn.Sequential(
            nn.Conv2d(width, width, 1),
            nn.ReLU(inplace=True),
            constant_convolution(width, fold**2, _FIRST_LOG_SCALE),
        )

    def forward(
        self,
        features: Float[Tensor, "batch width cell_row cell_column"],
        image: Float[Tensor, "batch 3 row column"],
    ) -> tuple[Tensor, Tensor]:
        """(batch, 3, row, column) to add, and (batch, 1, row, column)."""
        colour, scale = self.colour(features), self.scale(features.detach())
        change = self.change(features)
        if self.fold > 1:
            colour, scale = F.pixel_shuffle(colour, self.fold), F.pixel_shuffle(scale, self.fold)
            change = F.interpolate(change, scale_factor=self.fold, mode="nearest")
        for channel in range(3):
            colour = colour + change[:, 3 * channel : 3 * channel + 3] * image[:, channel, None]
        return colour, bounded_log_scale(scale)


class UNet(Generator):
    """The sibling ``unet``, and the generator of ``pix2pix``, ``cyclegan`` and ``cut``.

    The colours are the per-pixel start plus what the network adds, which is nothing at first.
    """

    def __init__(self, settings: GeneratorSettings) -> None:
        super().__init__(settings)
        widths = level_widths(settings)
        self.encoder = Encoder(settings)
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
        """See ``Generator.forward``."""
        maps = self.encoder(image)
        features = maps[-1]
        if self.reader is not None:
            maps[-1] = self.reader(features, context)
        added, log_scale = self.heads(self.decoder(maps, stain), image)
        return Painted(self.start(image, stain) + added, log_scale, features)

    def pull(self, span: Span) -> Span:
        """Output positions -> the input positions behind them."""
        return pull_encoder(pull_decoder(span.repeated(self.settings.fold), self.settings), self.settings)


@dataclass(frozen=True)
class LevelSpans:
    """The positions of each level's map that an output depends on, finest level first."""

    spans: tuple[Span, ...]


def pull_decoder(span: Span, settings: GeneratorSettings) -> LevelSpans:
    """Positions of the decoder's output -> the positions of every level's map behind them."""
    found = []
    for _ in level_widths(settings)[:-1]:
        span = span.convolved(ConvBlock.kernel).convolved(ConvBlock.kernel)
        found.append(span)
        span = span.repeated(2)
    return LevelSpans((*found, span))


def pull_encoder(behind: LevelSpans, settings: GeneratorSettings) -> Span:
    """Positions of every level's map -> the pixels behind them."""
    span = behind.spans[-1]
    for index in reversed(range(len(behind.spans))):
        if index < len(behind.spans) - 1:
            span = span.pooled(2).joined(behind.spans[index])
        span = span.convolved(ConvBlock.kernel).convolved(ConvBlock.kernel)
    return span.pooled(settings.fold)


def level_widths(settings: GeneratorSettings) -> tuple[int, ...]:
    """Channels of each level of convolutions, finest first; folding takes the place of one level."""
    levels = settings.levels - (settings.fold > 1)
    return tuple(settings.width * 2**index for index in range(levels))
