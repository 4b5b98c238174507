"""From a slide to the tiles that an encoder sees. The same slide and seed give the same tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8

from clinimm.modalities.pathology.pixels import Box
from clinimm.modalities.pathology.slide import Slide
from clinimm.modalities.pathology.tile_grid import TileGrid, grid_of
from clinimm.modalities.pathology.tissue import tissue_mask
from clinimm.modalities.pathology.view import at

_THUMBNAIL = 2048
#: A tile with less tissue than this is not offered.
_LEAST_TISSUE = 0.3


@dataclass(frozen=True)
class Tile:
    """A square piece of a slide.

    Attributes:
        x, y, w, h: where it lies, level-0 pixels; the right and lower edge may lie outside a slide
            that is smaller than one tile.
        rgb: (size, size, 3) uint8.
        tissue: share of it that is tissue, 0 to 1.
        box_um: ``(left, top, right, bottom)``, micrometres from the slide's upper left corner.
    """

    x: int
    y: int
    w: int
    h: int
    rgb: UInt8[np.ndarray, "size size 3"]
    tissue: float
    box_um: tuple[float, float, float, float]


def tiles(
    slide: Slide, mpp_um: float = 0.5, size: int = 224, max_tiles: int = 64, seed: int = 0
) -> list[Tile]:
    """Tiles with tissue, from the top left; none where the slide shows none.

    They lie on the file's own tiles where the resolution and ``size`` allow it (``grid_of``).

    Args:
        slide: an open slide.
        mpp_um: resolution at which the encoder wants to see it, micrometres a pixel.
        size: side of a tile, pixels at that resolution.
        max_tiles: where more tiles have tissue, this many are drawn, evenly over the slide.
        seed: of that draw.

    Raises:
        InputRejected: ``no-resolution``, the slide states none and none was given; ``cannot-read`` or
            ``truncated``, it is damaged.
    """
    grid = grid_of(at(slide, mpp_um), size)
    boxes, shares = tissue_boxes(grid)
    chosen = choose(len(boxes), max_tiles, seed)
    return [_cut(grid, boxes[index], float(shares[index])) for index in chosen]


def tissue_boxes(grid: TileGrid) -> tuple[list[Box], Float[np.ndarray, " tile"]]:
    """Boxes of the grid with enough tissue, in pixels of its view, and their share of it."""
    boxes = [grid.box(*place) for place in grid.places()]
    mask = tissue_mask(grid.view.slide.thumbnail(_THUMBNAIL))
    shares = box_means(mask, boxes, grid.view.size)
    keep = np.flatnonzero(shares >= _LEAST_TISSUE)
    return [boxes[index] for index in keep], shares[keep]


def box_means(
    mask: Bool[np.ndarray, "row column"], boxes: list[Box], shape: tuple[int, int]
) -> Float[np.ndarray, " box"]:
    """Mean of ``mask`` in each box ``(left, top, right, bottom)`` of a picture of ``shape`` (width, height).

    By a summed-area table, so a slide with a million boxes takes as long as its mask.
    """
    total = np.pad(mask.astype(np.int64).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    rows, columns = mask.shape
    edges = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    left = np.clip(np.floor(edges[:, 0] * columns / shape[0]), 0, columns - 1).astype(int)
    top = np.clip(np.floor(edges[:, 1] * rows / shape[1]), 0, rows - 1).astype(int)
    right = np.ceil(edges[:, 2] * columns / shape[0])
    bottom = np.ceil(edges[:, 3] * rows / shape[1])
    right = np.clip(np.maximum(right, left + 1), 1, columns).astype(int)
    bottom = np.clip(np.maximum(bottom, top + 1), 1, rows).astype(int)
    inside = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
    return np.asarray(inside / ((right - left) * (bottom - top)))


def choose(available: int, wanted: int, seed: int) -> list[int]:
    """One index from each of ``wanted`` equal shares of ``available``, drawn by ``seed``, ascending."""
    if available <= wanted:
        return list(range(available))
    edges = np.arange(wanted + 1) * available // wanted
    return [int(index) for index in np.random.default_rng(seed).integers(edges[:-1], edges[1:])]


def _cut(grid: TileGrid, box: Box, tissue: float) -> Tile:
    left, top, right, bottom = grid.view.level_0_box(box)
    rgb = grid.view.read(box)
    return Tile(left, top, right - left, bottom - top, rgb, tissue, grid.view.box_um(box))
