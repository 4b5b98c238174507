"""Does the generated tile show the same nuclei as the tile that it was made from?

Two looks, both a tile alone:

* **nuclei**: those of the output with nothing in the source at their place (``invented``), and the
  other way round (``lost``). A nucleus counts by how little the other image answers, so that one
  on the verge of detection is not a hallucination;
* **re-stain consistency**: a small regression, fitted on real pairs of the training subjects,
  draws the source's nuclear structure from the stained tile. Where the drawn structure and the
  source's differ over the area of a nucleus, one of them holds something that the other does not.

The idea of checking a generated image by the way back is that of
CycleGAN (Zhu et al. 2017, arXiv:1703.10593), here with a regression too small to hide anything in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from scipy.ndimage import gaussian_filter, maximum_filter

from clinimm.core.errors import DataError
from clinimm.staining.structure_grid import Places, Plane, StructureGrid, find_peaks, nuclear_response

#: Radius of a usual nucleus of epithelium or a lymphocyte, micrometres.
NUCLEUS_RADIUS_UM = 3.5
#: A peak counts as a nucleus from this share of the usual nucleus's response on.
_DETECTED = 0.5
#: Below this share of the usual response the other image holds no nucleus there, at the next none at all.
_FULL, _NONE = 0.45, 0.15
_PIXELS_A_TILE = 4000
_RIDGE = 1e-3
_EDGE = 0.95
_SMALLEST_NUCLEI, _SMALLEST_RESIDUAL = 0.5, 0.01


@dataclass(frozen=True)
class Discrepancy:
    """Where source and output do not show the same.

    Attributes:
        source_nuclei, output_nuclei: nuclei found in each.
        invented: (nucleus, 2) row and column of output nuclei that the source does not show.
        lost: the same of source nuclei that the output does not show.
        invented_weight, lost_weight: how many those are, each counted by how little the other
            image answers.
        residual: largest mean difference of structure over the area of a nucleus, optical density.
    """

    source_nuclei: int
    output_nuclei: int
    invented: Places
    lost: Places
    invented_weight: float
    lost_weight: float
    residual: float


@dataclass(frozen=True)
class HallucinationCheck:
    """A stain's way back to its source, and how far tuning tiles stray from it.

    Attributes:
        weights: of ``_look``: stained tile -> structure of the source.
        radius_px: a usual nucleus, pixels of the tile.
        source_response, output_response: the usual nucleus's response in source and in what the
            regression draws.
        agreement: correlation of drawn and real structure on the tuning subjects' real pairs; near
            0 the stain says nothing about nuclei, and neither does this check.
        edges: what 95 in 100 tuning tiles stay below: invented, lost, residual.
    """

    weights: tuple[float, ...]
    radius_px: float
    source_response: float
    output_response: float
    agreement: float
    edges: tuple[float, float, float]

    def score(
        self, source: UInt8[np.ndarray, "row column 3"], output: UInt8[np.ndarray, "row column 3"]
    ) -> float:
        """How inconsistent a generated tile is; 1 is the edge of what tuning tiles show."""
        found = self.compare(source, output)
        parts = (found.invented_weight, found.lost_weight, found.residual)
        return max(part / edge for part, edge in zip(parts, self.edges, strict=True))

    def compare(
        self, source: UInt8[np.ndarray, "row column 3"], output: UInt8[np.ndarray, "row column 3"]
    ) -> Discrepancy:
        """Nuclei and structure of both, side by side.

        Raises:
            DataError: the tiles differ in size.
        """
        if source.shape != output.shape:
            raise DataError(f"source {source.shape} and output {output.shape} differ in size.")
        grid = StructureGrid.of(self.radius_px)
        structure, drawn = grid.structure(source), self.draw_back(output)
        here = nuclear_response(structure, grid.radius) / self.source_response
        there = nuclear_response(drawn, grid.radius) / self.output_response
        of_source, of_output = (find_peaks(field, grid.radius, _DETECTED) for field in (here, there))
        lost = _absence(there, of_source, grid.radius)
        invented = _absence(here, of_output, grid.radius)
        return Discrepancy(
            len(of_source),
            len(of_output),
            grid.places(of_output[invented > 0.5]),
            grid.places(of_source[lost > 0.5]),
            float(invented.sum()),
            float(lost.sum()),
            _largest_residual(structure - drawn, grid.radius),
        )

    def nuclei(self, source: UInt8[np.ndarray, "row column 3"]) -> Places:
        """(nucleus, 2) row and column of the nuclei of a source."""
        grid = StructureGrid.of(self.radius_px)
        response = nuclear_response(grid.structure(source), grid.radius) / self.source_response
        return grid.places(find_peaks(response, grid.radius, _DETECTED))

    def draw_back(self, output: UInt8[np.ndarray, "row column 3"]) -> Plane:
        """The source's structure as the stained tile tells it, optical density of red, reduced."""
        drawn = StructureGrid.of(self.radius_px).look(output) @ np.asarray(self.weights, dtype=np.float32)
        return np.asarray(drawn, dtype=np.float32)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        values = {name: getattr(self, name) for name in _PLAIN}
        return {**values, "weights": list(self.weights), "edges": list(self.edges)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> HallucinationCheck:
        """The inverse of ``to_json``."""
        first, second, third = value["edges"]
        plain = {name: value[name] for name in _PLAIN}
        return cls(weights=tuple(value["weights"]), edges=(first, second, third), **plain)


_PLAIN = ("radius_px", "source_response", "output_response", "agreement")
#: Source and generated stain, uint8.
Pair = tuple[np.ndarray, np.ndarray]
#: Source, real stain, and where they lie on each other.
RealPair = tuple[np.ndarray, np.ndarray, np.ndarray]


def fit_check(
    train: Sequence[RealPair],
    tuning: Sequence[RealPair],
    generated: Sequence[Pair],
    resolution_um: float,
    seed: int = 0,
) -> HallucinationCheck:
    """Fit the way back on training pairs and its edges on generated tiles of tuning subjects.

    Args:
        train: (source, real stain, valid) of training subjects.
        tuning: the same of tuning subjects; they give the agreement.
        generated: (source, generated stain) of tuning subjects; they give the edges.
        resolution_um: micrometres a pixel.
        seed: of the pixels that the regression sees.

    Raises:
        DataError: one of the three holds no pair.
    """
    for name, pairs in (("training", train), ("tuning", tuning)):
        if not any(valid.any() for *_, valid in pairs):
            raise DataError(f"no {name} tile has a valid pixel, so the nuclei of a stain cannot be checked.")
    if not generated:
        raise DataError("there is no generated tuning tile, so the nuclei of a stain cannot be checked.")
    radius = NUCLEUS_RADIUS_UM / resolution_um
    grid = StructureGrid.of(radius)
    weights = _fit_way_back(train, grid, seed)
    drawn = [grid.look(stain) @ weights for _, stain, _ in train]
    real = [grid.structure(source) for source, _, _ in train]
    blank = HallucinationCheck(
        tuple(float(f"{weight:.7g}") for weight in weights),
        radius,
        _usual_response(real, real, grid.radius),
        _usual_response(real, drawn, grid.radius),
        _agreement(tuning, weights, grid),
        (1.0, 1.0, 1.0),
    )
    found = [blank.compare(source, output) for source, output in generated]
    parts = np.array([[one.invented_weight, one.lost_weight, one.residual] for one in found])
    least = (_SMALLEST_NUCLEI, _SMALLEST_NUCLEI, _SMALLEST_RESIDUAL)
    first, second, third = np.maximum(np.quantile(parts, _EDGE, axis=0), least)
    edges = (float(first), float(second), float(third))
    return replace(blank, edges=edges)


def _absence(response: Plane, places: Places, radius_px: float) -> Float[np.ndarray, " nucleus"]:
    """0 where the response near a place is a nucleus's, 1 where there is none."""
    near = maximum_filter(response, 2 * max(1, round(0.6 * radius_px)) + 1)
    answer = near[places[:, 0], places[:, 1]] if len(places) else np.zeros(0)
    return np.clip((_FULL - answer) / (_FULL - _NONE), 0, 1)


def _largest_residual(difference: Plane, radius_px: float) -> float:
    """Largest mean difference over a nucleus, the tile's own mean difference taken off."""
    local = gaussian_filter(difference, radius_px / 2) - np.float32(difference.mean())
    rim = max(1, round(radius_px))
    size = max(1, round(np.pi * radius_px**2 / 2))
    inside = np.abs(local[rim:-rim, rim:-rim]).ravel()
    return float(np.partition(inside, -size)[-size:].mean())


def _fit_way_back(pairs: Sequence[RealPair], grid: StructureGrid, seed: int) -> Float[np.ndarray, " look"]:
    """Ridge regression on up to as many valid pixels of each pair."""
    generator = np.random.default_rng(seed)
    size = grid.look(pairs[0][1]).shape[-1]
    gram, moment, count = np.zeros((size, size)), np.zeros(size), 0
    for source, stain, valid in pairs:
        target = grid.structure(source).ravel()
        picked = generator.permutation(np.flatnonzero(grid.inside(valid)))[:_PIXELS_A_TILE]
        look = grid.look(stain).reshape(-1, size)[picked].astype(float)
        gram += look.T @ look
        moment += look.T @ target[picked]
        count += len(picked)
    penalty = _RIDGE * np.diag(np.diag(gram)) / np.sqrt(count)
    penalty[0, 0] = 0.0
    return np.asarray(np.linalg.solve(gram + penalty, moment), dtype=np.float32)


def _usual_response(real: Sequence[Plane], drawn: Sequence[Plane], radius_px: float) -> float:
    """Median response of ``drawn`` at the clear nuclei of ``real``."""
    found = []
    for structure, other in zip(real, drawn, strict=True):
        response = nuclear_response(structure, radius_px)
        clear = float(np.quantile(response, 0.95))
        places = find_peaks(response, radius_px, max(clear, 1e-3))
        found.append(nuclear_response(other, radius_px)[places[:, 0], places[:, 1]])
    values = np.concatenate(found)
    return max(float(np.median(values)), 1e-3) if len(values) else 1.0


def _agreement(pairs: Sequence[RealPair], weights: np.ndarray, grid: StructureGrid) -> float:
    real = np.concatenate([grid.structure(source)[grid.inside(valid)] for source, _, valid in pairs])
    drawn = np.concatenate([(grid.look(stain) @ weights)[grid.inside(valid)] for _, stain, valid in pairs])
    if min(real.std(), drawn.std()) < 1e-6:
        return 0.0
    return float(np.corrcoef(real, drawn)[0, 1])
