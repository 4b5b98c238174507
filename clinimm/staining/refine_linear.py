"""Rigid, then affine: mutual information of structure, coarse to fine, with SimpleITK.

Mutual information (Mattes et al. 2003) asks only that equal structure in one stain go with equal
structure in the other, whatever its brightness. All pixels are used and one thread runs, so the
same input gives the same result to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from clinimm.staining.coarse_search import Overview
from clinimm.staining.deformation import Affine

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813  # the library's own abbreviation

_BINS = 32
_ITERATIONS = 120
#: Pixels along the longer side that the coarsest level should still have.
_COARSEST_PIXELS = 64


def refine_rigid(source: Overview, target: Overview, start: Affine) -> Affine:
    """The rotation and shift with the most mutual information near ``start``."""
    import SimpleITK as sitk  # noqa: N813

    transform = sitk.Euler2DTransform()
    transform.SetCenter(_middle_um(source))
    transform.SetMatrix(_rigid_matrix(start))
    _set_offset(transform, start)
    return _optimise(source, target, transform, levels(source))


def refine_affine(source: Overview, target: Overview, start: Affine) -> Affine:
    """The affine map with the most mutual information near ``start``."""
    import SimpleITK as sitk  # noqa: N813

    transform = sitk.AffineTransform(2)
    transform.SetCenter(_middle_um(source))
    transform.SetMatrix(np.asarray(start.matrix).ravel().tolist())
    _set_offset(transform, start)
    return _optimise(source, target, transform, levels(source)[-2:])


def as_image(view: Overview) -> sitk.Image:
    """A structure picture in micrometres; pixel centres at half a pixel."""
    import SimpleITK as sitk  # noqa: N813

    image = sitk.GetImageFromArray(np.ascontiguousarray(view.image, dtype=np.float32))
    image.SetSpacing([view.resolution_um] * 2)
    image.SetOrigin([view.resolution_um / 2] * 2)
    return image


def as_mask(view: Overview) -> sitk.Image:
    """Where the picture has pixels, on the grid of ``as_image``."""
    import SimpleITK as sitk  # noqa: N813

    mask = sitk.GetImageFromArray(np.ascontiguousarray(view.inside, dtype=np.uint8))
    mask.CopyInformation(as_image(view))
    return mask


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for SimpleITK: sums over several come in another order each time."""
    import SimpleITK as sitk  # noqa: N813

    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def levels(view: Overview) -> list[int]:
    """Shrink factors, coarse to fine; half the resolution is enough, local shifts do the rest."""
    longest = max(view.image.shape)
    return [factor for factor in (8, 4, 2) if longest / factor >= _COARSEST_PIXELS] or [1]


def mutual_information(factors: list[int]) -> sitk.ImageRegistrationMethod:
    """A SimpleITK registration that compares by mutual information at these shrink factors."""
    import SimpleITK as sitk  # noqa: N813

    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel(factors)
    method.SetSmoothingSigmasPerLevel([factor / 2 if factor > 1 else 0.5 for factor in factors])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    return method


def _optimise(source: Overview, target: Overview, transform: Any, factors: list[int]) -> Affine:
    method = mutual_information(factors)
    method.SetMetricFixedMask(as_mask(source))
    method.SetMetricMovingMask(as_mask(target))
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=source.resolution_um * 2,
        minStep=source.resolution_um / 50,
        numberOfIterations=_ITERATIONS,
        relaxationFactor=0.6,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    with one_thread():
        method.Execute(as_image(source), as_image(target))
    matrix = np.array(transform.GetMatrix()).reshape(2, 2)
    return Affine.of(matrix, np.array(transform.TransformPoint((0.0, 0.0))))


def _middle_um(view: Overview) -> list[float]:
    rows, columns = view.image.shape
    return [columns * view.resolution_um / 2, rows * view.resolution_um / 2]


def _rigid_matrix(start: Affine) -> list[float]:
    angle = np.radians(start.rotation_degrees())
    return [np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)]


def _set_offset(transform: Any, start: Affine) -> None:
    """The translation with which the transform's centre goes where ``start`` takes it."""
    centre = np.array(transform.GetCenter())
    transform.SetTranslation((start.apply(centre[None])[0] - centre).tolist())
