"""The few building blocks of the fusion network."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from clinimm.nn.attention import Note
from clinimm.nn.tokens import Tokens

#: Longest period of the time encoding: ten years, beyond which facts are merely "long ago".
_LONGEST_HOURS = 10 * 365.25 * 24

#: Training tokens from which an adapter takes its mean and principal axes.
_INITIAL_TOKENS = 2048


class MaskedAttention(nn.Module):
    """Multi-head attention in which a query that may look at nothing gets zeros, not NaN.

    Args:
        width: length of queries and tokens.
        heads: divides ``width``.
        dropout: on the attention weights while training.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not divisible by {heads} heads.")
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        queries: Float[Tensor, "batch query width"],
        tokens: Float[Tensor, "batch token width"],
        mask: Bool[Tensor, "batch token"],
        note: Note | None = None,
    ) -> Float[Tensor, "batch query width"]:
        """Each query reads the tokens whose mask is True; ``note`` is handed the weights (``Trace``)."""
        q = self._split(self.query(queries))  # (batch, head, query, width / heads)
        k, v = (self._split(part) for part in self.key_value(tokens).chunk(2, dim=-1))
        # One extra key that holds nothing: attention over an absent modality is then defined.
        k = F.pad(k, (0, 0, 1, 0))
        v = F.pad(v, (0, 0, 1, 0))
        allowed = F.pad(mask, (1, 0), value=True)[:, None, None, :]
        dropout = self.dropout if self.training else 0.0
        if note is None:
            read = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, dropout_p=dropout)
        else:
            score = (q @ k.transpose(2, 3) / math.sqrt(q.shape[3])).masked_fill(~allowed, -math.inf)
            weights = score.softmax(dim=3)  # (batch, head, query, 1 + token)
            note(weights)
            read = F.dropout(weights, dropout) @ v
        return self.out(read.transpose(1, 2).flatten(2))  # (batch, query, width)

    def _split(self, x: Float[Tensor, "batch token width"]) -> Float[Tensor, "batch head token part"]:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Sequential):
    """Two linear layers with a GELU between, four times as wide inside."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(4 * width, width),
        )


class TimeEncoding(nn.Module):
    """Hours before the index time as a learned mix of sinusoids of log time.

    Log time, because an hour matters on the day of the index and not a year before it.
    """

    frequencies: Tensor

    def __init__(self, width: int, frequencies: int = 8) -> None:
        super().__init__()
        span = torch.arange(frequencies, dtype=torch.float32)
        self.register_buffer("frequencies", math.pi * 2.0**span / math.log1p(_LONGEST_HOURS))
        self.project = nn.Linear(2 * frequencies, width)
        nn.init.normal_(self.project.weight, std=0.02)
        nn.init.zeros_(self.project.bias)

    def forward(self, hours: Float[Tensor, "batch token"]) -> Float[Tensor, "batch token width"]:
        """The encoding of each token's time."""
        phase = torch.log1p(hours.clamp(min=0))[..., None] * self.frequencies
        return self.project(torch.cat([phase.sin(), phase.cos()], dim=-1))


class Adapter(nn.Module):
    """Brings one modality's tokens to the width of the fusion.

    Tokens are standardised with the training tokens' mean and scale, projected (the projection
    starts at their principal axes: with few subjects that beats a random start), and marked with
    the modality and the time.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int, width: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(()))
        self.project = nn.Linear(dim, width)
        self.norm = nn.LayerNorm(width)
        self.time = TimeEncoding(width)
        self.modality = nn.Parameter(0.02 * torch.randn(width))
        self.dropout = nn.Dropout(dropout)

    @torch.no_grad()
    def initialise(self, values: Float[Tensor, "token dim"]) -> None:
        """Set mean, scale and projection from training tokens; at least two are needed."""
        if len(values) < 2:
            return
        values = values[:: max(1, len(values) // _INITIAL_TOKENS)]
        self.mean.copy_(values.mean(0))
        centred = values - self.mean
        self.scale.copy_(centred.pow(2).mean().sqrt().clamp(min=1e-6))
        rank = min(self.project.out_features, *centred.shape)
        _, spread, axes = torch.svd_lowrank(centred / self.scale, q=rank, niter=4)
        whitened = axes * (len(values) ** 0.5 / spread.clamp(min=1e-4 * float(spread[0]) + 1e-12))
        self.project.weight[:rank].copy_(whitened.T)
        self.project.bias.zero_()

    def forward(self, tokens: Tokens) -> Tokens:
        """(batch, token, dim) -> (batch, token, width)."""
        values = self.project((tokens.values - self.mean) / self.scale)
        values = self.norm(values) + self.modality + self.time(tokens.time)
        return tokens.with_values(self.dropout(values))
