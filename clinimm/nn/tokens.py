"""Tokens: the one thing that encoders give and fusions take."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Tokens:
    """A padded batch of token sequences of one modality.

    A subject without the modality has a row whose mask is all False: zero tokens (law 3).

    Attributes:
        values: (batch, token, dim).
        mask: (batch, token), True where the token is real.
        time: (batch, token), hours before the index time, 0 or more.
    """

    values: Float[Tensor, "batch token dim"]
    mask: Bool[Tensor, "batch token"]
    time: Float[Tensor, "batch token"]

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

    def with_values(self, values: Float[Tensor, "batch token other"]) -> Tokens:
        """The same tokens with other values."""
        return replace(self, values=values)

    def with_mask(self, mask: Bool[Tensor, "batch token"]) -> Tokens:
        """The same tokens, some of them hidden."""
        return replace(self, mask=mask)

    def to(self, device: torch.device | str) -> Tokens:
        """The same tokens on another device."""
        return Tokens(self.values.to(device), self.mask.to(device), self.time.to(device))


#: Modality name -> its tokens; a modality that no subject of the batch has may be left out.
Batch = dict[str, Tokens]
