"""How much of each stain lies where: haematoxylin and eosin, or haematoxylin and DAB.

Amounts are optical densities on the whole canvas. Both pictures of one section share its nuclei.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int32

from clinimm.simulate.noise import enlarge, grain, repeat, smooth_field
from clinimm.simulate.tissue_cells import CELL_TYPES, GLAND, TUMOUR
from clinimm.simulate.tissue_layout import Layout
from clinimm.simulate.tissue_nuclei import DrawnNuclei
from clinimm.simulate.tissue_plan import Compartment
from clinimm.simulate.tissue_positivity import Positivity

_HALF = 2
_COUNTERSTAIN = 0.55
_UNDER_DAB = 0.6
_DAB_HAZE = 0.025
_EVEN_REACH_UM = 5.0


@dataclass(frozen=True)
class Cells:
    """To which cell each half-size pixel belongs.

    Attributes:
        owner: position of the nearest nucleus in the table.
        cytoplasm: within that cell and outside its nucleus.
        border: where one cell meets another.
    """

    owner: Int32[np.ndarray, "half half"]
    cytoplasm: Bool[np.ndarray, "half half"]
    border: Float32[np.ndarray, "half half"]


@dataclass(frozen=True)
class Ground:
    """Tissue between the nuclei, at half size."""

    eosin: Float32[np.ndarray, "half half"]
    haematoxylin: Float32[np.ndarray, "half half"]
    tissue: Float32[np.ndarray, "half half"]
    granules: Float32[np.ndarray, "half half"]


def find_cells(drawn: DrawnNuclei, layout: Layout, um_per_pixel: float, even: bool = False) -> Cells:
    """Give every pixel to the nearest nucleus, as far as that type's cytoplasm reaches.

    Args:
        drawn: nuclei on the canvas.
        layout: where tissue and epithelium are.
        um_per_pixel: resolution.
        even: all cells reach equally far, so that where a stain could lie tells no type.
    """
    from scipy.ndimage import distance_transform_edt

    small = drawn.labels[::_HALF, ::_HALF]
    place = np.arange(len(small), dtype=np.float32) * np.float32(_HALF / layout.step)
    solid = _rounded(layout.solid, place) > 0.5
    if not len(drawn.table):
        nobody = np.zeros(small.shape, np.int32)
        return Cells(nobody, nobody > 0, nobody.astype(np.float32))
    away, (rows, columns) = distance_transform_edt(small == 0, return_indices=True)
    owner = small[rows, columns] - 1
    reach = np.array([cell.cytoplasm_um for cell in CELL_TYPES], np.float32)[drawn.table.kind]
    epithelial = np.isin(drawn.table.kind, (TUMOUR, GLAND))[owner]
    inside = enlarge(layout.depth_um, place) > 0
    if even:
        near = (away * (_HALF * um_per_pixel) < _EVEN_REACH_UM) & solid
    else:
        near = (away * (_HALF * um_per_pixel) < reach[owner]) & solid & (inside | ~epithelial)
    border = _outlines(owner, near)
    return Cells(owner, near & (small == 0), border)


def _outlines(
    owner: Int32[np.ndarray, "half half"], near: Bool[np.ndarray, "half half"]
) -> Float32[np.ndarray, "half half"]:
    """1 on both sides of where a cell ends or meets another."""
    whose = np.where(near, owner, -1)
    border = np.zeros(owner.shape, np.float32)
    down, right = whose[:-1] != whose[1:], whose[:, :-1] != whose[:, 1:]
    for edge in (border[:-1], border[1:]):
        edge[down] = 1
    for edge in (border[:, :-1], border[:, 1:]):
        edge[right] = 1
    return border * near


def draw_ground(layout: Layout, um_per_pixel: float, generator: np.random.Generator) -> Ground:
    """Collagen between the cells, cytoplasm of epithelium, empty lumens and glass."""
    side = (layout.side + _HALF - 1) // _HALF
    pixel_um = _HALF * um_per_pixel
    place = np.arange(side, dtype=np.float32) * np.float32(_HALF / layout.step)

    def up(field: np.ndarray) -> np.ndarray:
        return enlarge(field.astype(np.float32), place)

    across, along = up(layout.fibre_place_um[0]), up(layout.fibre_place_um[1])
    fibres = _fibres(across, along, generator)
    mottled = smooth_field(generator, side, pixel_um, 9.0)
    granules = grain(generator, side, 0.7 / pixel_um)
    depth, gland = up(layout.depth_um), up(layout.gland)
    epithelium = np.clip(depth / 1.5 + 0.5, 0, 1)
    stroma = 0.34 + 0.11 * fibres + 0.05 * mottled
    stroma *= np.clip((fibres + 0.3 * mottled + 1.9) * 1.2, 0.15, 1)  # clefts between the bundles
    cell = 0.25 + 0.03 * mottled + 0.025 * granules + 0.05 * gland
    cleft = np.clip(1 - np.abs(depth + 2.0) / 1.8, 0, 1) * np.clip(mottled - 0.2, 0, 1)
    eosin = (stroma * (1 - epithelium) + cell * epithelium) * (1 - 0.9 * cleft)
    blue = 0.03 * (1 - epithelium) + epithelium * (0.10 - 0.05 * gland + 0.02 * granules)
    tissue = _rounded(layout.solid, place)
    return Ground(
        eosin=np.clip(eosin, 0, None) * tissue,
        haematoxylin=np.clip(blue, 0, None) * tissue,
        tissue=tissue,
        granules=granules,
    )


def _rounded(
    where: Bool[np.ndarray, "cell cell"], place: Float32[np.ndarray, " half"]
) -> Float32[np.ndarray, "half half"]:
    """A map's regions with smooth outlines, 0 to 1, on the finer grid."""
    from scipy.ndimage import gaussian_filter

    soft = enlarge(gaussian_filter(where.astype(np.float32), 1.3), place)
    return np.clip((soft - 0.5) * 4 + 0.5, 0, 1)


