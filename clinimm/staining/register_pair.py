"""Lay the target stain on the source stain: any rotation, then affine, then smooth; and say how well.

    structure -> search -> rigid -> affine -> B-splines -> local shifts -> own error estimate -> gate

Only overviews and windows are read, so memory does not grow with the slides. There is no randomness
but the choice of wrong places that a window is compared with, and that follows the seed: the same
input gives the same result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Float64, UInt8

from clinimm.core.errors import InputRejected
from clinimm.staining.coarse_search import Overview, Pose, correlation_at, search
from clinimm.staining.compare import Comparison
from clinimm.staining.deformation import IDENTITY, Affine, Deformation
from clinimm.staining.local_shifts import LocalShifts
from clinimm.staining.overviews import smaller, views_of
from clinimm.staining.picture import BLOCK, ArrayPicture, Picture, warp_block
from clinimm.staining.refine_b_spline import refine_b_spline
from clinimm.staining.refine_linear import refine_affine, refine_rigid
from clinimm.staining.refine_smooth import likelier, refine_smooth
from clinimm.staining.register_gate import (
    MAX_ERROR_UM,
    NOT_MEASURED,
    ErrorEstimate,
    Findings,
    no_overlap,
    refusal_of,
)

#: Longer side of the overviews that are searched, pixels.
_SEARCH_PIXELS = 128
#: Nodes of the displacement along the longer side, at most, and their least distance.
_MOST_NODES, _LEAST_SPACING_UM = 200, 12.5
#: A second hypothesis is followed where its correlation is at least this share of the best one's.
_RIVAL = 0.75

Points = Float[np.ndarray, "point 2"]


@dataclass(frozen=True, eq=False)
class Registration:
    """How the target lies on the source, how well, and whether it may be trained on.

    Attributes:
        rigid, affine: the linear stages, source point -> target point.
        deformation: the whole map, source point -> target point.
        source_shape: rows and columns of the source.
        resolution_um, target_resolution_um: micrometres a pixel.
        shift_um: how far the map moves the source's tissue: what was wrong before.
        before: local error with the slides laid corner on corner, as they came.
        error_um: local error after registration, on windows between those that were fitted.
        landmarks_before, landmarks_after: error at landmarks, where some were given.
        overlap_share: share of the source's tissue that lies on the target.
        least_jacobian: smallest local change of area.
        seed: of the choice of wrong places.
        refused: why the pair may not be trained on; None where it may.
    """

    rigid: Affine
    affine: Affine
    deformation: Deformation
    source_shape: tuple[int, int]
    resolution_um: float
    target_resolution_um: float
    shift_um: ErrorEstimate
    before: ErrorEstimate
    error_um: ErrorEstimate
    landmarks_before: ErrorEstimate | None
    landmarks_after: ErrorEstimate | None
    overlap_share: float
    least_jacobian: float
    seed: int
    refused: InputRejected | None

    @property
    def quality(self) -> float:
        """Share of the places with structure at which both slides show the same, 0 to 1."""
        return self.error_um.judged_share

    def warp(
        self,
        image: UInt8[np.ndarray, "row column 3"],
        *,
        nearest: bool = False,
        even_if_refused: bool = False,
    ) -> tuple[UInt8[np.ndarray, "row column 3"], Bool[np.ndarray, "row column"]]:
        """An image in the target's frame, moved onto the source, and where it has pixels.

        Args:
            image: the target, or anything drawn on it (masks: ``nearest``).
            nearest: the nearest pixel instead of bilinear interpolation.
            even_if_refused: for looking at what went wrong; a refused pair is not moved otherwise.

        Raises:
            InputRejected: the pair is refused.
        """
        if self.refused is not None and not even_if_refused:
            raise self.refused
        picture = ArrayPicture(image, self.target_resolution_um)
        rows, columns = self.source_shape
        moved = np.empty((rows, columns, 3), dtype=np.uint8)
        valid = np.empty((rows, columns), dtype=bool)
        for top in range(0, rows, BLOCK):
            for left in range(0, columns, BLOCK):
                block = (top, left, min(BLOCK, rows - top), min(BLOCK, columns - left))
                here = np.s_[top : top + block[2], left : left + block[3]]
                moved[here], valid[here] = warp_block(
                    picture, self.deformation, block, self.resolution_um, nearest
                )
        return moved, valid


def register(
    source: UInt8[np.ndarray, "row column 3"],
    target: UInt8[np.ndarray, "other_row other_column 3"],
    resolution_um: float,
    *,
    target_resolution_um: float | None = None,
    max_error_um: float = MAX_ERROR_UM,
    landmarks: tuple[Points, Points] | None = None,
    seed: int = 0,
) -> Registration:
    """Register two images in memory; see ``register_pictures``.

    >>> from clinimm.staining.register_pair import register  # doctest: +SKIP
    >>> found = register(he, ihc, resolution_um=0.5)  # doctest: +SKIP
    >>> moved, valid = found.warp(ihc)  # raises where the pair was refused  # doctest: +SKIP
    """
    return register_pictures(
        ArrayPicture(source, resolution_um),
        ArrayPicture(target, target_resolution_um or resolution_um),
        max_error_um=max_error_um,
        landmarks=landmarks,
        seed=seed,
    )


def register_pictures(
    source: Picture,
    target: Picture,
    *,
    max_error_um: float = MAX_ERROR_UM,
    landmarks: tuple[Points, Points] | None = None,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> Registration:
    """Move the target onto the source.

    Args:
        source: stays where it is.
        target: another stain of the same or a neighbouring section, turned and shifted anyhow.
        max_error_um: above this 90th percentile of the error the pair is refused.
        landmarks: points of the source and the same points of the target, micrometres; they judge the
            result and are never used to find it.
        seed: of the wrong places that windows are compared with.
        say: told what is being done.

    Bad pairs do not raise: ``refused`` says why, and ``warp`` then raises it.
    """
    try:
        return _registered(source, target, max_error_um, landmarks, seed, say)
    except InputRejected as refusal:
        return _nothing(source, target, landmarks, seed, refusal)


def landmark_error_um(
    registration: Registration, source_points: Points, target_points: Points
) -> Float64[np.ndarray, " point"]:
    """Distance between where each source point is taken and where it should be, on the target."""
    return np.linalg.norm(registration.deformation.apply(source_points) - target_points, axis=-1)


def _registered(
    source: Picture,
    target: Picture,
    max_error_um: float,
    landmarks: tuple[Points, Points] | None,
    seed: int,
    say: Callable[[str], None],
) -> Registration:
    say("overviews")
    pair, views, tissue = views_of(source, target)
    say("search over rotations and shifts")
    rigid, affine = _linear(*views, say)
    seen = Comparison(pair, tissue, seed)
    spacing = max(_LEAST_SPACING_UM, max(seen.extent_um) / _MOST_NODES)
    straight = Deformation.still(affine, seen.extent_um, spacing)
    say("B-spline deformation")
    start = likelier(seen, straight, refine_b_spline(*views, straight))
    deformation = refine_smooth(seen, start, say)
    say("error estimate")
    inside = _inside(deformation, seen)
    still = Deformation.still(IDENTITY, seen.extent_um, spacing)
    found = Registration(
        rigid=rigid,
        affine=affine,
        deformation=deformation,
        source_shape=source.shape,
        resolution_um=source.resolution_um,
        target_resolution_um=target.resolution_um,
        shift_um=_movement(deformation, seen),
        before=estimate_error(seen, still),
        error_um=estimate_error(seen, deformation),
        landmarks_before=_at_landmarks(still, landmarks),
        landmarks_after=_at_landmarks(deformation, landmarks),
        overlap_share=inside,
        least_jacobian=deformation.least_jacobian(),
        seed=seed,
        refused=None,
    )
    findings = Findings(affine, inside, found.least_jacobian, found.error_um, found.landmarks_after)
    return replace(found, refused=refusal_of(findings, max_error_um))


def estimate_error(seen: Comparison, deformation: Deformation) -> ErrorEstimate:
    """The local error at the finest scale at which the two slides show the same structure."""
    estimate = NOT_MEASURED
    for scale in reversed(list(seen.scales())):
        found = as_estimate(seen.left_out(deformation, scale))
        if found.is_sure:
            return found
        estimate = max(estimate, found, key=lambda one: (one.judged_share, one.places))
    return estimate


def as_estimate(shifts: LocalShifts) -> ErrorEstimate:
    """Percentiles over the judged windows, where they are enough to say."""
    found = ErrorEstimate(shifts.scale.name, shifts.windows, int(shifts.judged.sum()), None, None)
    if not found.is_sure:
        return found
    return replace(found, p50_um=shifts.percentile_um(50), p90_um=shifts.percentile_um(90))


def _linear(source: Overview, target: Overview, say: Callable[[str], None]) -> tuple[Affine, Affine]:
    """Rigid and affine, from the search's likeliest poses."""
    small = smaller(source, _SEARCH_PIXELS, target), smaller(target, _SEARCH_PIXELS, source)
    poses = search(*small)
    if not poses:
        raise no_overlap(0.0)
    say("rigid and affine")
    likely = [pose for pose in poses if pose.correlation >= _RIVAL * poses[0].correlation][:2] or poses[:1]
    rigid = max(
        (_better(source, target, pose.affine, refine_rigid(source, target, pose.affine)) for pose in likely),
        key=lambda pose: pose.correlation,
    )
    affine = _better(source, target, rigid.affine, refine_affine(source, target, rigid.affine))
    return rigid.affine, affine.affine


