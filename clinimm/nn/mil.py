"""Multiple-instance learning: a few slide tokens from many tile tokens.

A slide is a bag of tiles and only the bag is labelled. Where a handful of tiles decide, the mean of
all drowns them; these encoders learn which tiles to read. All stand on frozen, cached tile tokens
(``DenseEncoder``), give ``tokens`` slide tokens to the fusion whatever the number of tiles, and
start from ``embed``, one embedded token a tile, so an attribution ends at a tile.

A bag is all tiles of a subject. Nothing depends on the order of the tiles or on padding, and a
subject without tiles gets slide tokens that are masked.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from clinimm.nn.attention import Note, Trace
from clinimm.nn.blocks import FeedForward, MaskedAttention
from clinimm.nn.dense import Standardise
from clinimm.nn.encoder import TokenEncoder
from clinimm.nn.tokens import Tokens

_WIDTH = 64
_DROPOUT = 0.1
_BRANCHES = 4  # attention heads of ABMIL, queries of the transformer: as many slide tokens
_INSTANCES = 8  # most and least attended tiles of which CLAM teaches each class (its B)
_INSTANCE_WEIGHT = 0.3  # of the instance loss beside the task's, as in the paper
_LAYERS, _HEADS = 1, 4
_FREQUENCIES = 6
_LONGEST_TILES = 256.0  # longest wavelength of the position encoding, in tiles


class GatedAttention(nn.Module):
    """How much each tile counts: ``softmax(w tanh(V h) * sigmoid(U h))`` over the bag.

    Ilse, Tomczak and Welling, "Attention-based Deep Multiple Instance Learning", ICML 2018
    (arXiv:1802.04712), equation 9.

    Args:
        width: length of a tile's vector.
        branches: independent attentions.
    """

    def __init__(self, width: int, branches: int) -> None:
        super().__init__()
        self.content = nn.Linear(width, width)
        self.gate = nn.Linear(width, width)
        self.score = nn.Linear(width, branches)

    def forward(
        self, tiles: Float[Tensor, "batch tile width"], mask: Bool[Tensor, "batch tile"]
    ) -> Float[Tensor, "batch branch tile"]:
        """Weights that sum to one over a bag's tiles, and are all zero for an empty bag."""
        score = self.score(torch.tanh(self.content(tiles)) * torch.sigmoid(self.gate(tiles)))
        score = score.float().transpose(1, 2).masked_fill(~mask[:, None], -torch.inf)
        # An empty bag has nothing to normalise over: its softmax is NaN, in values and in gradients.
        score = torch.where(mask.any(dim=1)[:, None, None], score, torch.zeros_like(score))
        return score.softmax(dim=2) * mask[:, None]


class BagEncoder(TokenEncoder):
    """What the three share: tiles are standardised one by one, slide tokens carry the bag's time.

    Zero is the average training tile, so the default baseline holds. The summary stays the mean
    over tiles: the probe is the simple model that attention has to beat.

    Args:
        statistics: of ``fit_dense``.
        tokens: slide tokens that ``forward`` gives.
        width: their length.
    """

    pools = True
    baseline_words = "the average training tile"

    def __init__(self, statistics: dict[str, Any], tokens: int = _BRANCHES, width: int = _WIDTH) -> None:
        super().__init__()
        self.standardise = Standardise(statistics)
        self.tokens = tokens
        self.dim = width
        self.tile = nn.Sequential(
            nn.Linear(self.standardise.dim, width), nn.GELU(), nn.LayerNorm(width), nn.Dropout(_DROPOUT)
        )

    def embed(self, raw: Tokens) -> Tokens:
        """(batch, tile, inputs) -> (batch, tile, standardised)."""
        return raw.with_values(self.standardise(raw.values) * raw.mask.unsqueeze(-1))

    def _bag(self, values: Float[Tensor, "batch token width"], embedded: Tokens) -> Tokens:
        """Slide tokens at the time of the bag's latest tile; none for an empty bag."""
        there = embedded.present[:, None].expand(values.shape[:2])
        # Hours before the index: the smallest is the latest. The padding must not be it.
        latest = embedded.time.masked_fill(~embedded.mask, torch.inf).amin(dim=1, keepdim=True)
        time = torch.where(there, latest.expand(values.shape[:2]), torch.zeros_like(latest))
        return Tokens(values * there.unsqueeze(-1), there, time)


