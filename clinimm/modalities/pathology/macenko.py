"""Stain vectors after Macenko et al., "A method for normalizing histology slides for quantitative
analysis", ISBI 2009: the extreme directions in the plane that holds most of the optical density."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from clinimm.modalities.pathology.stain_space import StainFailureError, in_order

#: Percentile of the directions that counts as their extreme, for both ends: robust to dirt.
_EXTREME = 1.0


def macenko_vectors(density: Float[np.ndarray, "pixel 3"]) -> Float[np.ndarray, "stain=2 3"]:
    """Unit vectors of both stains, haematoxylin first.

    Args:
        density: optical densities of stained pixels.

    Raises:
        StainFailureError: ``no-solution`` or ``not-finite``, there is no such plane.
    """
    try:
        _, axes = np.linalg.eigh(np.cov(density, rowvar=False))
    except np.linalg.LinAlgError as error:
        raise StainFailureError("no-solution", f"the eigenvectors were not found: {error}") from error
    plane = axes[:, :0:-1]  # (3, 2), the two largest
    plane = plane * np.where(plane.sum(axis=0) < 0, -1.0, 1.0)  # the same signs in every LAPACK
    flat = density @ plane
    angle = np.arctan2(flat[:, 1], flat[:, 0])
    ends = np.percentile(angle, (_EXTREME, 100 - _EXTREME))
    vectors = np.stack([np.cos(ends), np.sin(ends)], axis=1) @ plane.T
    # A stain adds density: what lies just below zero is noise.
    return in_order(np.maximum(vectors, 0.0))
