"""Where nuclei lie in a block, and the pixels of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int32

from clinimm.simulate.noise import grain
from clinimm.simulate.tissue_cells import (
    CELL_TYPES,
    GLAND,
    LYMPHOCYTE,
    STROMA,
    TUMOUR,
    CellType,
    Nuclei,
    join,
)
from clinimm.simulate.tissue_layout import Layout
from clinimm.simulate.tissue_plan import TissuePlan

_SPINDLES_PER_MM2 = 2300.0
_LYMPHOCYTES_IN_EPITHELIUM = 0.12
_TUMOUR_SPACING_UM = 9.2
_GLAND_SPACING_UM = 4.6
_BASAL_UM = (2.0, 7.5)
_GAP_UM = 0.5
_GAP_PIXELS = 1.25  # so that nuclei never touch in the label image
_TEXTURE_UM = 0.7
_NUCLEOLUS_UM = 0.85
_LOBE = np.float32(0.05)


@dataclass(frozen=True)
class DrawnNuclei:
    """Nuclei on the canvas.

    Attributes:
        table: those that were placed; positions in canvas pixels.
        labels: 0, or 1 + the nucleus's position in the table.
        haematoxylin: what the nuclei take up, optical density.
    """

    table: Nuclei
    labels: Int32[np.ndarray, "row column"]
    haematoxylin: Float32[np.ndarray, "row column"]


def propose_nuclei(plan: TissuePlan, layout: Layout, generator: np.random.Generator) -> Nuclei:
    """Candidates of all types, more than there is room for; epithelium first."""
    firm = layout.firm
    stroma = firm & (layout.depth_um < -2)
    tumour = _jittered_grid(layout, _TUMOUR_SPACING_UM / plan.um_per_pixel, 0.22, generator)
    nest = layout.at(firm & ~layout.gland & (layout.depth_um > 3), tumour)
    gland = _jittered_grid(layout, _GLAND_SPACING_UM / plan.um_per_pixel, 0.25, generator)
    depth = layout.depth_um
    basal = layout.at(firm & layout.gland & (depth > _BASAL_UM[0]) & (depth < _BASAL_UM[1]), gland)
    mm2 = (layout.side * plan.um_per_pixel / 1000) ** 2
    round_cells = _scattered(layout, 3 * plan.lymphocytes_per_mm2 * mm2, generator)
    chance = layout.at(np.where(depth < 0, 1.0, _LYMPHOCYTES_IN_EPITHELIUM) * firm, round_cells)
    wanted = generator.random(len(round_cells)) * 3 < chance * layout.at(layout.crowding, round_cells)
    spindles = _scattered(layout, _SPINDLES_PER_MM2 * mm2, generator)
    spindles = spindles[layout.at(stroma, spindles)]
    return join(
        [
            _of_type(TUMOUR, tumour[nest], layout, generator),
            _of_type(GLAND, gland[basal], layout, generator),
            _of_type(LYMPHOCYTE, round_cells[wanted], layout, generator),
            _of_type(STROMA, spindles, layout, generator),
        ]
    )


def place_nuclei(
    candidates: Nuclei, side: int, um_per_pixel: float, generator: np.random.Generator
) -> DrawnNuclei:
    """Place candidates in their order, each only where it touches none that was placed before."""
    labels = np.zeros((side, side), np.int32)
    haematoxylin = np.zeros((side, side), np.float32)
    kept: list[int] = []
    for start, stamps in _stamps(candidates, um_per_pixel, generator):
        for position, (row, column, inside, wide, amount) in enumerate(
            zip(*stamps, strict=True), start=start
        ):
            size = len(inside)
            taken = labels[row : row + size, column : column + size]
            if taken.shape != inside.shape or taken[wide].any():
                continue
            kept.append(position)
            taken[inside] = len(kept)
            window = haematoxylin[row : row + size, column : column + size]
            np.maximum(window, amount, out=window)
    return DrawnNuclei(candidates.take(np.array(kept, np.intp)), labels, haematoxylin)


def _jittered_grid(
    layout: Layout, spacing: float, jitter: float, generator: np.random.Generator
) -> Float32[np.ndarray, "point 2"]:
    """(column, row) of a hexagonal grid whose points are moved at random, a share of its spacing."""
    rows = np.arange(0, layout.side, spacing * np.sqrt(3) / 2)
    columns = np.arange(0, layout.side, spacing)
    x = columns[None, :] + (np.arange(len(rows)) % 2)[:, None] * spacing / 2
    grid = np.stack(np.broadcast_arrays(x, rows[:, None]), axis=-1).reshape(-1, 2)
    moved = grid + spacing * jitter * generator.standard_normal(grid.shape)
    return generator.permutation(moved).astype(np.float32)


def _scattered(
    layout: Layout, count: float, generator: np.random.Generator
) -> Float32[np.ndarray, "point 2"]:
    return generator.uniform(0, layout.side, size=(round(count), 2)).astype(np.float32)


def _of_type(kind: int, points: np.ndarray, layout: Layout, generator: np.random.Generator) -> Nuclei:
    """Size, shape and chromatin of nuclei at canvas points."""
    cell, count = CELL_TYPES[kind], len(points)
    own = generator.random((3, count), dtype=np.float32)
    chromatin = own[0]
    angle = np.float32(np.pi) * generator.random(count, dtype=np.float32)
    size = own[1]
    if kind == TUMOUR:
        # Activity makes nuclei both large and coarse, so that either foretells the other.
        chromatin = np.clip(layout.at(layout.activity, points) + 0.55 * (own[0] - 0.5), 0, 1)
        size = np.clip(0.6 * chromatin + 0.55 * own[1] - 0.1, 0, 1)
    directed = {GLAND: layout.normal, STROMA: layout.fibre_angle}.get(kind)
    if directed is not None:
        angle = layout.at(directed, points) + np.float32(0.5) * (angle / np.float32(np.pi) - np.float32(0.5))
    low, high = cell.radius_um
    short, long = cell.elongation
    return Nuclei(
        column=points[:, 0],
        row=points[:, 1],
        radius_um=(low + (high - low) * size).astype(np.float32),
        elongation=(short + (long - short) * own[2]).astype(np.float32),
        angle=angle.astype(np.float32),
        kind=np.full(count, kind, np.int8),
        chromatin=chromatin.astype(np.float32),
    )


def _stamps(
    candidates: Nuclei, um_per_pixel: float, generator: np.random.Generator
) -> Iterator[tuple[int, tuple[np.ndarray, ...]]]:
    """Type by type: the position of its first nucleus, and its nuclei's pixels."""
    texture = grain(generator, 256, _TEXTURE_UM / um_per_pixel)
    start = 0
    for kind, cell in enumerate(CELL_TYPES):
        nuclei = candidates.take(candidates.of_kind(kind))
        yield start, _stamp(nuclei, cell, texture, um_per_pixel, generator)
        start += len(nuclei)


