import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from clinimm.simulate.slide import NUCLEI_PER_MM2, Slide, plan_slide, render_slide


def _slide(seed: int, dense: bool) -> Slide:
    return render_slide(plan_slide(dense, 512, np.random.default_rng(seed)))


def test_the_same_plan_draws_the_same_slide():
    assert np.array_equal(_slide(0, True).rgb, _slide(0, True).rgb)


@pytest.mark.parametrize("dense", [False, True])
def test_density_is_as_promised(dense: bool):
    density = np.mean(
        [slide.nuclei / slide.tissue_mm2 for slide in (_slide(seed, dense) for seed in range(6))]
    )
    assert density == pytest.approx(NUCLEI_PER_MM2[dense], rel=0.15)


def test_nuclei_can_be_counted_in_the_pixels():
    """Dark blobs of the rendered image, counted by scipy, are the nuclei that were placed."""
    slide = _slide(1, dense=False)
    red = ndimage.gaussian_filter(slide.rgb[..., 0].astype(float), 1)
    _, count = ndimage.label(red < 130)
    assert count == pytest.approx(slide.nuclei, rel=0.25)


def test_dark_pixels_tell_crowded_from_sparse():
    slides = [(seed % 2, _slide(seed, bool(seed % 2))) for seed in range(16)]
    dark = [(slide.rgb[..., 0] < 120).mean() for _, slide in slides]
    assert roc_auc_score([label for label, _ in slides], dark) == 1.0


def test_the_background_is_white_and_the_tissue_pink():
    rgb = _slide(2, dense=False).rgb.reshape(-1, 3).astype(int)
    background = rgb.min(axis=1) > 235
    assert 0.05 < background.mean() < 0.4
    red, green, blue = np.median(rgb[rgb[:, 1] < 200], axis=0)
    assert red > blue > green
