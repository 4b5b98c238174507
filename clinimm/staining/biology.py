"""What a pathologist reads off a stain, measured on a virtual image and on the real one alike.

Three tables come out, from which every figure is made: one row an image and method, one row a
region, one row a nucleus. Two things keep a wrong stain from looking right:

* Nuclei on which methods are compared are seen in the source *and* in the real stain, so that a
  model that merely knows where nuclei are gains nothing by it.
* Stain amounts of regions are compared after taking out how much tissue and how many nuclei the
  region holds: a model that paints every nucleus the same pale brown follows the number of nuclei,
  not the marker.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy import ndimage

from clinimm.staining.compartment import Compartment, cell_signal, compartment_of
from clinimm.staining.image_metrics import psnr, ssim
from clinimm.staining.nuclei import DEFAULT, Nuclei, NucleiSettings, find_nuclei, match_points
from clinimm.staining.optical import (
    DAB,
    EOSIN,
    HAEMATOXYLIN,
    Mask,
    Plane,
    Rgb,
    Signal,
    amounts,
    is_selective,
    optical_density,
    signal_of,
    stain_amount,
)
from clinimm.staining.pairs import StainPair

#: The name under which the real stain stands beside the methods.
REAL = "real"
#: What is taken out of a region's stain amount before methods are compared.
COVARIATES = ("tissue_share", "nuclear_share", "source_haematoxylin")
_GLASS = 0.05


@dataclass(frozen=True)
class BiologySettings:
    """How stains are read.

    Attributes:
        weak, moderate, strong: signal from which a cell (and, for ``weak``, a pixel) counts as
            such. The defaults are QuPath's for the optical density of DAB; a fluorescent signal, in
            0 to 1, is cut at the same values.
        smooth_um: deviation of the Gaussian over which a signal is averaged before it is cut.
        region_um: side of a region.
        least_share: regions of which less is valid are left out.
        cell_um: how far a cell reaches beyond its nucleus, for stains that are not of nuclei alone.
        match_um: nuclei of source and real stain are the same up to this distance.
        nuclei: what a nucleus looks like.
    """

    weak: float = 0.2
    moderate: float = 0.4
    strong: float = 0.6
    smooth_um: float = 1.0
    region_um: float = 100.0
    least_share: float = 0.5
    cell_um: float = 3.0
    match_um: float = 4.0
    nuclei: NucleiSettings = DEFAULT


@dataclass(frozen=True)
class Measured:
    """Measurements of one stain by several methods.

    Attributes:
        stain: which.
        signal: what its amount is measured in.
        methods: names, in order; the real stain is not one of them.
        images: one row a pair and method (``real`` among them): ``unit, pair, method, count,
            density_per_mm2, positive_area, positivity_index, h_score, dice, psnr, ssim``.
        regions: one row a region: ``unit, group, pair, real``, a column a method (mean signal), covariates.
        nuclei: one row a nucleus that source and real stain share: ``unit, group, pair, real``, methods;
            the values are those of its cell's part in which the stain lies (``compartment_of``).
        settings: how it was read.
    """

    stain: str
    signal: Signal
    methods: tuple[str, ...]
    images: pd.DataFrame
    regions: pd.DataFrame
    nuclei: pd.DataFrame
    settings: BiologySettings = field(default_factory=BiologySettings)

    @property
    def selective(self) -> bool:
        """Whether the stain tells cells apart."""
        return is_selective(self.stain)


@dataclass(frozen=True)
class _Reading:
    """One image, read: its signal as it is and smoothed, its nuclei, and what each of their cells holds."""

    raw: Plane
    signal: Plane
    nuclei: Nuclei
    of_cells: Float[np.ndarray, " nucleus"]
    stained: Mask


def measure_stain(
    pairs: Sequence[StainPair],
    stain: str,
    predictions: Mapping[str, Sequence[Rgb]],
    settings: BiologySettings | None = None,
    units: Sequence[str] | None = None,
) -> Measured:
    """Read a stain off the real and the virtual images of some pairs.

    Args:
        pairs: held-out pairs that have the stain; only ``valid`` pixels count.
        stain: which.
        predictions: for each method one image a pair, in the pairs' order.
        settings: how stains are read.
        units: what each pair's values hang together by. Unless given it is the subject; where given
            (blocks of tissue), regions and nuclei are compared within a specimen only, because what
            differs between two or three specimens has no interval.

    Raises:
        ValueError: a method has another number of images than there are pairs, or of another shape.
    """
    settings = settings or BiologySettings()
    _check(pairs, predictions)
    images: list[dict[str, object]] = []
    regions: list[pd.DataFrame] = []
    nuclei: list[pd.DataFrame] = []
    for place, pair in enumerate(pairs):
        unit = pair.subject_id if units is None else units[place]
        own = {REAL: pair.targets[stain], **{name: made[place] for name, made in predictions.items()}}
        readings = {name: _read(rgb, pair, stain, settings) for name, rgb in own.items()}
        head: dict[str, object] = {"unit": unit, "pair": place}
        for name, row in _image_rows(readings, pair, settings):
            alike = {
                "psnr": psnr(own[REAL], own[name], pair.valid),
                "ssim": ssim(own[REAL], own[name], pair.valid),
            }
            images.append({**head, "method": name, **row, **alike})
        group = "all" if units is None else pair.name
        for rows, read in ((regions, _region_rows), (nuclei, _nucleus_rows)):
            rows.append(read(readings, pair, stain, settings).assign(unit=unit, group=group, pair=place))
    return Measured(
        stain=stain,
        signal=signal_of(stain),
        methods=tuple(predictions),
        images=pd.DataFrame(images),
        regions=pd.concat(regions, ignore_index=True),
        nuclei=pd.concat(nuclei, ignore_index=True),
        settings=settings,
    )


def h_score(signal: Float[np.ndarray, " nucleus"], settings: BiologySettings) -> float:
    """McCarty et al. (1985): percent weak + 2 x percent moderate + 3 x percent strong nuclei, 0 to 300."""
    if len(signal) == 0:
        return math.nan
    return float(100 * np.digitize(signal, (settings.weak, settings.moderate, settings.strong)).mean())


def dice(first: Mask, second: Mask) -> float:
    """Twice the overlap over the sum of both areas; NaN where both are empty."""
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else math.nan


def _read(rgb: Rgb, pair: StainPair, stain: str, settings: BiologySettings) -> _Reading:
    signal = signal_of(stain)
    raw = stain_amount(rgb, signal)
    plane = ndimage.gaussian_filter(raw, settings.smooth_um / pair.resolution_um)
    nuclei = inside(find_nuclei(rgb, pair.resolution_um, signal, settings.nuclei), pair.valid)
    whole = compartment_of(stain) is Compartment.CELL
    of_cells = cell_signal(raw, nuclei, settings.cell_um) if whole else nuclei.mean(plane)
    return _Reading(raw, plane, nuclei, of_cells, (plane >= settings.weak) & pair.valid)


def inside(nuclei: Nuclei, valid: Mask) -> Nuclei:
    """The nuclei whose centres are valid, counted anew."""
    at = np.rint(nuclei.centres).astype(np.int64)
    kept = np.concatenate([[False], valid[at[:, 0], at[:, 1]]]) if nuclei.count else np.zeros(1, dtype=bool)
    return Nuclei(np.where(kept, np.cumsum(kept), 0).astype(np.int32)[nuclei.labels], nuclei.resolution_um)


def _image_rows(
    readings: Mapping[str, _Reading], pair: StainPair, settings: BiologySettings
) -> Iterator[tuple[str, dict[str, float]]]:
    pixels = int(pair.valid.sum())
    area_mm2 = pixels * (pair.resolution_um / 1000) ** 2
    real = readings[REAL]
    for name, reading in readings.items():
        count = reading.nuclei.count
        positive = reading.of_cells >= settings.weak
        yield (
            name,
            {
                "count": float(count),
                "density_per_mm2": count / area_mm2 if pixels else math.nan,
                "positive_area": float(reading.stained.sum()) / pixels if pixels else math.nan,
                "positivity_index": float(positive.mean()) if count else math.nan,
                "h_score": h_score(reading.of_cells, settings),
                "dice": dice(reading.stained, real.stained),
            },
        )


def _region_rows(
    readings: Mapping[str, _Reading], pair: StainPair, stain: str, settings: BiologySettings
) -> pd.DataFrame:
    side = max(1, round(settings.region_um / pair.resolution_um))
    valid = pair.valid.astype(np.float64)
    share = _blocks(valid, side) / side**2
    kept = share >= settings.least_share

    def mean(plane: Plane) -> Float[np.ndarray, " region"]:
        return (_blocks(plane * valid, side) / np.maximum(share * side**2, 1))[kept]

    nuclear = readings[REAL].nuclei
    if signal_of(stain) is Signal.FLUORESCENCE:  # a dark ground hides the negative nuclei
        nuclear = find_nuclei(pair.source, pair.resolution_um, None, settings.nuclei)
    source = amounts(pair.source, (HAEMATOXYLIN, _rest_of(pair.source)))
    columns = {name: mean(reading.signal) for name, reading in readings.items()}
    tissue = optical_density(pair.source).mean(axis=-1) > _GLASS
    given = (tissue.astype(np.float32), nuclear.mask.astype(np.float32), source[..., 0])
    return pd.DataFrame({**columns, **dict(zip(COVARIATES, map(mean, given), strict=True))})


def _nucleus_rows(
    readings: Mapping[str, _Reading], pair: StainPair, stain: str, settings: BiologySettings
) -> pd.DataFrame:
    source = inside(find_nuclei(pair.source, pair.resolution_um, None, settings.nuclei), pair.valid)
    real = readings[REAL]
    own, found = match_points(source.centres, real.nuclei.centres, settings.match_um / pair.resolution_um)
    places = source.centres.copy()
    if signal_of(stain) is not Signal.FLUORESCENCE:
        places[own] = real.nuclei.centres[found]

    def held(reading: _Reading) -> Float[np.ndarray, " nucleus"]:
        if compartment_of(stain) is Compartment.CELL:
            return cell_signal(reading.raw, source, settings.cell_um)
        rows, columns = np.rint(places).astype(np.int64).T
        return reading.signal[rows, columns]

    values = {name: held(reading) for name, reading in readings.items()}
    kept = np.ones(source.count, dtype=bool)
    if signal_of(stain) is not Signal.FLUORESCENCE:  # whose dark ground hides the negative nuclei
        kept = _confirmed(values[REAL], own, settings)
    return pd.DataFrame({name: of_cells[kept] for name, of_cells in values.items()})


def _confirmed(
    real: Float[np.ndarray, " nucleus"], matched: np.ndarray, settings: BiologySettings
) -> Bool[np.ndarray, " nucleus"]:
    """Which of the source's nuclei the real stain shows too: as a nucleus, or by its brown.

    A blob of the source that is no nucleus is negative in truth, so a model that merely sees what is
    a nucleus would seem to tell positive from negative. Brown hides the counterstain, so that asking
    for a nucleus alone would keep only the darkest of the positive ones.
    """
    kept = real >= settings.weak
    kept[matched] = True
    return kept


def _rest_of(source: Rgb) -> tuple[float, float, float]:
    """The dye beside haematoxylin in a source: DAB's brown or eosin's pink, whichever explains more."""
    density = optical_density(source[::8, ::8]).reshape(-1, 3)
    left = {}
    for dye in (EOSIN, DAB):
        vectors = np.stack([np.array(one) / np.linalg.norm(one) for one in (HAEMATOXYLIN, dye)])
        found = np.maximum(density @ np.linalg.pinv(vectors), 0)
        left[dye] = float(((density - found @ vectors) ** 2).sum())
    return min(left, key=lambda dye: left[dye])


def _blocks(plane: Float[np.ndarray, "row column"], side: int) -> Float[np.ndarray, "row column"]:
    """Sums over squares; what does not fill a square at the far edges is left out, unless nothing would."""
    rows, columns = (max(1, length // side) for length in plane.shape)
    cut = plane[: rows * side, : columns * side]
    by_row = np.add.reduceat(cut, np.arange(0, cut.shape[0], side), axis=0)
    return np.add.reduceat(by_row, np.arange(0, cut.shape[1], side), axis=1)


def _check(pairs: Sequence[StainPair], predictions: Mapping[str, Sequence[Rgb]]) -> None:
    for name, made in predictions.items():
        if name == REAL or name in COVARIATES or name in ("unit", "group", "pair"):
            raise ValueError(f"a method may not be called {name!r}: it is a column of the tables.")
        if len(made) != len(pairs):
            raise ValueError(f"{name} has {len(made)} images for {len(pairs)} pairs; one a pair is needed.")
        for pair, image in zip(pairs, made, strict=True):
            if image.shape != pair.source.shape or image.dtype != np.uint8:
                raise ValueError(
                    f"{name} gave {image.dtype} {image.shape} for {pair.name}; "
                    f"uint8 {pair.source.shape} is needed."
                )
