"""From a slide to the tiles that an encoder sees. The same slide and seed give the same tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clinimm.modalities.pathology.slide import Slide
from clinimm.modalities.pathology.tissue import tissue_mask

_THUMBNAIL = 2048
#: A tile with less tissue than this is not offered.
_LEAST_TISSUE = 0.3

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Tile:
    """A square piece of a slide.

    Attributes:
        x, y, w, h: where it lies, level-0 pixels; the right and lower edge may lie outside a slide
            that is smaller than one tile.
        rgb: (size, size, 3) uint8.
        tissue: share of it that is tissue, 0 to 1.
    """

    x: int
    y: int
    w: int
    h: int
    rgb: np.ndarray
    tissue: float


def tiles(
    slide: Slide, mpp_um: float = 0.5, size: int = 224, max_tiles: int = 64, seed: int = 0
) -> list[Tile]:
    """Tiles with tissue, from the top left; none where the slide shows none.

    Args:
        slide: an open slide.
        mpp_um: resolution at which the encoder wants to see it, micrometres a pixel.
        size: side of a tile, pixels at that resolution.
        max_tiles: where more tiles have tissue, this many are drawn, evenly over the slide.
        seed: of that draw.

    Raises:
        InputRejected: ``no-resolution``, the slide states none and none was given; ``cannot-read``,
            it is damaged.
    """
    boxes, shares = tissue_boxes(slide, mpp_um, size)
    chosen = choose(len(boxes), max_tiles, seed)
    return [_cut(slide, boxes[index], size, float(shares[index])) for index in chosen]


def tissue_boxes(slide: Slide, mpp_um: float, size: int) -> tuple[list[Box], np.ndarray]:
    """Level-0 boxes ``(x, y, w, h)`` of the grid with enough tissue, and their share of it."""
    width, height = slide.dimensions
    side = max(1, round(size * mpp_um / slide.mpp_um))
    grid = [(x, y, side, side) for y in starts(height, side) for x in starts(width, side)]
    mask = tissue_mask(slide.thumbnail(_THUMBNAIL))
    shares = box_means(mask, grid, (width, height))
    keep = np.flatnonzero(shares >= _LEAST_TISSUE)
    return [grid[index] for index in keep], shares[keep]


def starts(length: int, side: int) -> range:
    """Where tiles of ``side`` start along ``length``: whole tiles, or one where none fits.

    The rest is shared between both ends.

    >>> list(starts(1000, 300)), list(starts(100, 300))
    ([50, 350, 650], [0])
    """
    count = length // side
    if count == 0:
        return range(0, 1)
    first = (length - count * side) // 2
    return range(first, first + count * side, side)


def box_means(mask: np.ndarray, boxes: list[Box], shape: tuple[int, int]) -> np.ndarray:
    """Mean of ``mask`` (row, column) in each box of a picture of ``shape`` (width, height).

    By a summed-area table, so a slide with a million boxes takes as long as its mask.
    """
    total = np.pad(mask.astype(np.int64).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    rows, columns = mask.shape
    edges = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    left = np.clip(np.floor(edges[:, 0] * columns / shape[0]), 0, columns - 1).astype(int)
    top = np.clip(np.floor(edges[:, 1] * rows / shape[1]), 0, rows - 1).astype(int)
    right = np.ceil((edges[:, 0] + edges[:, 2]) * columns / shape[0])
    bottom = np.ceil((edges[:, 1] + edges[:, 3]) * rows / shape[1])
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


def _cut(slide: Slide, box: Box, size: int, tissue: float) -> Tile:
    x, y, w, h = box
    return Tile(x, y, w, h, slide.read((x, y, x + w, y + h), size), tissue)
