"""Patches and their features."""

from __future__ import annotations

import numpy as np
from skimage.data import astronaut

from clinimm.staining.patch_features import cut_patches, patch_features

REAL = astronaut()[100:260, 150:330]


def test_patches_are_whole_and_their_features_tell_images_apart() -> None:
    valid = np.ones(REAL.shape[:2], dtype=bool)
    valid[150, 10] = False
    patches = cut_patches([REAL], [valid], 64)
    assert len(patches) == 4
    assert all(patch.shape == (64, 64, 3) for patch in patches)
    assert len(cut_patches([REAL], [~valid], 64)) == 0
    features = patch_features([*patches, np.zeros_like(patches[0])])
    assert features.shape == (5, 1280)
    assert np.abs(features[0] - features[4]).max() > 0.1
