"""CUT's projector: a place must look like itself in source and stain. Used in training only.

Park et al., "Contrastive learning for unpaired image-to-image translation" (ECCV 2020).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

_WIDTH = 64
PLACES = 64  # places of an image that are compared with each other, a level


class PatchProjector(nn.Module):
    """A small network a level, from an encoder's maps to unit vectors of a few places.

    Args:
        widths: channels of the levels.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(nn.Linear(width, _WIDTH), nn.ReLU(inplace=True), nn.Linear(_WIDTH, _WIDTH))
            for width in widths
        )

    def draw(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Which places to compare: indices into each level's positions, the same for both images."""
        return [torch.randperm(level.shape[2] * level.shape[3])[:PLACES] for level in maps]

    def forward(
        self, maps: Sequence[Tensor], places: Sequence[Tensor]
    ) -> list[Float[Tensor, "batch place width"]]:
        """Unit vectors of the drawn places, a tensor a level."""
        found = []
        for level, values, chosen in zip(self.levels, maps, places, strict=True):
            picked = values.flatten(2)[:, :, chosen].transpose(1, 2)  # (batch, place, channel)
            found.append(F.normalize(level(picked), dim=2))
        return found
