"""Nuclei without a network: dark blobs against their surroundings, split where they touch.

The density of nuclear dye is compared with a threshold that stands between Otsu's for the tissue
and the local mean, so that pale and dark quarters of an image are both cut; touching nuclei are
split by watershed on the distance to the edge. All lengths are micrometres, so that one setting
serves every scanner. Nothing was fitted on real slides, and the defaults' numbers are round ones that
simulated tissue bears out; ``benchmarks/nuclei.py`` measures them, and what tuning would add, on
drawn nuclei of real slides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage
from scipy.spatial import cKDTree

from clinimm.staining.optical import DAB, HAEMATOXYLIN, Mask, Plane, Rgb, Signal, amounts, optical_density

Labels = Int[np.ndarray, "row column"]
Points = Float[np.ndarray, "nucleus 2"]

#: Mean optical density below which a pixel is glass, which would drag both thresholds down.
_GLASS = 0.05
_BINS = 256
#: Least difference of densities between nucleus and surroundings that counts as a nucleus at all.
_LEAST_CONTRAST = 0.05


@dataclass(frozen=True)
class NucleiSettings:
    """What a nucleus looks like.

    Attributes:
        working_um: micrometres a pixel at which nuclei are looked for; finer images are averaged.
        smooth_um: deviation of the Gaussian that takes out grain and chromatin.
        background_um: deviation of the Gaussian that makes the local mean of the tissue.
        local_share: weight of the local mean against Otsu's threshold, 0 to 1.
        offset: optical density that a nucleus must be above the threshold.
        seed_smooth_um: deviation of the Gaussian over the distance to the edge, before seeds.
        seed_distance_um: two seeds are at least this far apart.
        smallest_um2: smaller blobs are no nuclei.
    """

    working_um: float = 0.5
    smooth_um: float = 0.5
    background_um: float = 15.0
    local_share: float = 0.5
    offset: float = 0.02
    seed_smooth_um: float = 0.8
    seed_distance_um: float = 2.0
    smallest_um2: float = 10.0


DEFAULT = NucleiSettings()


@dataclass(frozen=True)
class Nuclei:
    """Nuclei of one image.

    Attributes:
        labels: (row, column) of the image: 0 is ground, nuclei count from 1 without gaps.
        resolution_um: micrometres a pixel.
    """

    labels: Labels
    resolution_um: float

    @cached_property
    def count(self) -> int:
        """How many there are."""
        return int(self.labels.max(initial=0))

    @cached_property
    def centres(self) -> Points:
        """Row and column of each nucleus' centre, pixels."""
        return _centres(self.labels, self.count)

    @cached_property
    def area_um2(self) -> Float[np.ndarray, " nucleus"]:
        """Area of each nucleus, µm²."""
        return np.bincount(self.labels.ravel(), minlength=self.count + 1)[1:] * self.resolution_um**2

    @property
    def mask(self) -> Mask:
        """Where there is a nucleus."""
        return self.labels > 0

    def mean(self, plane: Plane) -> Float[np.ndarray, " nucleus"]:
        """The mean of ``plane`` over each nucleus."""
        total = np.bincount(self.labels.ravel(), plane.ravel(), minlength=self.count + 1)[1:]
        return total / np.maximum(np.bincount(self.labels.ravel(), minlength=self.count + 1)[1:], 1)


@dataclass(frozen=True)
class NucleiScore:
    """Found nuclei against drawn ones.

    Attributes:
        dice: of the two masks.
        found, drawn: counts.
        f1: harmonic mean of precision and recall of centres, matched one to one.
    """

    dice: float
    found: int
    drawn: int
    f1: float

    @property
    def count_error(self) -> float:
        """Found less drawn, as a share of the drawn."""
        return (self.found - self.drawn) / self.drawn if self.drawn else float("nan")