def _better(source: Overview, target: Overview, start: Affine, refined: Affine) -> Pose:
    """The refined map, unless structure agrees less than at its start: an optimiser can run away."""
    before, after = (correlation_at(source, target, one) for one in (start, refined))
    if after is not None and (before is None or after >= before):
        return Pose(refined, after)
    return Pose(start, -1.0 if before is None else before)


def _tissue_points(seen: Comparison) -> Float64[np.ndarray, "point 2"]:
    places = (np.argwhere(seen.tissue)[:, ::-1] + 0.5) / seen.tissue.shape[::-1]
    return places * np.array(seen.extent_um)


def _inside(deformation: Deformation, seen: Comparison) -> float:
    where = deformation.apply(_tissue_points(seen))
    target = seen.pair.target
    size = np.array(target.shape[::-1]) * target.resolution_um
    return float(((where >= 0) & (where <= size)).all(axis=-1).mean())


def _movement(deformation: Deformation, seen: Comparison) -> ErrorEstimate:
    points = _tissue_points(seen)
    return _distances("map", deformation.apply(points) - points)


def _at_landmarks(deformation: Deformation, landmarks: tuple[Points, Points] | None) -> ErrorEstimate | None:
    if landmarks is None:
        return None
    return _distances("landmarks", deformation.apply(landmarks[0]) - landmarks[1])


def _distances(scale: str, misses: Points) -> ErrorEstimate:
    middle, most = (float(np.percentile(np.linalg.norm(misses, axis=-1), percent)) for percent in (50, 90))
    return ErrorEstimate(scale, len(misses), len(misses), middle, most)


def _nothing(
    source: Picture,
    target: Picture,
    landmarks: tuple[Points, Points] | None,
    seed: int,
    refusal: InputRejected,
) -> Registration:
    """A registration that was given up before there was a map."""
    still = Deformation(IDENTITY, 1.0, np.zeros((2, 2, 2)))
    at = _at_landmarks(still, landmarks)
    return Registration(
        IDENTITY,
        IDENTITY,
        still,
        source.shape,
        source.resolution_um,
        target.resolution_um,
        NOT_MEASURED,
        NOT_MEASURED,
        NOT_MEASURED,
        at,
        at,
        0.0,
        1.0,
        seed,
        refusal,
    )
