"""The trainable end of a modality: raw tokens in, tokens for the fusion out."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from clinimm.nn.tokens import Tokens


class TokenEncoder(nn.Module):
    """Base of what ``Modality.build_encoder`` returns.

    The work is in two steps so that explanations have a place to start: ``embed`` acts on each
    raw token alone and its output is what attributions are computed for; ``forward`` may mix
    tokens. One raw token may become several (``cells``), such as the cells of a feature map.

    Attributes:
        dim: length of the tokens that ``forward`` returns.
        cells: how many embedded tokens one raw token becomes, next to each other and in order.
    """

    dim: int
    cells: int = 1

    def embed(self, raw: Tokens) -> Tokens:
        """Embed each raw token alone: (batch, row, raw) -> (batch, row * cells, embedded)."""
        return raw

    def forward(self, embedded: Tokens) -> Tokens:
        """Contextualise: (batch, token, embedded) -> (batch, token, dim)."""
        return embedded

    def baseline(self, embedded: Tokens) -> Tensor:
        """What an uninformative token looks like, shaped as ``embedded.values``.

        Zero by default, which is the average token wherever ``embed`` standardises.
        """
        return embedded.values.new_zeros(embedded.values.shape)

    def pretrained(self) -> Iterator[nn.Parameter]:
        """Parameters that came trained, and so learn at ``train.encoder_learning_rate``."""
        return iter(())
