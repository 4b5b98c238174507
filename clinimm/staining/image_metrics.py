"""How alike a virtual and a real image look: PSNR, SSIM, and distances between sets of patches.

Looking alike is not being right (see ``biology.py``); these figures are shown beside the biology,
never instead of it. Only pixels where the pair is ``valid`` count. Features of patches come from
``patch_features.py``, the only file of these that needs torch.

Sources: Wang et al. 2004 (SSIM); Heusel et al. 2017 (FID); Binkowski et al. 2018 (KID). The features
are those of EfficientNet-Lite0 with ImageNet weights, so FID and KID compare methods with each
other here, and not with figures that others made on Inception features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import linalg, ndimage
from scipy.stats import t

from clinimm.staining.agreement import LEVEL, Figure, unknown
from clinimm.staining.optical import Mask, Rgb

Features = Float[np.ndarray, "patch feature"]

_SIGMA, _TRUNCATE = 1.5, 3.5
_RADIUS = int(_TRUNCATE * _SIGMA + 0.5)
_K1, _K2 = 0.01, 0.03
_PEAK = 255.0
_FEWEST_IN_BLOCK = 10
_FEWEST_BLOCKS = 4


@dataclass(frozen=True)
class SetDistance:
    """Distance between the virtual and the real patches of a stain.

    Attributes:
        fid, kid: each with its interval where there is one; ``n`` is patches on each side.
    """

    fid: Figure
    kid: Figure


def psnr(real: Rgb, virtual: Rgb, valid: Mask) -> float:
    """Peak signal-to-noise ratio in dB over valid pixels; infinite where equal, NaN without a pixel."""
    if not valid.any():
        return math.nan
    error = float(np.mean((real[valid].astype(np.float64) - virtual[valid]) ** 2))
    return 10 * math.log10(_PEAK**2 / error) if error > 0 else math.inf


def ssim(real: Rgb, virtual: Rgb, valid: Mask) -> float:
    """Structural similarity, mean over channels and over pixels whose whole window is valid.

    Gaussian window of deviation 1.5 pixels, population covariance, as Wang et al. prescribe; windows
    that leave the image do not count. NaN where none is left.
    """
    whole = ndimage.minimum_filter(valid, size=2 * _RADIUS + 1, mode="constant", cval=False)
    if not whole.any():
        return math.nan
    similar = [_ssim_map(real[..., c], virtual[..., c])[whole].mean(dtype=np.float64) for c in range(3)]
    return float(np.mean(similar))


def _ssim_map(real: np.ndarray, virtual: np.ndarray) -> Float[np.ndarray, "row column"]:
    first, second = real.astype(np.float32), virtual.astype(np.float32)

    def mean(plane: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(plane, _SIGMA, truncate=_TRUNCATE)

    mean_1, mean_2 = mean(first), mean(second)
    variance_1, variance_2 = mean(first**2) - mean_1**2, mean(second**2) - mean_2**2
    covariance = mean(first * second) - mean_1 * mean_2
    c_1, c_2 = (_K1 * _PEAK) ** 2, (_K2 * _PEAK) ** 2
    top = (2 * mean_1 * mean_2 + c_1) * (2 * covariance + c_2)
    return top / ((mean_1**2 + mean_2**2 + c_1) * (variance_1 + variance_2 + c_2))


def set_distance(real: Features, virtual: Features, seed: int = 0, level: float = LEVEL) -> SetDistance:
    """FID and KID between two sets of features."""
    return SetDistance(frechet_distance(real, virtual), kernel_distance(real, virtual, seed, level))


def frechet_distance(real: Features, virtual: Features) -> Figure:
    """Fréchet distance between normal laws fitted to both sets (Dowson and Landau 1982); no interval.

    Refused where there are not more patches than features: the covariance is then singular and the
    distance is bias for the most part.
    """
    n, size = min(len(real), len(virtual)), real.shape[1] if real.ndim == 2 else 0
    if n <= size or n < 2:
        reason = f"{n} patches are too few for the covariance of {size} features; more than {size} are needed"
        return unknown(n, reason)
    shift = real.mean(axis=0) - virtual.mean(axis=0)
    first, second = np.cov(real, rowvar=False), np.cov(virtual, rowvar=False)
    # trace(sqrt(A B)) is the sum of roots of eigenvalues of sqrt(A) B sqrt(A), which is symmetric.
    values, vectors = linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    joint = np.sqrt(np.maximum(linalg.eigvalsh(root @ second @ root), 0)).sum()
    value = float(shift @ shift + np.trace(first) + np.trace(second) - 2 * joint)
    return unknown(n, "an interval would need more than one set of patches", value=value)


def kernel_distance(real: Features, virtual: Features, seed: int = 0, level: float = LEVEL) -> Figure:
    """Kernel distance: the unbiased squared mean discrepancy under ((x·y)/features + 1)³.

    The interval comes from the variance between disjoint blocks of patches (Zaremba et al. 2013): it
    speaks of more patches from these subjects, not of other subjects. Unbiased, so it may be
    negative where both sets are alike.
    """
    n = min(len(real), len(virtual))
    if n < 2:
        return unknown(n, f"{n} patches are too few")
    value = mean_discrepancy(real, virtual)
    blocks = min(10, n // _FEWEST_IN_BLOCK)
    if blocks < _FEWEST_BLOCKS:
        needed = _FEWEST_BLOCKS * _FEWEST_IN_BLOCK
        return unknown(n, f"{n} patches are too few for an interval, which needs {needed}", value=value)
    generator = np.random.default_rng(seed)
    first = np.array_split(generator.permutation(len(real)), blocks)
    second = np.array_split(generator.permutation(len(virtual)), blocks)
    parts = [mean_discrepancy(real[a], virtual[b]) for a, b in zip(first, second, strict=True)]
    half = float(t.ppf(0.5 + level / 2, blocks - 1) * np.std(parts, ddof=1) / math.sqrt(blocks))
    return Figure(value, value - half, value + half, n)


def mean_discrepancy(first: Features, second: Features) -> float:
    """Unbiased squared maximum mean discrepancy under KID's cubic kernel (Gretton et al. 2012, eq. 3)."""
    size = first.shape[1]

    def kernel(left: Features, right: Features) -> Float[np.ndarray, "left right"]:
        return (left @ right.T / size + 1) ** 3

    def within(one: Features) -> float:
        gram, n = kernel(one, one), len(one)
        return float((gram.sum() - np.trace(gram)) / (n * (n - 1)))

    return within(first) + within(second) - 2 * float(kernel(first, second).mean())
