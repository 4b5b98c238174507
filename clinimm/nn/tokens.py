"""Tokens: the one thing that encoders give and fusions take."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Tokens:
    """A padded batch of token sequences of one modality.

    A subject without the modality has a row whose mask is all False: zero tokens (law 3).

    Attributes:
        values: (batch, token, dim).
        mask: (batch, token), True where the token is real.
        time: (batch, token), hours before the index time, 0 or more.
        kind: (batch, token), which sort of fact a token is, where its encoder tells sorts apart.
            It names, it is not a quantity: attributions change ``values`` and leave it alone.
    """

    values: Float[Tensor, "batch token dim"]
    mask: Bool[Tensor, "batch token"]
    time: Float[Tensor, "batch token"]
    kind: Int[Tensor, "batch token"] | None = None

    def __len__(self) -> int:
        return self.values.shape[0]

    @property
    def dim(self) -> int:
        """Length of one token."""
        return self.values.shape[2]

    @property
    def present(self) -> Bool[Tensor, " batch"]:
        """True for the subjects that have at least one token."""
        return self.mask.any(dim=1)

    @property
    def repeated(self) -> bool:
        """Whether all rows are the one that ``expand`` was given, so that work on it need be done once."""
        return len(self) > 1 and self.values.stride(0) == 0 and self.time.stride(0) == 0

    def with_values(self, values: Float[Tensor, "batch token other"]) -> Tokens:
        """The same tokens with other values."""
        return replace(self, values=values)

    def with_mask(self, mask: Bool[Tensor, "batch token"]) -> Tokens:
        """The same tokens, some of them hidden."""
        return replace(self, mask=mask)

    def to(self, device: torch.device | str) -> Tokens:
        """The same tokens on another device."""
        kind = None if self.kind is None else self.kind.to(device)
        return Tokens(self.values.to(device), self.mask.to(device), self.time.to(device), kind)

    def row(self, subject: int) -> Tokens:
        """The tokens of one subject of the batch, without the padding at their end."""
        real = self.mask[subject].nonzero()
        stop = int(real[-1]) + 1 if len(real) else 1
        part = (slice(subject, subject + 1), slice(stop))
        kind = None if self.kind is None else self.kind[part]
        return Tokens(self.values[part], self.mask[part], self.time[part], kind)

    def expand(self, rows: int) -> Tokens:
        """The tokens of one subject as a batch of ``rows`` equal ones."""
        kind = None if self.kind is None else self.kind.expand(rows, -1)
        return Tokens(
            self.values.expand(rows, -1, -1), self.mask.expand(rows, -1), self.time.expand(rows, -1), kind
        )


#: Modality name -> its tokens; a modality that no subject of the batch has may be left out.
Batch = dict[str, Tokens]
