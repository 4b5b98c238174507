"""Which nuclei are positive for a marker, and how strongly: the rule that a model could learn, or not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from clinimm.simulate.noise import smooth_field
from clinimm.simulate.tissue_cells import CELL_TYPES, Nuclei
from clinimm.simulate.tissue_plan import MARKERS, Marker, StainPlan

#: DAB optical densities from which a cell counts as weak, moderate and strong (QuPath's defaults).
INTENSITY_STEPS = (0.2, 0.4, 0.6)
#: Intensity of positive cells is drawn between these; negative cells have none.
WEAKEST, STRONGEST = 0.25, 0.90

_FLIPPED = 0.02
_THRESHOLD = 0.55
_FACT_SHIFT = 0.30
_SOFTNESS = 0.04
_REGION_UM = 60.0
_REGION_SHARE = 0.35
_RATE_CONCENTRATION = 20.0


@dataclass(frozen=True)
class Positivity:
    """Of every nucleus in the table's order: whether it is positive, and its DAB optical density."""

    positive: Bool[np.ndarray, " nucleus"]
    intensity: Float32[np.ndarray, " nucleus"]

    def take(self, which: np.ndarray) -> Positivity:
        """Of some nuclei, by mask or index."""
        return Positivity(self.positive[which], self.intensity[which])


def morphology(nuclei: Nuclei) -> Float32[np.ndarray, " nucleus"]:
    """0 to 1: how large and coarse a nucleus is for its type. H&E shows all of it."""
    low = np.array([cell.radius_um[0] for cell in CELL_TYPES], np.float32)[nuclei.kind]
    high = np.array([cell.radius_um[1] for cell in CELL_TYPES], np.float32)[nuclei.kind]
    size = (nuclei.radius_um - low) / (high - low)
    return np.asarray(0.5 * size + 0.5 * nuclei.chromatin, dtype=np.float32)


def decide_positivity(
    nuclei: Nuclei, stain: StainPlan, extent_um: float, um_per_pixel: float, generator: np.random.Generator
) -> Positivity:
    """Decide every nucleus by the stain's rule.

    Args:
        nuclei: positions in pixels of a canvas that is ``extent_um`` wide.
        stain: marker, rule and fact.
        extent_um: side of the canvas.
        um_per_pixel: resolution.
        generator: of the tosses.
    """
    marker = MARKERS[stain.marker]
    if stain.rule == "undetermined":
        return _tossed(nuclei, marker, extent_um, um_per_pixel, generator)
    shift = 0.0
    if stain.rule == "by_record":
        shift = -_FACT_SHIFT if stain.fact else _FACT_SHIFT
    return _seen(nuclei, marker, shift, generator)


def _seen(nuclei: Nuclei, marker: Marker, shift: float, generator: np.random.Generator) -> Positivity:
    """Target cells, those of a graded marker above a threshold of morphology; few are flipped."""
    score, count = morphology(nuclei), len(nuclei)
    margin = score - (_THRESHOLD + shift) + _SOFTNESS * generator.standard_normal(count)
    meant = nuclei.of_kind(*marker.targets)
    if marker.graded:
        meant &= margin > 0
    flipped = generator.random(count) < _FLIPPED
    strength = np.clip(0.5 + 1.4 * margin, 0, 1) if marker.graded else generator.random(count)
    strength = np.where(meant, strength + 0.08 * generator.standard_normal(count), generator.random(count))
    return _made(meant ^ flipped, strength)


def _tossed(
    nuclei: Nuclei, marker: Marker, extent_um: float, um_per_pixel: float, generator: np.random.Generator
) -> Positivity:
    """A toss whose rate differs between slides and regions, and knows nothing of any cell.

    Slide: the rate is a Beta variable. Region: a smooth field joins the nuclei's own tosses in a
    Gaussian copula, which leaves the rate as it is.
    """
    from scipy.special import ndtri

    rate = generator.beta(
        marker.usual_rate * _RATE_CONCENTRATION, (1 - marker.usual_rate) * _RATE_CONCENTRATION
    )
    step_um = 4.0
    region = smooth_field(generator, int(extent_um / step_um) + 1, step_um, _REGION_UM)
    cells = np.stack([nuclei.row, nuclei.column]) * np.float32(um_per_pixel / step_um)
    rows, columns = np.clip(cells.astype(np.intp), 0, len(region) - 1)
    own = generator.standard_normal(len(nuclei))
    toss = np.sqrt(_REGION_SHARE) * region[rows, columns] + np.sqrt(1 - _REGION_SHARE) * own
    return _made(toss < ndtri(rate), generator.random(len(nuclei)))


def _made(positive: np.ndarray, strength: np.ndarray) -> Positivity:
    intensity = WEAKEST + (STRONGEST - WEAKEST) * np.clip(strength, 0, 1)
    return Positivity(positive, np.where(positive, intensity, 0.0).astype(np.float32))


def positivity_index(positivity: Positivity) -> float:
    """Share of positive nuclei, 0 to 1; not a number where there are none."""
    return float(positivity.positive.mean()) if len(positivity.positive) else float("nan")


def h_score(positivity: Positivity) -> float:
    """Percentage of weak, plus twice that of moderate, plus thrice that of strong cells: 0 to 300.

    McCarty et al. 1985. Not a number where there are no nuclei.
    """
    if not len(positivity.intensity):
        return float("nan")
    return float(100 * np.digitize(positivity.intensity, INTENSITY_STEPS).mean())
