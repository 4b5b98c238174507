"""The trainable end of a modality: raw tokens in, tokens for the fusion out."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clinimm.core.errors import ModelError
from clinimm.nn.tokens import Tokens


class TokenEncoder(nn.Module):
    """Base of what ``Modality.build_encoder`` returns.

    The work is in two steps so that explanations have a place to start: ``embed`` acts on each
    raw token alone and its output is what attributions are computed for; ``forward`` may mix
    tokens. One raw token may become several (``cells``), such as the cells of a feature map.

    Attributes:
        dim: length of the tokens that ``forward`` returns.
        cells: how many embedded tokens one raw token becomes, next to each other and in order.
        sparse_summary: each feature of ``summarise`` is a fact of its own and most tell nothing,
            rather than all of them a little. Evidence is then looked for in few of them.
        pools: ``forward`` gives tokens of its own making, in whatever number, rather than one for
            each that it was given; so hiding one of them hides none of those.
        baseline_words: what ``baseline`` gives, for people.
    """

    dim: int
    cells: int = 1
    sparse_summary: bool = False
    pools: bool = False
    baseline_words: str = "the average training token"

    def embed(self, raw: Tokens) -> Tokens:
        """Embed each raw token alone: (batch, row, raw) -> (batch, row * cells, embedded)."""
        return raw

    def forward(self, embedded: Tokens) -> Tokens:
        """Contextualise: (batch, token, embedded) -> (batch, token, dim)."""
        return embedded

    def summarise(self, embedded: Tokens) -> Float[Tensor, "batch feature"]:
        """A subject's tokens as one vector, linear in ``embedded.values``: here their mean.

        A linear model on it is the modality's first evidence (``nn.evidence.Probe``).
        """
        share = embedded.mask.unsqueeze(-1).to(embedded.values.dtype)
        if embedded.repeated:  # one subject with ever other tokens hidden
            return share.squeeze(-1) @ embedded.values[0] / share.sum(1).clamp(min=1)
        return (embedded.values * share).sum(1) / share.sum(1).clamp(min=1)

    def baseline(self, embedded: Tokens) -> Tensor:
        """What an uninformative token looks like, shaped as ``embedded.values``.

        Zero by default, which is the average token wherever ``embed`` standardises.
        """
        return embedded.values.new_zeros(embedded.values.shape)

    def reading(self, embedded: Tokens) -> Float[Tensor, "batch token embedded"]:
        """Which embedded tokens each token of ``forward`` stands for; rows of real tokens sum to one.

        Here each stands for the one in its place: what layers of the encoder mix in is left out. An
        encoder that ``pools`` says which tokens it read.

        Raises:
            ModelError: the encoder pools and does not say.
        """
        if self.pools:
            raise ModelError(f"{type(self).__name__} pools its tokens and does not say which it read.")
        return torch.diag_embed(embedded.mask.to(embedded.values.dtype))

    def expect(self, classes: int) -> None:
        """Told, before training and before loading, how many logits the task has: here no matter."""

    def auxiliary_loss(self, embedded: Tokens, target: Float[Tensor, "batch cls"]) -> Tensor | None:
        """A loss of the encoder's own that training adds to the task's; none by default.

        Args:
            embedded: of ``embed``.
            target: (batch, class) 0 or 1, NaN where unknown.
        """
        return None

    def pretrained(self) -> Iterator[nn.Parameter]:
        """Parameters that came trained, and so learn at ``train.encoder_learning_rate``."""
        return iter(())


def summary_size(encoder: TokenEncoder, raw_dim: int) -> int:
    """Length of what ``summarise`` gives, found with one empty token."""
    nothing = Tokens(torch.zeros(1, 1, raw_dim), torch.ones(1, 1).bool(), torch.zeros(1, 1))
    size = encoder.eval().summarise(encoder.embed(nothing)).shape[1]
    encoder.train()
    return size