class AttentionBag(BagEncoder):
    """ABMIL: a few gated attentions, each giving the weighted mean of the tiles as a slide token."""

    def __init__(self, statistics: dict[str, Any], tokens: int = _BRANCHES, width: int = _WIDTH) -> None:
        super().__init__(statistics, tokens, width)
        self.attention = GatedAttention(width, tokens)

    def attend(self, embedded: Tokens) -> tuple[Tensor, Tensor]:
        """Tiles (batch, tile, width) and their weights (batch, slide token, tile)."""
        tiles = self.tile(embedded.values)
        return tiles, self.attention(tiles, embedded.mask)

    def reading(self, embedded: Tokens) -> Float[Tensor, "batch token embedded"]:
        """The attention weights themselves."""
        return self.attend(embedded)[1]

    def forward(self, embedded: Tokens) -> Tokens:
        """(batch, tile, standardised) -> (batch, slide token, width)."""
        tiles, weights = self.attend(embedded)
        return self._bag(weights.to(tiles.dtype) @ tiles, embedded)


class ClusteredBag(AttentionBag):
    """A CLAM-like encoder: one attention a class, and a loss that teaches it on single tiles.

    Of each class that a subject has, the most attended tiles are called tiles of that class and
    the least attended are not; of each class that it has not, the most attended are not (Lu et
    al., "Data-efficient and weakly supervised computational pathology on whole-slide images",
    Nature Biomedical Engineering 5, 2021: "instance-level clustering"). The paper's smooth SVM loss
    is replaced by cross-entropy, which has no temperature to set.
    """

    def __init__(self, statistics: dict[str, Any], width: int = _WIDTH) -> None:
        super().__init__(statistics, 1, width)
        self.instance = nn.Linear(width, 1)

    def expect(self, classes: int) -> None:
        """One attention and one tile classifier a class."""
        self.tokens = classes
        self.attention = GatedAttention(self.dim, classes)
        self.instance = nn.Linear(self.dim, classes)

    def auxiliary_loss(self, embedded: Tokens, target: Float[Tensor, "batch cls"]) -> Tensor | None:
        """Cross-entropy of tiles against the label that attention gives them, mean over known labels."""
        tiles, weights = self.attend(embedded)
        logits = self.instance(tiles).float().transpose(1, 2)  # (batch, class, tile)
        rank = torch.arange(min(_INSTANCES, tiles.shape[1]), device=tiles.device)
        count = embedded.mask.sum(dim=1)[:, None, None]
        known, label = ~target.isnan()[..., None], target.nan_to_num()[..., None]
        hidden = ~embedded.mask[:, None]
        most = weights.masked_fill(hidden, -1.0).topk(len(rank), dim=2).indices
        least = weights.masked_fill(hidden, 2.0).topk(len(rank), dim=2, largest=False).indices
        # Where a bag has fewer tiles than that, each stands on one side only.
        upper = (rank < (count + 1) // 2) & known
        lower = (rank < count // 2) & known & (label > 0.5)
        total = (F.softplus(logits) - logits * label).gather(2, most)[upper].sum()
        total = total + F.softplus(logits).gather(2, least)[lower].sum()
        return _INSTANCE_WEIGHT * total / (upper.sum() + lower.sum()).clamp(min=1)


class TransformerBag(BagEncoder):
    """Tiles read each other with self-attention, then a few learned queries read the tiles.

    Where each tile lies is added as sines of its column and row on the slide's grid, so that
    neighbours can be told from strangers. The last two of a raw token's values are that place, in
    tiles from the slide's middle; ``embed`` passes them on and the baseline keeps them, so that no
    attribution is given to a place as such. Cost grows with the square of the tiles: 512 of
    them are quick, ten thousand are not.

    After Shao et al., "TransMIL", NeurIPS 2021 (arXiv:2106.00908), with plain attention instead of
    the Nyström approximation and coordinates instead of their convolution over a reshaped sequence.

    Args:
        statistics: of ``fit_dense``; where ``places`` is true, raw tokens end with column and row.
        tokens: slide tokens that ``forward`` gives.
        width: their length.
    """

    wavelengths: Tensor

    def __init__(self, statistics: dict[str, Any], tokens: int = _BRANCHES, width: int = _WIDTH) -> None:
        super().__init__(statistics, tokens, width)
        self.places = 2 if statistics.get("places") else 0
        steps = torch.arange(_FREQUENCIES) / (_FREQUENCIES - 1)
        self.register_buffer("wavelengths", 4.0 * (_LONGEST_TILES / 4.0) ** steps)
        self.place = nn.Linear(4 * _FREQUENCIES, width)
        self.origin = nn.Parameter(torch.randn(width))
        self.layers = nn.ModuleList(_Layer(width) for _ in range(_LAYERS))
        self.queries = nn.Parameter(torch.randn(tokens, width))
        self.read = MaskedAttention(width, _HEADS, 0.0)
        self.norm = nn.LayerNorm(width)

    def embed(self, raw: Tokens) -> Tokens:
        """(batch, tile, inputs [+ 2]) -> (batch, tile, standardised [+ 2])."""
        values, place = self._split(raw.values)
        found = torch.cat([self.standardise(values), place], dim=2)
        return raw.with_values(found * raw.mask.unsqueeze(-1))

    def summarise(self, embedded: Tokens) -> Float[Tensor, "batch feature"]:
        """The mean over tiles, places left out."""
        return super().summarise(embedded.with_values(self._split(embedded.values)[0]))

    def baseline(self, embedded: Tokens) -> Tensor:
        """Average tiles in the same places."""
        values, place = self._split(embedded.values)
        return torch.cat([torch.zeros_like(values), place], dim=2)

    def reading(self, embedded: Tokens) -> Float[Tensor, "batch token embedded"]:
        """Attention rollout (Abnar and Zuidema, ACL 2020): each layer half itself, half what it read."""
        trace = Trace()
        self._read(embedded, trace)
        real = embedded.mask.to(embedded.values.dtype)
        *layers, read = (one.weights.mean(1)[..., 1:] * real[:, None] for one in trace.attentions)
        share = torch.diag_embed(real)
        for weights in layers:
            share = (share + weights @ share) / 2
        found = read @ share
        return found / found.sum(dim=2, keepdim=True).clamp(min=torch.finfo(found.dtype).tiny)

    def forward(self, embedded: Tokens) -> Tokens:
        """(batch, tile, standardised [+ 2]) -> (batch, slide token, width)."""
        return self._read(embedded, None)

    def _read(self, embedded: Tokens, trace: Trace | None) -> Tokens:
        values, place = self._split(embedded.values)
        # A normalisation magnifies what is near zero, so the average tile must not be there: else the
        # model turns within a hair of the baseline, and no path of integration is fine enough.
        tiles = self.origin + self.tile(values)  # (batch, tile, width)
        if self.places:
            tiles = tiles + self._encode(place)
        for layer in self.layers:
            tiles = layer(tiles, embedded.mask, None if trace is None else trace.noting("tiles", "tiles"))
        queries = self.queries.expand(len(tiles), -1, -1)
        # Added to its query, a slide token is not near zero either.
        note = None if trace is None else trace.noting("slide", "tiles")
        return self._bag(queries + self.read(queries, self.norm(tiles), embedded.mask, note), embedded)

    def _split(self, values: Tensor) -> tuple[Tensor, Tensor]:
        end = values.shape[2] - self.places
        return values[..., :end], values[..., end:]

    def _encode(self, place: Float[Tensor, "batch tile 2"]) -> Float[Tensor, "batch tile width"]:
        phase = (2 * math.pi * place[..., None] / self.wavelengths).flatten(2)
        return self.place(torch.cat([phase.sin(), phase.cos()], dim=-1))


class _Layer(nn.Module):
    """Self-attention and a feed-forward, each added to what came in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = MaskedAttention(width, _HEADS, _DROPOUT)
        self.feed = FeedForward(width, _DROPOUT)

    def forward(self, tiles: Tensor, mask: Tensor, note: Note | None = None) -> Tensor:
        shown = self.norm(tiles)
        tiles = tiles + self.attention(shown, shown, mask, note)
        return tiles + self.feed(tiles)


#: Option ``mil`` -> what builds the encoder from the statistics of ``fit_dense``.
BAGS: dict[str, Callable[[dict[str, Any]], BagEncoder]] = {
    "abmil": AttentionBag,
    "clam": ClusteredBag,
    "transformer": TransformerBag,
}
