"""Distances between images as a network sees them that has learned from photographs.

Johnson et al., "Perceptual losses" (ECCV 2016), on the frozen first blocks of EfficientNet-Lite0,
which a pip package carries (``nn/image.py``).
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from clinimm.nn.image import load_lite0

_FINE_TUNED = 11  # blocks that are left off: the first five are kept, down to an eighth
_TAPS = (4, 6, 8)  # modules of the trunk whose output is compared: a half, a quarter, an eighth
_SMALLEST = 1e-3


class Perception:
    """Frozen features of images; not a module, for it is nobody's to save or to train.

    Raises:
        MissingExtraError: the packages that carry the weights are absent.
    """

    def __init__(self) -> None:
        trunk = load_lite0(_FINE_TUNED, size=32).trunk
        assert isinstance(trunk, nn.Sequential)
        self._modules = list(trunk)

    def features(self, image: Float[Tensor, "batch 3 row column"]) -> list[Tensor]:
        """Maps at a half, a quarter and an eighth of the resolution."""
        found = []
        x = image
        for index, module in enumerate(self._modules):
            x = module(x)
            if index in _TAPS:
                found.append(x)
        return found

    def distance(
        self,
        made: Float[Tensor, "batch 3 row column"],
        real: Float[Tensor, "batch 3 row column"],
        known: Bool[Tensor, "batch row column"],
    ) -> Float[Tensor, ""]:
        """Mean absolute difference of features where ``known``, as a share of their size."""
        total = made.new_zeros(())
        for ours, theirs in zip(self.features(made), self.features(real.detach()), strict=True):
            # A feature counts where all pixels under its cell are known.
            unknown = F.adaptive_max_pool2d((~known).float()[:, None], ours.shape[2:])
            weight = (1 - unknown).expand_as(ours)
            size = (theirs.abs() * weight).sum().clamp(min=_SMALLEST)
            total = total + ((ours - theirs).abs() * weight).sum() / size
        return total / len(_TAPS)

    def style_distance(
        self, made: Float[Tensor, "batch 3 row column"], real: Float[Tensor, "other 3 row column"]
    ) -> Float[Tensor, ""]:
        """How different two sets of images look that show different places.

        Mean absolute difference of each feature's mean and deviation, as a share of the deviation;
        what unpaired training watches, for it has no truth a pixel.
        """
        total = made.new_zeros(())
        for ours, theirs in zip(self.features(made), self.features(real), strict=True):
            scale = theirs.std((0, 2, 3)).clamp(min=_SMALLEST)
            means = (ours.mean((0, 2, 3)) - theirs.mean((0, 2, 3))).abs() / scale
            deviations = (ours.std((0, 2, 3)) - theirs.std((0, 2, 3))).abs() / scale
            total = total + (means + deviations).mean()
        return total / len(_TAPS)
