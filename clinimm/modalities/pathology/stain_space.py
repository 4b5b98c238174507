"""Optical density, and the two stains that span it.

By the Beer-Lambert law each stain adds its amount times its vector to the optical density of red,
green and blue (Ruifrok and Johnston, "Quantification of histochemical staining by color
deconvolution", Analytical and Quantitative Cytology and Histology 23, 2001).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

#: Unit vectors of haematoxylin and of eosin: QuPath's defaults, which the simulator draws with too.
HAEMATOXYLIN_EOSIN: Float[np.ndarray, "stain=2 3"] = np.array([[0.651, 0.701, 0.290], [0.216, 0.801, 0.558]])
#: Light that passes where there is nothing, when the slide does not show it.
WHITE: Float[np.ndarray, "3"] = np.array([245.0, 245.0, 245.0])

Pixels = UInt8[np.ndarray, "*place 3"]
Density = Float[np.ndarray, "*place 3"]


class StainFailureError(ValueError):
    """The stains of these pixels cannot be told.

    Attributes:
        code: ``few-pixels``, ``one-stain``, ``not-finite`` or ``no-solution``.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def optical_density(rgb: Pixels, white: Float[np.ndarray, "3"] = WHITE) -> Density:
    """``-log10(I / white)``; black counts as one grey level, brighter than white is negative.

    >>> optical_density(np.array([[245, 24, 245]], np.uint8)).round(2).tolist()
    [[0.0, 1.01, 0.0]]
    """
    table = np.log10(white / np.maximum(np.arange(256.0), 1)[:, None])  # (level, channel)
    return np.stack([table[rgb[..., channel], channel] for channel in range(3)], axis=-1)


def to_rgb(density: Density, white: Float[np.ndarray, "3"] = WHITE) -> Pixels:
    """The inverse of ``optical_density``, rounded and clipped."""
    return np.clip(np.rint(white * 10.0**-density), 0, 255).astype(np.uint8)


def amounts(
    density: Density, vectors: Float[np.ndarray, "stain=2 3"], sparsity: float = 0.0
) -> Float[np.ndarray, "*place 2"]:
    """Each stain's amount, none below zero: exact non-negative least squares for two stains.

    Args:
        density: of ``optical_density``.
        vectors: unit rows.
        sparsity: price of a unit of either amount beside half the squared error (lasso).
    """
    along = density @ vectors.T - sparsity  # the best amount of each stain if it were the only one
    cosine = float(vectors[0] @ vectors[1])
    free = (along - cosine * along[..., ::-1]) / (1 - cosine**2)
    # Where one of both would be negative, the optimum lies on an edge: the other stain alone.
    alone = np.maximum(along, 0.0)
    first, second = free[..., 0], free[..., 1]
    return np.stack(
        [
            np.where(second < 0, alone[..., 0], np.maximum(first, 0)),
            np.where(first < 0, alone[..., 1], np.maximum(second, 0)),
        ],
        axis=-1,
    )


def in_order(vectors: Float[np.ndarray, "stain=2 3"]) -> Float[np.ndarray, "stain=2 3"]:
    """Unit rows, haematoxylin first: of both stains it is the one that absorbs more red.

    Raises:
        StainFailureError: ``not-finite``, or ``one-stain`` where a row is zero.
    """
    if not np.isfinite(vectors).all():
        raise StainFailureError("not-finite", "a stain vector is not finite")
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (length > 1e-6).all():
        raise StainFailureError("one-stain", "one of both stain vectors is zero")
    unit = vectors / length
    return unit if unit[0, 0] >= unit[1, 0] else unit[::-1].copy()


def angle_degrees(one: Float[np.ndarray, "3"], other: Float[np.ndarray, "3"]) -> float:
    """The angle between two stain vectors."""
    cosine = one @ other / (np.linalg.norm(one) * np.linalg.norm(other))
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
