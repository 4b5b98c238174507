"""Mid fusion: every token meets every other through a few shared bottleneck latents.

Cost is linear in the number of tokens. After Nagrani et al., "Attention Bottlenecks for
Multimodal Fusion" (NeurIPS 2021), with latents that belong to no modality.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clinimm.config import ModelConfig
from clinimm.nn.attention import LATENTS, TOKENS, Note, Trace
from clinimm.nn.blocks import FeedForward, MaskedAttention
from clinimm.nn.tokens import Tokens


class GatherLayer(nn.Module):
    """Latents read all tokens, exchange what they read, and think."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.width
        self.token_norm = nn.LayerNorm(width)
        self.latent_norm = nn.LayerNorm(width)
        self.gather = MaskedAttention(width, config.heads, config.dropout)
        self.mix_norm = nn.LayerNorm(width)
        self.mix = MaskedAttention(width, config.heads, config.dropout)
        self.think = FeedForward(width, config.dropout)

    def forward(self, latents: Tensor, tokens: Tensor, mask: Tensor, trace: Trace | None = None) -> Tensor:
        """(batch, latent, width), (batch, token, width) -> (batch, latent, width)."""
        gathered, mixing = _notes(trace, (LATENTS, TOKENS), (LATENTS, LATENTS))
        latents = latents + self.gather(self.latent_norm(latents), self.token_norm(tokens), mask, gathered)
        mixed = self.mix_norm(latents)
        latents = latents + self.mix(mixed, mixed, mask.new_ones(latents.shape[:2]), mixing)
        return latents + self.think(latents)


class ScatterLayer(nn.Module):
    """Tokens read the latents, so that the next layer gathers from tokens that know of the rest."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.scatter = MaskedAttention(config.width, config.heads, config.dropout)
        self.think = FeedForward(config.width, config.dropout)

    def forward(self, tokens: Tensor, latents: Tensor, every: Tensor, trace: Trace | None = None) -> Tensor:
        """(batch, token, width), (batch, latent, width) -> (batch, token, width)."""
        (note,) = _notes(trace, (TOKENS, LATENTS))
        tokens = tokens + self.scatter(self.norm(tokens), latents, every, note)
        return tokens + self.think(tokens)


class MidFusion(nn.Module):
    """``{modality: Tokens} -> Tokens``: the latents after all layers.

    A modality that a subject lacks adds no token. A subject with no token at all gets the
    latents that know nothing, so its prediction is the prior.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.latents = nn.Parameter(0.5 * torch.randn(config.latents, config.width))
        self.gathers = nn.ModuleList(GatherLayer(config) for _ in range(config.layers))
        self.scatters = nn.ModuleList(ScatterLayer(config) for _ in range(config.layers - 1))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, inputs: dict[str, Tokens], trace: Trace | None = None) -> Tokens:
        """Fuse; every value of ``inputs`` has the same width and batch size.

        Args:
            inputs: the modalities' tokens; their order is that of ``TOKENS`` in the trace.
            trace: notes the attention weights, for explanations.
        """
        parts = list(inputs.values())
        tokens = torch.cat([part.values for part in parts], dim=1)  # (batch, all tokens, width)
        mask = torch.cat([part.mask for part in parts], dim=1)
        latents = self.latents.expand(len(tokens), -1, -1)  # (batch, latent, width)
        every = mask.new_ones(latents.shape[:2])
        for index, gather in enumerate(self.gathers):
            if index:
                tokens = self.scatters[index - 1](tokens, latents, every, trace)
            latents = gather(latents, tokens, mask, trace)
        return Tokens(self.norm(latents), every, tokens.new_zeros(latents.shape[:2]))


def _notes(trace: Trace | None, *pairs: tuple[str, str]) -> tuple[Note | None, ...]:
    return tuple(None if trace is None else trace.noting(reader, read) for reader, read in pairs)
