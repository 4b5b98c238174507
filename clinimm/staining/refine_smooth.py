"""The smooth deformation: a thin-plate spline through local shifts, coarse to fine.

At each scale the shifts of windows that could be judged are fitted by a smoothing thin-plate spline
(SciPy). How stiff it is, cross-validation says: where the windows do not support a bend, the fit is an
affine correction, and where they contradict each other, nothing is done. The spline is made stiffer
until nothing folds. Windows that disagree with all around them are left out. What was fitted is judged
on the other half of the windows, and kept only where they look more alike than before.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float64

from clinimm.staining.deformation import Deformation
from clinimm.staining.local_shifts import SCALES, LocalShifts, Pair, local_shifts, window_grid

#: Least local change of area that a fit may leave; 0 would be a fold.
LEAST_JACOBIAN = 0.2
#: Windows a grid; more say little more about a smooth field.
MOST_WINDOWS = 200
#: Rounds of fitting a scale; the second sees windows that the first has straightened.
_ROUNDS = 2
#: Fewer judged windows do not make a field.
_FEWEST = 8
_LEAST_SHARE = 0.25
#: Gain in the mean correlation of left-out windows that a fit has to bring.
_LEAST_GAIN = 0.002
#: Of the fits that foretell about as well as the best, the stiffest is taken.
_ABOUT_AS_WELL = 1.05
_STIFFNESS = (1e-2, 1e-1, 1.0, 1e1, 1e2, 1e4)
_FOLDS = 5

Points = Float64[np.ndarray, "point 2"]


def refine_smooth(
    pair: Pair,
    start: Deformation,
    tissue: Bool[np.ndarray, "row column"],
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
) -> Deformation:
    """``start`` with a smooth displacement added that brings local structure together."""
    found = start
    for scale in SCALES:
        if not scale.suits(pair.source):
            continue
        extent = extent_um(pair)
        even, odd = (window_grid(tissue, extent, scale, MOST_WINDOWS, which) for which in (False, True))
        at_scale = pair.at(scale)
        left_out = local_shifts(at_scale, found, scale, odd, seed)
        for _ in range(_ROUNDS):
            say(f"deformation, {scale.name}: {len(even)} windows")
            fitted = _fitted(found, local_shifts(at_scale, found, scale, even, seed), seed)
            if fitted is None:
                break
            now = local_shifts(at_scale, fitted, scale, odd, seed)
            if not _agrees_better(left_out, now):
                break
            found, left_out = fitted, now
    return found


def extent_um(pair: Pair) -> tuple[float, float]:
    """Width and height of the source."""
    rows, columns = pair.source.shape
    return columns * pair.source.resolution_um, rows * pair.source.resolution_um


def _fitted(base: Deformation, shifts: LocalShifts, seed: int) -> Deformation | None:
    """The base followed by the smooth field that the shifts support; None where they support none."""
    if shifts.judged.sum() < _FEWEST or shifts.judged_share < _LEAST_SHARE:
        return None
    points, values = _consistent(shifts.points_um[shifts.judged], shifts.shifts_um[shifts.judged])
    unit = shifts.scale.window_um
    start = _STIFFNESS.index(_best_stiffness(points / unit, values, seed))
    for stiffness in _STIFFNESS[start:]:
        nodes = np.clip(base.nodes_um(), points.min(axis=0) - unit, points.max(axis=0) + unit)
        field = _spline(points / unit, values, stiffness)(nodes / unit)
        candidate = base.followed_by_shift(field.reshape(base.displacement_um.shape))
        if candidate.least_jacobian() >= LEAST_JACOBIAN:
            return candidate
    return None


def _spline(points: Points, values: Points, stiffness: float) -> Callable[[Points], Points]:
    from scipy.interpolate import RBFInterpolator

    spline: Callable[[Points], Points] = RBFInterpolator(
        points, values, kernel="thin_plate_spline", smoothing=stiffness, degree=1
    )
    return spline


def _best_stiffness(points: Points, values: Points, seed: int) -> float:
    """The stiffness whose spline foretells left-out windows best (median distance)."""
    fold = np.random.default_rng(seed).permutation(len(points)) % _FOLDS
    losses = []
    for stiffness in _STIFFNESS:
        misses = [
            np.linalg.norm(
                _spline(points[fold != left], values[fold != left], stiffness)(points[fold == left])
                - values[fold == left],
                axis=-1,
            )
            for left in range(_FOLDS)
            if (fold == left).any() and (fold != left).sum() >= 4
        ]
        losses.append(float(np.median(np.concatenate(misses))) if misses else np.inf)
    good = np.flatnonzero(np.array(losses) <= _ABOUT_AS_WELL * min(losses))
    return _STIFFNESS[int(good[-1])]


def _consistent(points: Points, values: Points, neighbours: int = 6) -> tuple[Points, Points]:
    """Without the windows whose shift is far from the median of those around them."""
    from scipy.spatial import cKDTree

    count = min(neighbours + 1, len(points))
    around = cKDTree(points).query(points, count)[1][:, 1:]
    miss = np.linalg.norm(values - np.median(values[around], axis=1), axis=-1)
    keep = miss <= max(1.0, 4 * float(np.median(miss)))
    return points[keep], values[keep]


def _agrees_better(before: LocalShifts, after: LocalShifts) -> bool:
    """Whether windows that were not fitted look more alike in their places, judged or not."""
    return after.windows > 0 and bool(after.in_place.mean() > before.in_place.mean() + _LEAST_GAIN)