def _stamp(
    nuclei: Nuclei, cell: CellType, texture: np.ndarray, um_per_pixel: float, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, Bool[np.ndarray, "n s s"], Bool[np.ndarray, "n s s"], np.ndarray]:
    """First row and column of each nucleus's window, its pixels, those with a gap around, its amount."""
    count = len(nuclei)
    longest = cell.radius_um[1] * np.sqrt(cell.elongation[1]) * 1.15
    half = int(np.ceil(longest / um_per_pixel)) + 3
    place = np.arange(-half, half + 1, dtype=np.float32)
    row, column = np.round(nuclei.row).astype(int), np.round(nuclei.column).astype(int)
    y = place[None, :, None] - (nuclei.row - row).astype(np.float32)[:, None, None]
    x = place[None, None, :] - (nuclei.column - column).astype(np.float32)[:, None, None]
    rho, radius = _polar(nuclei, x, y, um_per_pixel, generator)
    inside = rho <= 1
    gap = max(_GAP_UM / um_per_pixel, _GAP_PIXELS)
    wide = rho <= 1 + gap * np.sqrt(nuclei.elongation)[:, None, None] / radius
    corner = generator.integers(0, 256 - len(place), size=(2, count))
    patch = texture[
        corner[0][:, None, None] + np.arange(len(place))[:, None],
        corner[1][:, None, None] + np.arange(len(place)),
    ]
    coarse = nuclei.chromatin[:, None, None]
    unevenness = 1 + cell.texture * (0.5 + coarse) * patch
    unevenness += cell.rim * np.clip(1 - np.abs(rho - 0.9) * 5, 0, 1) * (1 - 0.6 * coarse)
    amount = (cell.haematoxylin + cell.chromatin * coarse) * unevenness
    if cell.nucleolus:
        amount += cell.nucleolus * _nucleoli(x, y, radius, um_per_pixel, generator)
    edge = np.clip((1 - rho) * radius + 0.5, 0, 1)
    return row - half, column - half, inside, wide, (np.maximum(amount, 0.1) * edge).astype(np.float32)


def _polar(
    nuclei: Nuclei, x: np.ndarray, y: np.ndarray, um_per_pixel: float, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Distance from the centre as a share of the outline's, and the mean radius in pixels."""
    lobes = generator.uniform(0, 2 * np.pi, size=(2, len(nuclei), 1, 1)).astype(np.float32)
    cosine, sine = np.cos(nuclei.angle)[:, None, None], np.sin(nuclei.angle)[:, None, None]
    radius = (nuclei.radius_um / np.float32(um_per_pixel))[:, None, None]
    stretch = np.sqrt(nuclei.elongation)[:, None, None]
    along = (x * cosine + y * sine) / (radius * stretch)
    across = (y * cosine - x * sine) / (radius / stretch)
    away = np.hypot(along, across) + np.float32(1e-6)
    cosine, sine = along / away, across / away
    twice = (cosine * cosine - sine * sine, 2 * cosine * sine)  # cosine and sine of twice the angle
    outline = 1 + _LOBE * (twice[0] * np.cos(lobes[0]) + twice[1] * np.sin(lobes[0]))
    thrice = (twice[0] * cosine - twice[1] * sine, twice[1] * cosine + twice[0] * sine)
    outline += _LOBE * (thrice[0] * np.cos(lobes[1]) + thrice[1] * np.sin(lobes[1]))
    return away / outline, radius


def _nucleoli(
    x: np.ndarray, y: np.ndarray, radius: np.ndarray, um_per_pixel: float, generator: np.random.Generator
) -> np.ndarray:
    """One or two dark dots within each nucleus, 0 to 1."""
    dots = np.zeros(np.broadcast_shapes(x.shape, y.shape), np.float32)
    for chance in (1.0, 0.3):
        away, turn, has = generator.random((3, len(radius), 1, 1), dtype=np.float32)
        away, turn = 0.5 * away * radius, 2 * np.pi * turn
        square = (x - away * np.cos(turn)) ** 2 + (y - away * np.sin(turn)) ** 2
        dots = np.maximum(dots, (has < chance) * np.exp(-square / (2 * (_NUCLEOLUS_UM / um_per_pixel) ** 2)))
    return dots
