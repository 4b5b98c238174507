"""The smooth deformation: a thin-plate spline through local shifts, coarse to fine.

At each scale the shifts of windows that could be judged are fitted by a smoothing thin-plate spline
(SciPy). How stiff it is, cross-validation says. A window tells where its tissue lies to about half the
finest structure that it shows, and neighbouring sections share but some of their nuclei: nothing is
fitted where less than that is left, where too few windows match, or where they do not foretell each
other. The spline is made stiffer until nothing folds. Windows that disagree with all around them are
left out. What was fitted is judged on the windows in between, and kept only where they look more alike
than before.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64

from clinimm.staining.compare import Comparison
from clinimm.staining.deformation import Deformation
from clinimm.staining.local_shifts import CELL, REGION, TISSUE, LocalShifts

#: Least local change of area that a fit may leave; 0 would be a fold.
LEAST_JACOBIAN = 0.2
#: Rounds of fitting a scale; the second sees windows that the first has straightened.
_ROUNDS = 2
#: Fewer judged windows do not make a field.
_FEWEST = 8
#: Share of the windows that has to be judged. Neighbouring sections share glands, and so coarse windows
#: may be fitted, but not all nuclei: where fewer of the finest match, a fit would follow the wrong ones.
_LEAST_SHARE = {TISSUE.name: 0.25, REGION.name: 0.25, CELL.name: 0.7}
#: Share at which windows are enough to choose between two maps.
_ENOUGH_TO_CHOOSE = 0.25
#: Of the windows' shifts, the share that their fit may miss when each is left out: half the variance.
_MOST_MISSED = 0.7
#: Gain in the mean correlation of left-out windows that a fit has to bring.
_LEAST_GAIN = 0.002
#: Of the fits that foretell about as well as the best, the stiffest is taken.
_ABOUT_AS_WELL = 1.05
_STIFFNESS = (1e-2, 1e-1, 1.0, 1e1, 1e2, 1e4)
_FOLDS = 5

Points = Float64[np.ndarray, "point 2"]


def likelier(seen: Comparison, plain: Deformation, bent: Deformation) -> Deformation:
    """``bent`` where it does not fold and windows look more alike under it, else ``plain``.

    The finest scale at which either shows the same structure in both slides decides.
    """
    if bent.least_jacobian() < LEAST_JACOBIAN:
        return plain
    for scale in reversed(list(seen.scales())):
        before, after = (seen.left_out(one, scale) for one in (plain, bent))
        if max(before.judged_share, after.judged_share) >= _ENOUGH_TO_CHOOSE:
            return bent if _agrees_better(before, after) else plain
    return plain


def refine_smooth(
    seen: Comparison, start: Deformation, say: Callable[[str], None] = lambda _: None
) -> Deformation:
    """``start`` with a smooth displacement added that brings local structure together."""
    found = start
    for scale in seen.scales():
        for _ in range(_ROUNDS):
            windows = seen.to_fit(found, scale)
            say(f"deformation, {scale.name}: {windows.windows} windows")
            fitted = _fitted(found, windows, seen.seed)
            if fitted is None:
                break
            if not _agrees_better(seen.left_out(found, scale), seen.left_out(fitted, scale)):
                break
            found = fitted
    return found


def _fitted(base: Deformation, shifts: LocalShifts, seed: int) -> Deformation | None:
    """The base followed by the smooth field that the shifts support; None where they support none."""
    if shifts.judged.sum() < _FEWEST or shifts.judged_share < _LEAST_SHARE[shifts.scale.name]:
        return None
    points, values = _consistent(shifts.points_um[shifts.judged], shifts.shifts_um[shifts.judged])
    left = float(np.median(np.linalg.norm(values, axis=-1)))
    unit = shifts.scale.window_um
    stiffness, missed = _best_stiffness(points / unit, values, seed)
    if left < shifts.scale.fine_um / 2 or missed > _MOST_MISSED * left:
        return None
    for stiffer in _STIFFNESS[_STIFFNESS.index(stiffness) :]:
        nodes = np.clip(base.nodes_um(), points.min(axis=0) - unit, points.max(axis=0) + unit)
        field = _spline(points / unit, values, stiffer)(nodes / unit)
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


def _best_stiffness(points: Points, values: Points, seed: int) -> tuple[float, float]:
    """The stiffness whose spline foretells left-out windows best, and by how much it misses them (median)."""
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
    return _STIFFNESS[int(good[-1])], losses[int(good[-1])]


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