def _fibres(
    across: Float32[np.ndarray, "half half"],
    along: Float32[np.ndarray, "half half"],
    generator: np.random.Generator,
) -> Float32[np.ndarray, "half half"]:
    """Streaks that run along the fibres: noise that is stretched, and looked up where they bend."""
    from scipy.ndimage import gaussian_filter, map_coordinates

    sum_of = np.zeros(across.shape, np.float32)
    for width, length, weight in ((0.8, 8.0, 0.8), (2.2, 18.0, 0.6)):
        streaks = gaussian_filter(
            generator.standard_normal((256, 256), dtype=np.float32), (width, length), mode="wrap"
        )
        streaks *= np.float32(weight) / streaks.std()
        sum_of += map_coordinates(streaks, [across * 1.3, along * 1.3], order=1, mode="grid-wrap")
    return sum_of


def paint_he(
    drawn: DrawnNuclei, ground: Ground, cells: Cells
) -> tuple[Float32[np.ndarray, "row column"], Float32[np.ndarray, "row column"]]:
    """Haematoxylin and eosin of a section."""
    side = len(drawn.labels)
    eosin = repeat(ground.eosin * (1 - 0.15 * cells.border * (ground.tissue > 0.5)), _HALF, side)
    eosin = eosin * np.where(drawn.labels > 0, np.float32(0.45), np.float32(1))
    haematoxylin = np.maximum(repeat(ground.haematoxylin, _HALF, side), drawn.haematoxylin)
    return haematoxylin, eosin


def paint_ihc(
    drawn: DrawnNuclei, ground: Ground, cells: Cells, positivity: Positivity, compartment: Compartment
) -> tuple[Float32[np.ndarray, "row column"], Float32[np.ndarray, "row column"]]:
    """Haematoxylin (the counterstain) and DAB of a section."""
    side = len(drawn.labels)
    ground_blue = 0.05 * ground.tissue + 0.10 * ground.eosin
    haematoxylin = np.maximum(
        repeat(ground_blue, _HALF, side), drawn.haematoxylin * np.float32(_COUNTERSTAIN)
    )
    uneven = 1 + np.float32(0.22) * ground.granules
    haze = np.float32(_DAB_HAZE) * ground.tissue * uneven
    lookup = np.concatenate([[0], positivity.intensity]).astype(np.float32)
    if compartment == "nucleus":
        brown = lookup[drawn.labels] * repeat(uneven, _HALF, side)
        haematoxylin = haematoxylin * np.where(brown > 0, np.float32(_UNDER_DAB), np.float32(1))
        return haematoxylin, np.maximum(brown, repeat(haze, _HALF, side))
    if not len(drawn.table):
        return haematoxylin, repeat(haze, _HALF, side)
    own = lookup[cells.owner + 1] * ground.tissue
    body = 0.9 * cells.cytoplasm + 0.35 * cells.border if compartment == "cytoplasm" else 1.1 * cells.border
    return haematoxylin, repeat(np.maximum(own * body * uneven, haze), _HALF, side)
