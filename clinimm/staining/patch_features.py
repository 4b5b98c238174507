"""Features of image patches, for distances between sets of them (FID and KID)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clinimm.staining.image_metrics import Features
from clinimm.staining.optical import Mask, Rgb

#: Side of a patch: the network has a stride of 32.
PATCH = 96
_AT_ONCE = 64


def cut_patches(images: Sequence[Rgb], valid: Sequence[Mask], patch: int = PATCH) -> list[Rgb]:
    """Squares side by side of which every pixel is valid; none overlaps another."""
    kept = []
    for image, mask in zip(images, valid, strict=True):
        for row in range(0, image.shape[0] - patch + 1, patch):
            for column in range(0, image.shape[1] - patch + 1, patch):
                place = (slice(row, row + patch), slice(column, column + patch))
                if mask[place].all():
                    kept.append(image[place])
    return kept


def patch_features(patches: Sequence[Rgb]) -> Features:
    """Mean of EfficientNet-Lite0's last feature map over each patch, (patch, 1280) float64.

    Raises:
        MissingExtraError: the packages that carry the network are absent.
    """
    from clinimm.nn.image import load_image_encoder

    if not patches:
        return np.zeros((0, 0))
    encoder = load_image_encoder(None, size=patches[0].shape[0])
    parts = []
    for start in range(0, len(patches), _AT_ONCE):
        batch = np.stack(patches[start : start + _AT_ONCE]).transpose(0, 3, 1, 2).astype(np.float32) / 255
        parts.append(encoder.features(batch).astype(np.float64).mean(axis=(2, 3)))
    return np.concatenate(parts)
