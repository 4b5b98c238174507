"""Whether two clouds of vectors differ at all: maximum mean discrepancy with a permutation null.

Gretton et al. (JMLR 2012), the unbiased estimate, with the mean of three Gaussian kernels around the median
distance so that no single scale has to be right. Everything that is fitted (spread, median) is fitted to
both samples together, so the permutation test is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

_SCALES = (0.25, 1.0, 4.0)
_AT_ONCE = 100


@dataclass(frozen=True)
class Discrepancy:
    """The result.

    Attributes:
        value: MMD squared, unbiased: around 0 (also below it) where nothing differs.
        p_value: share of permutations that differ at least as much.
        n, reference_n: vectors that were compared.
    """

    value: float
    p_value: float
    n: int
    reference_n: int


def discrepancy(
    reference: Float[ndarray, "left dim"],
    now: Float[ndarray, "right dim"],
    permutations: int,
    seed: int,
    most: int = 800,
) -> Discrepancy:
    """Compare two samples of vectors.

    Args:
        reference, now: a row a subject; NaN counts as the mean of both.
        permutations: draws of the null distribution.
        seed: of the permutations, and of who is drawn where a sample is larger than ``most``.
        most: rows of each side that are compared; the cost grows with its square.
    """
    generator = np.random.default_rng(seed)
    left, right = _at_most(reference, most, generator), _at_most(now, most, generator)
    kernel = _kernel(_placed(np.concatenate([left, right])))
    current = np.arange(len(kernel)) >= len(left)
    value = _squared(kernel, current[None])[0]
    as_large = 0
    for start in range(0, permutations, _AT_ONCE):
        count = min(_AT_ONCE, permutations - start)
        drawn = generator.permuted(np.tile(current, (count, 1)), axis=1)
        as_large += int((_squared(kernel, drawn) >= value - 1e-12).sum())
    return Discrepancy(float(value), (1 + as_large) / (1 + permutations), len(right), len(left))


def _at_most(rows: ndarray, most: int, generator: np.random.Generator) -> Float[ndarray, "row dim"]:
    if len(rows) <= most:
        return np.asarray(rows, dtype=float)
    return np.asarray(rows[np.sort(generator.choice(len(rows), most, replace=False))], dtype=float)


def _placed(rows: Float[ndarray, "row dim"]) -> Float[ndarray, "row dim"]:
    """In standard deviations of both samples; columns that do not vary say nothing."""
    rows = rows[:, ~np.isnan(rows).all(axis=0)]
    spread = np.nanstd(rows, axis=0)
    rows, spread = rows[:, spread > 0], spread[spread > 0]
    return np.nan_to_num((rows - np.nanmean(rows, axis=0)) / spread)


def _kernel(rows: Float[ndarray, "row dim"]) -> Float[ndarray, "row row"]:
    size = (rows**2).sum(axis=1)
    apart = np.maximum(size[:, None] + size[None] - 2 * rows @ rows.T, 0)
    median = np.median(apart[np.triu_indices(len(rows), 1)]) or 1.0
    kernel = np.mean([np.exp(-apart / (scale * median)) for scale in _SCALES], axis=0)
    np.fill_diagonal(kernel, 0.0)
    return kernel


def _squared(kernel: Float[ndarray, "row row"], current: ndarray) -> Float[ndarray, " draw"]:
    """Unbiased MMD squared of each division into two samples (a row of ``current``)."""
    now = current.astype(float)
    inside = ((now @ kernel) * now).sum(axis=1)
    of_now = now @ kernel.sum(axis=1)
    n = now.sum(axis=1)
    m = len(kernel) - n
    outside = kernel.sum() - 2 * of_now + inside
    return inside / (n * (n - 1)) + outside / (m * (m - 1)) - 2 * (of_now - inside) / (n * m)
