"""Where a slide lies on another one, without any first guess: every rotation, every shift.

Sections are laid on glass by hand: turned by any angle, shifted by millimetres, sometimes with a part
missing. For each angle of a grid the masked normalised cross-correlation (Padfield 2012, as in
scikit-image) finds the best of all shifts with enough overlap; the best angles are then looked at
closer. Local optimisers cannot do this: their basin is about the size of one structure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32
from scipy import ndimage

from clinimm.staining.deformation import Affine

#: Degrees between the angles looked at first; half of it still correlates over a slide's middle.
STEP_DEGREES = 6.0
#: Smallest share of the smaller picture that has to overlap.
LEAST_OVERLAP = 0.35
#: Angles looked at closer, each a hypothesis of its own.
_HYPOTHESES = 3


@dataclass(frozen=True, eq=False)
class Overview:
    """A small structure picture.

    Attributes:
        image: structure in 0 to 1.
        inside: where the slide has pixels.
        resolution_um: micrometres a pixel.
    """

    image: Float32[np.ndarray, "row column"]
    inside: Bool[np.ndarray, "row column"]
    resolution_um: float


@dataclass(frozen=True)
class Pose:
    """A rotation and shift, with the correlation of structure in the overlap."""

    affine: Affine
    correlation: float


def search(source: Overview, target: Overview) -> list[Pose]:
    """The likeliest poses, best first; both overviews at the same resolution.

    Empty where no shift has enough overlap.
    """
    found: list[Pose] = []
    for pose in best_poses(source, target, np.arange(0, 360, STEP_DEGREES)):
        if all(_angle_between(pose, other) > 1.5 * STEP_DEGREES for other in found):
            found.append(pose)
    return sorted((_closer(source, target, pose) for pose in found[:_HYPOTHESES]), key=_badness)


def _closer(source: Overview, target: Overview, pose: Pose) -> Pose:
    offsets = (-STEP_DEGREES / 2, -STEP_DEGREES / 4, STEP_DEGREES / 4, STEP_DEGREES / 2)
    angle = pose.affine.rotation_degrees()
    return min((pose, *best_poses(source, target, [angle + offset for offset in offsets])), key=_badness)


def _badness(pose: Pose) -> float:
    return -pose.correlation


def _angle_between(one: Pose, other: Pose) -> float:
    apart = abs(one.affine.rotation_degrees() - other.affine.rotation_degrees()) % 360
    return min(apart, 360 - apart)


def best_poses(source: Overview, target: Overview, degrees: Iterable[float]) -> list[Pose]:
    """The best shift for each angle, best correlation first."""
    poses = [pose for angle in degrees if (pose := _best_shift(source, target, float(angle)))]
    return sorted(poses, key=_badness)


def _best_shift(source: Overview, target: Overview, degrees: float) -> Pose | None:
    from skimage.registration import phase_cross_correlation

    turn = about_centres(source, target, degrees)
    turned, inside = turned_onto(target, turn, source.image.shape)
    if not inside.any():
        return None
    shift, *_ = phase_cross_correlation(
        source.image,
        turned,
        reference_mask=source.inside,
        moving_mask=inside,
        overlap_ratio=LEAST_OVERLAP,
    )
    moved_um = np.asarray(turn.matrix) @ (np.asarray(shift)[::-1] * source.resolution_um)
    affine = Affine.of(np.asarray(turn.matrix), np.asarray(turn.offset_um) - moved_um)
    correlation = correlation_at(source, target, affine)
    return None if correlation is None else Pose(affine, correlation)


def about_centres(source: Overview, target: Overview, degrees: float) -> Affine:
    """The rotation that lays one picture's centre on the other's."""
    angle = np.radians(degrees)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle, other = (np.array(view.image.shape[::-1]) / 2 * view.resolution_um for view in (source, target))
    return Affine.of(matrix, other - matrix @ middle)


def turned_onto(
    target: Overview, affine: Affine, shape: tuple[int, ...]
) -> tuple[Float32[np.ndarray, "row column"], Bool[np.ndarray, "row column"]]:
    """The target's structure in a frame of ``shape`` at the same resolution, and where there is any."""
    flip = np.asarray(affine.matrix)[::-1, ::-1]  # (row, column) instead of (x, y)
    half = np.full(2, 0.5)
    offset = flip @ half + np.asarray(affine.offset_um)[::-1] / target.resolution_um - half
    image = ndimage.affine_transform(target.image, flip, offset, output_shape=shape, order=1)
    inside = ndimage.affine_transform(
        target.inside.astype(np.float32), flip, offset, output_shape=shape, order=1
    )
    return image, inside > 0.99


def correlation_at(source: Overview, target: Overview, affine: Affine) -> float | None:
    """Pearson's correlation of structure in the overlap; None where too little overlaps."""
    image, inside = turned_onto(target, affine, source.image.shape)
    both = inside & source.inside
    if both.sum() < LEAST_OVERLAP * min(source.inside.sum(), target.inside.sum()):
        return None
    one, other = source.image[both], image[both]
    spread = float(one.std() * other.std())
    return float(np.mean((one - one.mean()) * (other - other.mean())) / spread) if spread > 0 else None
