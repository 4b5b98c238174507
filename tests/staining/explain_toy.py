"""A stainer whose explanation is known, and what it is asked about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional as F

from clinimm.nn.tokens import Batch, Tokens
from clinimm.staining.optical import DAB
from clinimm.staining.region_view import Region

RESOLUTION_UM = 0.5
REGION = Region(40, 24, 16, 16)
GROUND, GAIN, PRESENCE = 0.3, 0.4, 0.05


@dataclass
class DabToy:
    """Adds DAB where the source is dark, and a little for every fact: linear in both, or bent.

    Its amount of DAB at a pixel is ``ground + gain * mean darkness over 9 × 9 pixels + facts``.
    """

    bent: float = 1.0
    halo: int = 8
    stride: int = 8

    def colour(self, image: Tensor, record: Batch, origin: tuple[int, int]) -> Tensor:
        darkness = 1 - image.mean(dim=1, keepdim=True)
        amount = GROUND + GAIN * F.avg_pool2d(darkness, 9, 1, 4) ** self.bent
        for tokens in record.values():
            facts = (tokens.values * tokens.mask[..., None]).sum(dim=(1, 2)) + PRESENCE * tokens.present
            amount = amount + facts[:, None, None, None]
        brown = torch.tensor(DAB) / torch.tensor(DAB).norm()
        return 10.0 ** -(amount * brown[None, :, None, None])

    def baseline(self, record: Batch) -> Batch:
        return {name: tokens.with_values(torch.zeros_like(tokens.values)) for name, tokens in record.items()}


def draw_source(seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return gaussian_filter(generator.uniform(60, 240, (96, 96, 3)), (2, 2, 0)).astype(np.uint8)


def draw_record() -> Batch:
    values = torch.tensor([[[0.02, 0.01], [-0.01, 0.0], [9.0, 9.0]]])
    mask = torch.tensor([[True, True, False]])
    return {"ehr": Tokens(values, mask, torch.zeros(1, 3))}
