"""The first bend: cubic B-splines moved to the most mutual information, with SimpleITK.

A free-form deformation (Rueckert et al. 1999) looks at all pixels at once, so it also bends where no
single window could be judged, and it does not follow the few nuclei that a neighbouring section does
not share. Its control points are far apart, which keeps it smooth and lets small pictures do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float64

from clinimm.staining.coarse_search import Overview
from clinimm.staining.deformation import Deformation
from clinimm.staining.refine_linear import as_image, as_mask, mutual_information, one_thread

#: Least distance of control points, in micrometres (a few cells) and in pixels of the overview.
_LEAST_UM, _LEAST_PIXELS = 80.0, 48
#: Pixels along the longer side that are enough for control points so far apart.
_PIXELS = 128
#: Twice as many bring a tenth of a pixel, for twice the time.
_ITERATIONS = 15


def refine_b_spline(source: Overview, target: Overview, start: Deformation) -> Deformation:
    """``start``, a map without displacement, bent; it may fold, which the caller has to look at.

    Args:
        source, target: overviews at the same resolution.
        start: its affine part, and the nodes at which the result is kept.
    """
    import SimpleITK as sitk  # noqa: N813

    rows, columns = source.image.shape
    step = max(_LEAST_UM, _LEAST_PIXELS * source.resolution_um)
    mesh = [max(2, round(side * source.resolution_um / step)) for side in (columns, rows)]
    fixed = as_image(source)
    bend = sitk.BSplineTransformInitializer(fixed, mesh, 3)
    linear = sitk.AffineTransform(2)
    linear.SetMatrix(np.asarray(start.affine.matrix).ravel().tolist())
    linear.SetTranslation(list(start.affine.offset_um))
    method = mutual_information([max(1, round(max(rows, columns) / _PIXELS))])
    method.SetMetricFixedMask(as_mask(source))
    method.SetMetricMovingMask(as_mask(target))
    method.SetMovingInitialTransform(linear)
    method.SetInitialTransform(bend, inPlace=True)
    method.SetOptimizerAsLBFGSB(gradientConvergenceTolerance=1e-5, numberOfIterations=_ITERATIONS)
    with one_thread():
        method.Execute(fixed, as_image(target))
    return start.followed_by_shift(_at_nodes(bend, start, (columns, rows), source.resolution_um))


def _at_nodes(
    bend: Any, start: Deformation, size: tuple[int, int], resolution_um: float
) -> Float64[np.ndarray, "row column 2"]:
    """The bend's displacement at the nodes; beyond the overview that at its rim."""
    half = resolution_um / 2
    rim = np.array(size) * resolution_um - half
    inside = np.clip(start.nodes_um(), half, rim - 1e-6)
    moved = np.array([bend.TransformPoint(point) for point in inside.tolist()])
    return (moved - inside).reshape(start.displacement_um.shape)