def nuclear_density(rgb: Rgb, signal: Signal | None = None) -> Plane:
    """How much each pixel looks like a nucleus.

    Args:
        rgb: the image.
        signal: of a stained target; None for the source. Red light is held back by haematoxylin and
            hardly by eosin, so its density serves H&E. With DAB it is the counterstain, held at
            Otsu's threshold: else its darkest nuclei would lift the threshold above the pale ones.
    """
    if signal is Signal.FLUORESCENCE:
        return rgb.max(axis=-1).astype(np.float32) / np.float32(255)
    if signal is Signal.DAB:
        blue = amounts(rgb, (HAEMATOXYLIN, DAB))[..., 0]
        return np.minimum(blue, np.float32(_otsu(blue))) if np.ptp(blue) > _LEAST_CONTRAST else blue
    return optical_density(rgb)[..., 0]


def find_nuclei(
    rgb: Rgb, resolution_um: float, signal: Signal | None = None, settings: NucleiSettings = DEFAULT
) -> Nuclei:
    """All nuclei of an image.

    Args:
        rgb: (row, column, 3) uint8.
        resolution_um: micrometres a pixel.
        signal: of a stained target; None for an H&E source.
        settings: what a nucleus looks like.

    >>> import numpy as np
    >>> image = np.full((64, 64, 3), 230, np.uint8)
    >>> image[20:36, 20:36] = (90, 60, 140)
    >>> find_nuclei(image, 0.5).count
    1
    """
    from skimage.transform import resize_local_mean

    density = nuclear_density(rgb, signal)
    light = Signal.FLUORESCENCE if signal is Signal.FLUORESCENCE else None
    tissue = np.ones(density.shape, np.float32) if light else _tissue(rgb)
    shape = _working_shape(rgb.shape[:2], resolution_um, settings.working_um)
    if shape != rgb.shape[:2]:
        density = resize_local_mean(density, shape).astype(np.float32)
        tissue = resize_local_mean(tissue, shape).astype(np.float32)
    step = resolution_um * rgb.shape[0] / shape[0]
    mask = nuclear_mask(density, tissue, step, settings)
    labels = split_touching(mask, step, settings)
    return Nuclei(_enlarge(labels, rgb.shape[:2]), resolution_um)


def nuclear_mask(density: Plane, tissue: Plane, step_um: float, settings: NucleiSettings) -> Mask:
    """Where the density stands out from tissue around it.

    Args:
        density: of nuclear dye.
        tissue: 1 where there is tissue, 0 on glass.
        step_um: micrometres a pixel.
        settings: smoothing and thresholds.
    """
    smooth = ndimage.gaussian_filter(density, settings.smooth_um / step_um)
    there = tissue > 0.5
    if not there.any() or float(np.ptp(smooth[there])) < _LEAST_CONTRAST:
        return np.zeros(density.shape, dtype=bool)
    width = settings.background_um / step_um
    weight = np.maximum(_wide(tissue, width), 0.05)
    local = _wide(smooth * tissue, width) / weight
    threshold = (1 - settings.local_share) * _otsu(smooth[there]) + settings.local_share * local
    return there & (smooth > threshold + settings.offset)


def split_touching(mask: Mask, step_um: float, settings: NucleiSettings) -> Labels:
    """Label the blobs of a mask, after opening and filling them, and cut those that have two middles."""
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed

    whole = _without_small(ndimage.binary_fill_holes(ndimage.binary_opening(mask)), step_um, settings)
    blobs, _ = ndimage.label(whole)
    distance = ndimage.distance_transform_edt(whole).astype(np.float32)
    distance = ndimage.gaussian_filter(distance, settings.seed_smooth_um / step_um)
    apart = max(1, round(settings.seed_distance_um / step_um))
    seeds = peak_local_max(distance, min_distance=apart, labels=blobs, exclude_border=False)
    markers = np.zeros(mask.shape, dtype=np.int32)
    markers[tuple(seeds.T)] = np.arange(1, len(seeds) + 1)
    return _relabel(watershed(-distance, markers, mask=whole), settings.smallest_um2 / step_um**2)


def compare_nuclei(found: Nuclei, drawn: Nuclei, within_um: float = 4.0) -> NucleiScore:
    """Judge found nuclei by drawn ones; centres match one to one within a distance, nearest first."""
    both = int((found.mask & drawn.mask).sum())
    either = int(found.mask.sum()) + int(drawn.mask.sum())
    matched = len(match_points(found.centres, drawn.centres, within_um / found.resolution_um)[0])
    total = found.count + drawn.count
    return NucleiScore(
        2 * both / either if either else float("nan"),
        found.count,
        drawn.count,
        2 * matched / total if total else float("nan"),
    )


