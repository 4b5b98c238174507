"""How far two registered slides are apart, place by place, without landmarks.

In each window that holds structure, the source's structure is looked for in the warped target around
the same place (normalised cross-correlation). Windows that do
not belong together correlate too: how much is measured on this very pair, by looking for each window
in places where it cannot be, and a window is *judged* only where its own place beats those. The share
of windows that could be judged says whether the two slides show the same tissue at all; their shifts
say how well it was laid together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, Float64
from scipy import ndimage

from clinimm.staining.deformation import Deformation
from clinimm.staining.match_windows import Match, Matcher
from clinimm.staining.picture import Picture, warp_block
from clinimm.staining.structure import StructureScale, structure

#: Share of wrong places that beat the limit by chance.
CHANCE = 0.02
#: Wrong places that are looked at in all, at least; and for each window, at least one.
_WRONG_PLACES = 150
#: Share of the windows' median contrast that a window needs to be looked at.
_LEAST_CONTRAST = 0.25
_FLAT = 0.02
#: Share of a window's surroundings for which the target has to have pixels.
_LEAST_INSIDE = 0.85


@dataclass(frozen=True)
class Scale:
    """The size of what is compared.

    Attributes:
        name: ``cell`` (nuclei, one by one), ``region`` (groups of them) or ``tissue`` (glands, rims).
        window_um: side of a window.
        reach_um: how far around its place a window is looked for.
        fine_um: structure finer than this is taken out, and windows are compared at this resolution.
        coarse_um: structure coarser than this is taken out (a difference of Gaussians).
    """

    name: str
    window_um: float
    reach_um: float
    fine_um: float
    coarse_um: float

    @property
    def side_um(self) -> float:
        """Side of a window with its surroundings."""
        return self.window_um + 2 * self.reach_um

    def suits(self, picture: Picture) -> bool:
        """Whether a picture is fine enough to show it, and large enough for a few windows."""
        side_um = min(picture.shape) * picture.resolution_um
        return picture.resolution_um <= 2 * self.fine_um and side_um >= 2 * self.window_um


CELL = Scale("cell", window_um=50.0, reach_um=15.0, fine_um=1.0, coarse_um=8.0)
REGION = Scale("region", window_um=130.0, reach_um=40.0, fine_um=3.0, coarse_um=25.0)
TISSUE = Scale("tissue", window_um=400.0, reach_um=120.0, fine_um=8.0, coarse_um=80.0)
#: Coarse to fine.
SCALES = (TISSUE, REGION, CELL)


@dataclass(frozen=True, eq=False)
class LocalShifts:
    """The shift of every window with structure.

    Attributes:
        scale: the size of what was compared.
        points_um: (window, 2) middle of the window on the source, x and y.
        shifts_um: (window, 2) where the warped target shows it, relative to its place.
        judged: (window,) whether it was found better than in wrong places.
        correlation: (window,) at the best shift.
        in_place: (window,) correlation without any shift.
        limit: the correlation that wrong places reach by chance.
    """

    scale: Scale
    points_um: Float64[np.ndarray, "window 2"]
    shifts_um: Float64[np.ndarray, "window 2"]
    judged: Bool[np.ndarray, " window"]
    correlation: Float64[np.ndarray, " window"]
    in_place: Float64[np.ndarray, " window"]
    limit: float

    @property
    def windows(self) -> int:
        """Windows with structure in both slides."""
        return len(self.judged)

    @property
    def judged_share(self) -> float:
        """Share of them that could be judged; 0 where there are none."""
        return float(self.judged.mean()) if self.windows else 0.0

    def percentile_um(self, percent: float) -> float:
        """Percentile of the judged windows' distances; NaN where none could be judged."""
        distances = np.linalg.norm(self.shifts_um[self.judged], axis=-1)
        return float(np.percentile(distances, percent)) if len(distances) else float("nan")


@dataclass(frozen=True, eq=False)
class Pair:
    """Two slides and what turns each into structure."""

    source: Picture
    target: Picture
    source_scale: StructureScale
    target_scale: StructureScale

    def at(self, scale: Scale) -> Pair:
        """The pair at the resolution that windows of a scale are compared at, which is no finer."""
        factor = max(1, int(scale.fine_um / self.source.resolution_um + 1e-6))
        return replace(self, source=self.source.coarser(factor), target=self.target.coarser(factor))


def window_grid(
    tissue: Bool[np.ndarray, "row column"], extent_um: tuple[float, float], scale: Scale, most: int, odd: bool
) -> Float64[np.ndarray, "window 2"]:
    """Middles of about ``most`` windows at most, x and y, on the tissue of a slide.

    Args:
        tissue: where there is tissue, any size; it spans the slide.
        extent_um: width and height of the slide.
        scale: the windows' size; the step is half a window or more.
        most: windows.
        odd: the grid half a step off, so that one grid can be fitted and the other judged.
    """
    area = extent_um[0] * extent_um[1] * float(tissue.mean())
    step = max(scale.window_um / 2, float(np.sqrt(area / most)))
    axes = []
    for side in extent_um:
        room = side - scale.window_um
        count = int(room / step) + 1 if room >= 0 else 0
        first = (side - (count - 1) * step) / 2
        axes.append(first + step * (np.arange(count - 1) + 0.5 if odd and count > 1 else np.arange(count)))
    x, y = (axis.ravel() for axis in np.meshgrid(*axes))
    rows, columns = tissue.shape
    on_tissue = tissue[
        (y / extent_um[1] * rows).astype(int).clip(0, rows - 1),
        (x / extent_um[0] * columns).astype(int).clip(0, columns - 1),
    ]
    return np.stack([x, y], axis=-1)[on_tissue]


