"""Small pairs of known deformation, drawn once a session."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, UInt8
from scipy.spatial import cKDTree

from clinimm.simulate.misregister import Misregistration
from clinimm.simulate.tissue import draw_tissue
from clinimm.simulate.tissue_plan import StainPlan, TissuePlan

UM = 0.5


@dataclass(frozen=True)
class Toy:
    source: UInt8[np.ndarray, "row column 3"]
    target: UInt8[np.ndarray, "row column 3"]
    source_points: Float[np.ndarray, "point 2"]
    target_points: Float[np.ndarray, "point 2"]


@lru_cache
def toy(
    seed: int = 0,
    shift_um: tuple[float, float] = (12.0, -20.0),
    degrees: float = 8.0,
    bend_um: float = 5.0,
    pixels: int = 320,
) -> Toy:
    """H&E and a moved Ki-67 stain of the same section, with landmarks in µm."""
    move = Misregistration(shift_um, degrees, bend_um, seed + 1)
    plan = TissuePlan(pixels=pixels, um_per_pixel=UM, seed=seed, stains=(StainPlan("KI67", move=move),))
    tissue = draw_tissue(plan)
    section = tissue.sections["KI67"]
    nuclei = np.stack([section.nuclei.column, section.nuclei.row], axis=-1).astype(float)
    source, target = counterparts(nuclei, section.offset())
    return Toy(tissue.he, section.rgb, (source + 0.5) * UM, (target + 0.5) * UM)


def counterparts(
    points: Float[np.ndarray, "point 2"], offset: Float[np.ndarray, "2 row column"]
) -> tuple[Float[np.ndarray, "point 2"], Float[np.ndarray, "point 2"]]:
    """Points (column, row) of the source that the target shows, and where; by inversion on the pixel grid.

    ``offset`` leads from each target pixel to its place in the source.
    """
    row, column = np.indices(offset.shape[1:])
    place = np.stack([column + offset[0], row + offset[1]], axis=-1)
    away, index = cKDTree(place.reshape(-1, 2)).query(points)
    near = np.unravel_index(index, row.shape)
    along = np.stack(
        [np.gradient(place[..., axis])[::-1] for axis in (0, 1)]
    )  # (x or y, by x or y, row, column)
    slope = np.moveaxis(np.array(along)[(slice(None), slice(None), *near)], -1, 0)
    rest = np.linalg.solve(slope, (points - place[near])[..., None])[..., 0]
    inside = away < 1
    return points[inside], (np.stack(near[::-1], axis=-1) + rest)[inside]


def as_fluorescence(rgb: UInt8[np.ndarray, "row column 3"]) -> UInt8[np.ndarray, "row column 3"]:
    """The nuclei bright on black, on a scale of its own."""
    dark = 255 - rgb[..., 0].astype(float)
    grey = np.clip((dark - np.percentile(dark, 20)).clip(0) ** 1.3 / 4, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)
