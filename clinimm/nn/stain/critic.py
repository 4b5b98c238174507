"""PatchGAN: is this patch a real stain? Used in training only (Isola et al., CVPR 2017)."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn

_WIDTHS = (24, 48, 96)


class PatchCritic(nn.Module):
    """An image, or source and image on top of each other, -> a score a patch of 22 pixels.

    The stain token enters by projection (Miyato and Koyama, 2018): a patch may be a fine stain and
    the wrong one.

    Args:
        channels: 3 for an image, 6 for source and image together.
        stains: how many stains there are.
    """

    def __init__(self, channels: int, stains: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = channels
        for index, width in enumerate(_WIDTHS):
            stride = 2 if index < len(_WIDTHS) - 1 else 1
            layers.append(nn.Conv2d(before, width, 4, stride=stride, padding=1, bias=index == 0))
            if index:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            before = width
        self.body = nn.Sequential(*layers)
        self.score = nn.Conv2d(before, 1, 1)
        self.stain = nn.Embedding(stains, before)
        nn.init.normal_(self.stain.weight, std=0.02)

    def forward(
        self, image: Float[Tensor, "batch channel row column"], stain: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch 1 patch_row patch_column"]:
        """Towards 1 where it looks real, towards 0 where it looks made."""
        features = self.body(image)
        match = (features * self.stain(stain)[:, :, None, None]).sum(1, keepdim=True)
        return self.score(features) + match