def match_points(first: Points, second: Points, within: float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of points (their indices) at most ``within`` apart, one to one, nearest first."""
    if len(first) == 0 or len(second) == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    near = cKDTree(first).sparse_distance_matrix(cKDTree(second), within, output_type="ndarray")
    taken: dict[int, int] = {}
    used: set[int] = set()
    for row in near[np.lexsort((near["j"], near["i"], near["v"]))]:
        if int(row["i"]) not in taken and int(row["j"]) not in used:
            taken[int(row["i"])] = int(row["j"])
            used.add(int(row["j"]))
    return np.array(list(taken), dtype=np.int64), np.array(list(taken.values()), dtype=np.int64)


def tune_nuclei(
    examples: Sequence[tuple[Rgb, Nuclei]], grid: Iterable[NucleiSettings], signal: Signal | None = None
) -> NucleiSettings:
    """The settings of the grid with the best mean of Dice and F1 less the size of the count error.

    Args:
        examples: images with their true nuclei; never those that the result is judged on.
        grid: settings to try; the first of equals wins.
        signal: of the images.
    """

    def merit(settings: NucleiSettings) -> float:
        scores = [
            compare_nuclei(find_nuclei(rgb, drawn.resolution_um, signal, settings), drawn)
            for rgb, drawn in examples
        ]
        return float(np.mean([(one.dice + one.f1) / 2 - abs(one.count_error) for one in scores]))

    return max(grid, key=merit)


def _tissue(rgb: Rgb) -> Plane:
    return (optical_density(rgb).mean(axis=-1) > _GLASS).astype(np.float32)


def _working_shape(shape: tuple[int, ...], resolution_um: float, working_um: float) -> tuple[int, int]:
    if resolution_um >= 0.75 * working_um:  # so near that averaging would only blur
        return int(shape[0]), int(shape[1])
    scale = resolution_um / working_um
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _wide(plane: Plane, width: float) -> Plane:
    """A wide Gaussian on a coarser grid: the same within a hundredth, and much faster."""
    from skimage.transform import resize, resize_local_mean

    factor = int(width // 4)
    if factor < 2 or min(plane.shape) < 4 * factor:
        return ndimage.gaussian_filter(plane, width, mode="nearest")
    coarse = resize_local_mean(plane, (-(-plane.shape[0] // factor), -(-plane.shape[1] // factor)))
    blurred = ndimage.gaussian_filter(coarse, width * coarse.shape[0] / plane.shape[0], mode="nearest")
    return resize(blurred, plane.shape, order=1, mode="edge", anti_aliasing=False).astype(np.float32)


def _otsu(values: Float[np.ndarray, " pixel"]) -> float:
    from skimage.filters import threshold_otsu

    return float(threshold_otsu(values, nbins=_BINS))


def _without_small(mask: Mask, step_um: float, settings: NucleiSettings) -> Mask:
    labels, _ = ndimage.label(mask)
    return np.asarray(_relabel(labels, settings.smallest_um2 / step_um**2) > 0)


def _relabel(labels: Labels, smallest_pixels: float) -> Labels:
    sizes = np.bincount(labels.ravel())
    kept = sizes >= smallest_pixels
    kept[0] = False
    return np.where(kept, np.cumsum(kept), 0).astype(np.int32)[labels]


def _enlarge(labels: Labels, shape: tuple[int, ...]) -> Labels:
    rows = (np.arange(shape[0]) * labels.shape[0] // shape[0])[:, None]
    columns = np.arange(shape[1]) * labels.shape[1] // shape[1]
    return _relabel(labels[rows, columns], 1)


def _centres(labels: Labels, count: int) -> Points:
    sizes = np.maximum(np.bincount(labels.ravel(), minlength=count + 1)[1:], 1)
    rows, columns = (
        np.broadcast_to(axis, labels.shape).ravel() for axis in np.ogrid[: labels.shape[0], : labels.shape[1]]
    )
    by_row = np.bincount(labels.ravel(), rows, count + 1)[1:]
    by_column = np.bincount(labels.ravel(), columns, count + 1)[1:]
    return np.column_stack([by_row / sizes, by_column / sizes])
