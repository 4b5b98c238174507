"""The blocks of the stain networks. None of them knows how large the tile is.

Normalisation is by batch statistics that are constants once training is over: instance and group
normalisation measure the tile that they see, and neighbouring tiles then differ in a seam that no
blending removes.
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn

from clinimm.nn.blocks import MaskedAttention
from clinimm.nn.tokens import Tokens


class ConvBlock(nn.Sequential):
    """3 × 3 convolution, batch normalisation, ReLU."""

    kernel = 3

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels, self.kernel, padding=self.kernel // 2, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )


def constant_convolution(channels_in: int, channels: int, value: float) -> nn.Conv2d:
    """A 1 × 1 convolution that starts by giving ``value`` everywhere, whatever comes in."""
    convolution = nn.Conv2d(channels_in, channels, 1)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.weight)
    nn.init.constant_(convolution.bias, value)
    return convolution


class StainScale(nn.Module):
    """The stain token: a gain and an offset a channel for each stain (FiLM, Perez et al., 2018)."""

    def __init__(self, stains: int, channels: int) -> None:
        super().__init__()
        self.scale = nn.Embedding(stains, channels)
        self.shift = nn.Embedding(stains, channels)
        for table in (self.scale, self.shift):
            nn.init.normal_(table.weight, std=0.1)

    def forward(
        self, maps: Float[Tensor, "batch channel row column"], stain: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch channel row column"]:
        """Same shape."""
        scale = self.scale(stain)[:, :, None, None]
        shift = self.shift(stain)[:, :, None, None]
        return maps * (1 + scale) + shift


class ContextReader(nn.Module):
    """Each position of the bottleneck reads the fused tokens by cross-attention.

    Positions do not see each other, so a tile's margin stays exact. The way out starts at zero, so
    training starts from the stain that the pixels alone give; a patient without tokens gets exactly
    that, always.
    """

    def __init__(self, channels: int, dim: int, heads: int = 4) -> None:
        super().__init__()
        self.tokens = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, channels))
        self.query = nn.LayerNorm(channels)
        self.attention = MaskedAttention(channels, heads, dropout=0.0)
        nn.init.zeros_(self.attention.out.weight)
        nn.init.zeros_(self.attention.out.bias)

    def forward(
        self, maps: Float[Tensor, "batch channel row column"], context: Tokens | None
    ) -> Float[Tensor, "batch channel row column"]:
        """Same shape."""
        if context is None:
            return maps
        queries = self.query(maps.flatten(2).transpose(1, 2))  # (batch, row * column, channel)
        read = self.attention(queries, self.tokens(context.values), context.mask)
        read = read * context.present[:, None, None]
        return maps + read.transpose(1, 2).unflatten(2, maps.shape[2:])