def local_shifts(
    pair: Pair,
    deformation: Deformation,
    scale: Scale,
    points_um: Float64[np.ndarray, "point 2"],
    seed: int = 0,
) -> LocalShifts:
    """Shifts of the windows around these source points that hold structure in both slides.

    Args:
        pair: at the scale's resolution (``Pair.at``), or finer.
        deformation: the map that is judged.
        scale: the size of what is compared.
        points_um: middles of windows (``window_grid``).
        seed: of the wrong places that each window is compared with.
    """
    return _judge(scale, *_cut(pair, deformation, scale, points_um), pair.source.resolution_um, seed)


def _cut(
    pair: Pair, deformation: Deformation, scale: Scale, points_um: Float64[np.ndarray, "point 2"]
) -> tuple[Float64[np.ndarray, "window 2"], list[np.ndarray], list[np.ndarray]]:
    """Windows of the source and, with their surroundings, of the warped target, filtered."""
    kept, windows, places = [], [], []
    resolution = pair.source.resolution_um
    margin = round(scale.reach_um / resolution)
    side = round(scale.window_um / resolution) + 2 * margin
    for point in points_um:
        left, top = (round(value / resolution - side / 2) for value in point)
        moved, inside = warp_block(pair.target, deformation, (top, left, side, side), resolution)
        if inside.mean() < _LEAST_INSIDE:
            continue
        kept.append(((left + side / 2) * resolution, (top + side / 2) * resolution))
        windows.append(_source_window(pair, scale, top, left, side))
        view = structure(moved, pair.target_scale)
        view[~inside] = view[inside].mean()  # a rim that shows nothing, rather than an edge
        places.append(_filtered(view, scale, pair))
    cores = [window[margin:-margin, margin:-margin] for window in windows]
    rich = _rich(cores) & _rich([place[margin:-margin, margin:-margin] for place in places])
    chosen = np.flatnonzero(rich)
    return (
        np.array([kept[i] for i in chosen]).reshape(-1, 2),
        [cores[i] for i in chosen],
        [places[i] for i in chosen],
    )


def _source_window(
    pair: Pair, scale: Scale, top: int, left: int, side: int
) -> Float32[np.ndarray, "row column"]:
    """The window with its surroundings; beyond the slide's rim they are mirrored."""
    height, width = pair.source.shape
    first = max(top, 0), max(left, 0)
    last = min(top + side, height), min(left + side, width)
    pixels = pair.source.read(*first, last[0] - first[0], last[1] - first[1])
    around = ((first[0] - top, top + side - last[0]), (first[1] - left, left + side - last[1]))
    return _filtered(np.pad(structure(pixels, pair.source_scale), around, mode="symmetric"), scale, pair)


def _filtered(
    image: Float32[np.ndarray, "row column"], scale: Scale, pair: Pair
) -> Float32[np.ndarray, "row column"]:
    """Structure of the scale's size only."""
    resolution = pair.source.resolution_um
    fine = ndimage.gaussian_filter(image, scale.fine_um / resolution)
    return fine - ndimage.gaussian_filter(image, scale.coarse_um / resolution, truncate=3)


def _rich(windows: list[np.ndarray]) -> Bool[np.ndarray, " window"]:
    """Which windows hold structure: their contrast is not far below what is usual on the slide."""
    if not windows:
        return np.zeros(0, dtype=bool)
    contrast = np.array([window.std() for window in windows])
    usual = float(np.percentile(contrast, 75))
    return contrast >= max(_FLAT, _LEAST_CONTRAST * usual)


def _judge(
    scale: Scale,
    points_um: Float64[np.ndarray, "window 2"],
    windows: list[np.ndarray],
    places: list[np.ndarray],
    pixel_um: float,
    seed: int,
) -> LocalShifts:
    own, wrong = _compared(points_um, scale, windows, places, seed)
    limit = float(np.quantile(wrong, 1 - CHANCE)) if wrong else 1.0
    correlation = np.array([match.correlation for match in own], dtype=float)
    in_place = np.array([match.in_place for match in own], dtype=float)
    shifts = np.array([match.shift for match in own]).reshape(-1, 2) * pixel_um
    within = np.abs(shifts).max(axis=-1, initial=0) < scale.reach_um - pixel_um
    judged = (correlation > limit) & within
    return LocalShifts(scale, points_um, shifts, judged, correlation, in_place, limit)


def _compared(
    points_um: Float64[np.ndarray, "window 2"],
    scale: Scale,
    windows: list[np.ndarray],
    places: list[np.ndarray],
    seed: int,
) -> tuple[list[Match], list[float]]:
    """Each window in its own place, and the best correlations in wrong ones."""
    if not windows:
        return [], []
    matcher = Matcher(windows, places)
    wrong = _wrong_places(points_um, scale, np.random.default_rng(seed))
    own = [matcher.match(index, index) for index in range(len(windows))]
    return own, [float(matcher.surface(window, place).max()) for window, place in wrong]


def _wrong_places(
    points_um: Float64[np.ndarray, "window 2"], scale: Scale, generator: np.random.Generator
) -> list[tuple[int, int]]:
    """For each window, places so far off that its tissue is not in them."""
    pairs = []
    each = math.ceil(_WRONG_PLACES / max(1, len(points_um)))
    for index, point in enumerate(points_um):
        far = np.flatnonzero(np.abs(points_um - point).max(axis=-1) >= scale.window_um + scale.reach_um)
        chosen = generator.permutation(far)[:each]
        pairs += [(index, int(other)) for other in chosen]
    return pairs
