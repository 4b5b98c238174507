"""Likeness of images, against scikit-image and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import linalg
from skimage.data import astronaut
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from clinimm.staining import image_metrics as metrics

GENERATOR = np.random.default_rng(0)
REAL = astronaut()[100:260, 150:330]
VIRTUAL = np.clip(REAL + GENERATOR.normal(0, 20, REAL.shape), 0, 255).astype(np.uint8)
EVERYWHERE = np.ones(REAL.shape[:2], dtype=bool)


def test_psnr_and_ssim_are_scikit_images() -> None:
    assert metrics.psnr(REAL, VIRTUAL, EVERYWHERE) == pytest.approx(peak_signal_noise_ratio(REAL, VIRTUAL))
    theirs = structural_similarity(
        REAL, VIRTUAL, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert metrics.ssim(REAL, VIRTUAL, EVERYWHERE) == pytest.approx(theirs, abs=1e-4)


def test_what_is_not_valid_changes_nothing() -> None:
    valid = EVERYWHERE.copy()
    valid[:, 90:] = False
    spoiled = VIRTUAL.copy()
    spoiled[:, 90:] = 0
    assert metrics.psnr(REAL, spoiled, valid) == metrics.psnr(REAL, VIRTUAL, valid)
    assert metrics.ssim(REAL, spoiled, valid) == pytest.approx(metrics.ssim(REAL, VIRTUAL, valid), abs=1e-6)
    cut = (slice(None), slice(0, 90))
    assert metrics.ssim(REAL, VIRTUAL, valid) == pytest.approx(
        metrics.ssim(REAL[cut], VIRTUAL[cut], EVERYWHERE[cut]), abs=1e-6
    )


def test_equal_and_empty_images_have_no_finite_figure() -> None:
    assert math.isinf(metrics.psnr(REAL, REAL, EVERYWHERE))
    assert metrics.ssim(REAL, REAL, EVERYWHERE) == pytest.approx(1)
    assert math.isnan(metrics.psnr(REAL, VIRTUAL, ~EVERYWHERE))
    assert math.isnan(metrics.ssim(REAL, VIRTUAL, ~EVERYWHERE))


def test_frechet_distance_is_the_formula_with_a_matrix_root() -> None:
    first = GENERATOR.normal(size=(200, 5))
    second = GENERATOR.normal(size=(220, 5)) @ np.diag([1, 2, 1, 1, 0.5]) + 0.3
    a, b = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    shift = first.mean(axis=0) - second.mean(axis=0)
    expected = shift @ shift + np.trace(a + b - 2 * np.real(linalg.sqrtm(a @ b)))
    found = metrics.frechet_distance(first, second)
    assert found.value == pytest.approx(expected)
    assert (found.n, math.isnan(found.low)) == (200, True)


def test_frechet_distance_is_refused_where_the_covariance_is_singular() -> None:
    found = metrics.frechet_distance(GENERATOR.normal(size=(40, 64)), GENERATOR.normal(size=(40, 64)))
    assert math.isnan(found.value)
    assert "40 patches are too few" in found.reason


def test_kernel_distance_is_the_double_sum() -> None:
    first, second = GENERATOR.normal(size=(7, 3)), GENERATOR.normal(size=(6, 3)) + 1

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 3 + 1) ** 3)

    within = sum(kernel(first[i], first[j]) for i in range(7) for j in range(7) if i != j) / 42
    other = sum(kernel(second[i], second[j]) for i in range(6) for j in range(6) if i != j) / 30
    across = sum(kernel(x, y) for x in first for y in second) / 42
    assert metrics.mean_discrepancy(first, second) == pytest.approx(within + other - 2 * across)


def test_kernel_distance_is_unbiased_and_sees_a_difference() -> None:
    same = [
        metrics.kernel_distance(*np.random.default_rng(seed).normal(size=(2, 60, 4))).value
        for seed in range(60)
    ]
    assert abs(np.mean(same)) < 3 * np.std(same) / math.sqrt(60)
    far = metrics.kernel_distance(GENERATOR.normal(size=(60, 4)), GENERATOR.normal(size=(60, 4)) + 1)
    assert far.low > 0
    few = metrics.kernel_distance(GENERATOR.normal(size=(12, 4)), GENERATOR.normal(size=(12, 4)))
    assert math.isnan(few.low)
    assert "12 patches" in few.reason
