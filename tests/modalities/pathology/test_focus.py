"""Focus: the measure is scikit-image's, block by block, and tells drawn blur from sharp tissue."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image
from scipy import ndimage

from clinimm.modalities.pathology.focus import BLOCK, BLURRED, blur
from clinimm.simulate.slide import plan_slide, render_slide


@cache
def tissue(seed: int, pixels: int = 768) -> np.ndarray:
    """A simulated slide at 1 µm a pixel."""
    rgb = render_slide(plan_slide(seed % 2 == 0, 2 * pixels, np.random.default_rng(seed))).rgb
    return np.asarray(Image.fromarray(rgb).resize((pixels, pixels), Image.Resampling.BOX))


def defocused(picture: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    """Out of focus by a Gaussian, then the sensor's noise."""
    noise = np.random.default_rng(seed).normal(0, 1.5, picture.shape)
    soft = ndimage.gaussian_filter(picture.astype(np.float32), (sigma, sigma, 0)) if sigma else picture
    return np.clip(soft + noise, 0, 255).astype(np.uint8)


def test_a_whole_picture_agrees_with_scikit_image() -> None:
    from skimage.measure import blur_effect

    picture = tissue(0)[:256, :256]
    for sigma in (0.0, 2.0, 4.0):
        soft = defocused(picture, sigma)
        grey = ndimage.gaussian_filter(soft.astype(np.float32).mean(-1) / 255, 0.7)
        # scikit-image leaves out a rim of two pixels, and clips nothing else.
        assert abs(float(blur(soft, 256)[0, 0]) - blur_effect(grey, h_size=11)) < 0.02


def test_drawn_blur_is_told_from_sharp_tissue() -> None:
    found: dict[float, list[np.ndarray]] = {}
    for seed in range(3):
        picture = tissue(seed)
        stained = (picture.min(-1) < 225).reshape(12, BLOCK, 12, BLOCK).mean((1, 3)) > 0.5
        for sigma in (0.0, 2.0, 3.0, 4.0, 6.0):
            judged = blur(defocused(picture, sigma))
            found.setdefault(sigma, []).append(~(judged <= BLURRED)[stained])
    rates = {sigma: float(np.concatenate(parts).mean()) for sigma, parts in found.items()}
    print("called blurred, by sigma in µm:", {sigma: round(rate, 3) for sigma, rate in rates.items()},
          f"n = {sum(map(len, found[0.0]))} blocks of 3 slides")  # fmt: skip
    assert rates[0.0] < 0.05
    assert rates[3.0] > 0.9
    assert rates[4.0] > 0.97 and rates[6.0] > 0.97


def test_faint_tissue_is_judged_like_strong_tissue_and_glass_is_not_judged() -> None:
    picture = tissue(1)[:256, :256]
    faint = np.rint(245 - (245 - picture.astype(float)) * 0.4).astype(np.uint8)
    np.testing.assert_allclose(blur(faint), blur(picture), atol=0.08)
    assert np.isnan(blur(np.full((128, 200, 3), 240, np.uint8))).all()
    assert blur(np.full((128, 200, 3), 240, np.uint8)).shape == (2, 3)
