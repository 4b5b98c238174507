"""The trainable EHR encoder: (code, value, has value) and time in, contextual tokens out.

A fact's vector is its code's embedding plus, where it has a number, a code-specific gain times a
piecewise-linear encoding of the standardised value (Gorishniy et al., "On Embeddings for
Numerical Features in Tabular Deep Learning", NeurIPS 2022). Small on purpose: hospitals have
hundreds of subjects for a question more often than millions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clinimm.core.errors import ConfigError
from clinimm.modalities.ehr.transform import LARGEST_Z, UNKNOWN
from clinimm.modality import Statistics
from clinimm.nn.blocks import FeedForward, MaskedAttention, TimeEncoding
from clinimm.nn.encoder import TokenEncoder
from clinimm.nn.tokens import Tokens

if TYPE_CHECKING:
    from clinimm.config import ModalityConfig

#: Edges of the value's bins, in scales from the centre: finer where most values lie.
_EDGES = (-LARGEST_Z, -3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, LARGEST_Z)
_KNOWN = {"dim", "layers", "heads", "dropout", "code_dropout", "min_subjects", "max_vocabulary"}


class ValueEncoding(nn.Module):
    """A number as how far it fills each bin: linear inside a bin, constant outside."""

    lower: Tensor
    width: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        edges = torch.tensor(_EDGES)
        self.register_buffer("lower", edges[:-1])
        self.register_buffer("width", edges[1:] - edges[:-1])
        self.project = nn.Linear(len(_EDGES) - 1, dim)

    def forward(self, z: Float[Tensor, "batch token"]) -> Float[Tensor, "batch token dim"]:
        """The encoding of values in scales from the centre."""
        filled = ((z.unsqueeze(-1) - self.lower) / self.width).clamp(0, 1)  # (batch, token, bin)
        # Centred on what the average value (0) fills, so that it adds little to its code.
        typical = ((0.0 - self.lower) / self.width).clamp(0, 1)
        return self.project(filled - typical)


class ContextLayer(nn.Module):
    """Every fact reads every other fact of its subject."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attend = MaskedAttention(dim, heads, dropout)
        self.think = FeedForward(dim, dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(batch, token, dim) -> (batch, token, dim)."""
        normed = self.norm(x)
        x = x + self.attend(normed, normed, mask)
        return x + self.think(x)


class EventEncoder(TokenEncoder):
    """Embeds facts and lets them read one another.

    Beside its vector, an embedded fact carries its standardised value and a one in two channels
    of their own, and its kind in ``Tokens.kind``; ``summarise`` reads nothing else.

    The baseline is the embedding of the unknown fact without a value. It is trained: in training
    a share ``code_dropout`` of the facts is replaced by it, so it means "some fact, of which
    nothing is known".

    Args:
        vocabulary: kinds of fact, the unknown one not counted.
        dim: width of the tokens.
        layers: contextual layers; 0 leaves every fact alone.
        heads: attention heads; divides ``dim``.
        dropout: inside the contextual layers.
        code_dropout: chance that a fact becomes unknown while training.
    """

    sparse_summary = True
    baseline_words = "a fact of which nothing is known"

    def __init__(
        self, vocabulary: int, dim: int, layers: int, heads: int, dropout: float, code_dropout: float
    ) -> None:
        super().__init__()
        self.dim = dim
        self.kinds = vocabulary + 1
        self.code_dropout = code_dropout
        self.code = nn.Embedding(vocabulary + 1, dim)
        self.gain = nn.Embedding(vocabulary + 1, dim)
        self.value = ValueEncoding(dim)
        self.time = TimeEncoding(dim) if layers else None
        self.layers = nn.ModuleList(ContextLayer(dim, heads, dropout) for _ in range(layers))
        nn.init.normal_(self.code.weight, std=dim**-0.5)
        nn.init.ones_(self.gain.weight)

    def embed(self, raw: Tokens) -> Tokens:
        """(batch, token, 3) -> (batch, token, dim + 2)."""
        code, z, has_value = raw.values.unbind(dim=-1)
        index = code.long()
        if self.training and self.code_dropout:
            lost = torch.rand(index.shape, device=index.device) < self.code_dropout
            index, has_value = index.masked_fill(lost, UNKNOWN), has_value.masked_fill(lost, 0.0)
        value = has_value.unsqueeze(-1) * self.gain(index) * self.value(z)
        known = (index != UNKNOWN).to(z.dtype)
        plain = torch.stack([has_value * z.clamp(-LARGEST_Z, LARGEST_Z), known], dim=-1)
        values = torch.cat([self.code(index) + value, plain], dim=-1) * raw.mask.unsqueeze(-1)
        return replace(raw, values=values, kind=index)

    def forward(self, embedded: Tokens) -> Tokens:
        """(batch, token, dim + 2) -> (batch, token, dim); padding stays zero."""
        x = embedded.values[..., : self.dim]
        if self.time is None:
            return embedded.with_values(x)
        x = x + self.time(embedded.time)
        for layer in self.layers:
            x = layer(x, embedded.mask)
        return embedded.with_values(x * embedded.mask.unsqueeze(-1))

    def summarise(self, embedded: Tokens) -> Float[Tensor, "batch feature"]:
        """The latest value of each kind of fact, then a one for each kind that is there.

        A kind that is absent has the value 0, which is the median of training subjects. Values of
        the same instant are averaged.
        """
        assert embedded.kind is not None
        kind, mask = embedded.kind, embedded.mask
        zero = embedded.values.new_zeros(len(kind), self.kinds)
        time = embedded.time.to(zero.dtype).masked_fill(~mask, torch.inf)
        newest = torch.full_like(zero, torch.inf).scatter_reduce(1, kind, time, "amin")
        latest = (mask & (time <= newest.gather(1, kind))).to(zero.dtype)
        count = zero.scatter_add(1, kind, latest).clamp(min=1)
        value, there = embedded.values[..., self.dim :].unbind(dim=-1)
        return torch.cat(
            [
                zero.scatter_add(1, kind, latest * value) / count,
                zero.scatter_add(1, kind, latest * there) / count,
            ],
            dim=1,
        )

    def baseline(self, embedded: Tokens) -> Tensor:
        """A fact of which nothing is known, (batch, token, dim + 2)."""
        unknown = torch.cat([self.code.weight[UNKNOWN], self.code.weight.new_zeros(2)])
        return unknown.expand(embedded.values.shape) * embedded.mask.unsqueeze(-1)


def build_encoder(config: ModalityConfig, statistics: Statistics) -> TokenEncoder:
    """The encoder that the pipeline file asks for.

    Options: ``dim`` (default 64), ``layers`` (1), ``heads`` (4), ``dropout`` (0.1),
    ``code_dropout`` (0.05), and those of ``fit``.

    Raises:
        ConfigError: the encoder's name or an option is unknown.
    """
    if config.encoder.name not in (None, "events"):
        raise ConfigError(f"ehr encoder {config.encoder.name!r} is unknown; known is events.")
    options: dict[str, Any] = config.encoder.options
    if unknown := sorted(set(options) - _KNOWN):
        known = ", ".join(sorted(_KNOWN))
        raise ConfigError(f"ehr encoder option {', '.join(unknown)} is unknown; known are {known}.")
    dim, heads = int(options.get("dim", 64)), int(options.get("heads", 4))
    if dim % heads:
        raise ConfigError(f"ehr encoder: dim {dim} is not divisible by heads {heads}.")
    return EventEncoder(
        vocabulary=len(statistics["vocabulary"]),
        dim=dim,
        layers=int(options.get("layers", 1)),
        heads=heads,
        dropout=float(options.get("dropout", 0.1)),
        code_dropout=float(options.get("code_dropout", 0.05)),
    )
