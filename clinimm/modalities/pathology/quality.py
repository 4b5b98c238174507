"""Quality control of a slide: what of its tissue can be used, and what lies in the way.

Colours and shapes (pen, folds, bubbles, glass) are judged on one overview of the slide at 8 µm a
pixel; focus in blocks of 64 µm at 1 µm a pixel, where there is tissue. All masks are given on the
overview's grid. The overview is bounded, and focus is read region by region, so a large slide takes
no more memory than a small one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image as Pillow

from clinimm.modalities.pathology.artefacts import PEN_COLOURS, Mask, Picture, bubbles, folds, glass, pens
from clinimm.modalities.pathology.focus import BLOCK, BLURRED, FOCUS_UM, blur
from clinimm.modalities.pathology.pixels import Box
from clinimm.modalities.pathology.tissue import tissue_mask

if TYPE_CHECKING:
    from clinimm.modalities.pathology.slide import Slide
    from clinimm.modalities.pathology.transform import Tile

#: Resolution of the masks, µm a pixel; coarser only for slides of more than 6 cm.
OVERVIEW_UM = 8.0
#: All masks, in the order in which counts are kept.
ARTEFACTS = (*(f"pen_{colour}" for colour in PEN_COLOURS), "fold", "bubble", "blur", "near_white")
#: What makes tissue unfit. Near white is glass: it is shown, and is no fault of the tissue.
FAULTS = ARTEFACTS[:-1]

_LONGEST = 8192
_REGION = 1024  # side of what is read at once to judge focus, pixels
_LEAST_TISSUE = 0.25  # of a block whose focus is judged
_TOO_COARSE = 1.5  # a slide scanned coarser than this times FOCUS_UM shows no focus
_MOST_FAULTY = 0.5  # of a tile
_SMALLEST_BLOCK = 32  # pixels at FOCUS_UM; fewer hold too few edges to judge
_ROUNDING = 1e-6  # a cell that is touched by less was not meant


@dataclass(frozen=True)
class Quality:
    """The masks of one slide.

    Attributes:
        um_per_pixel: of all masks.
        overview: the slide at that resolution.
        tissue: stained tissue, whether it can be used or not.
        artefacts: a mask for each of ``ARTEFACTS``.
        focus_judged: whether the slide is fine enough to judge its focus; else ``blur`` is empty.
    """

    um_per_pixel: float
    overview: Picture
    tissue: Mask
    artefacts: Mapping[str, Mask]
    focus_judged: bool

    @property
    def faulty(self) -> Mask:
        """Where any of ``FAULTS`` is."""
        return np.logical_or.reduce([self.artefacts[name] for name in FAULTS])

    @property
    def usable(self) -> Mask:
        """Tissue without any fault."""
        return self.tissue & ~self.faulty

    def share(self, name: str) -> float:
        """Of the slide's area: an artefact, or ``tissue``, or ``usable``."""
        return float(self._mask(name).mean())

    def tissue_share(self, name: str) -> float:
        """Of the tissue's area: an artefact, or ``usable``; NaN for a slide without tissue."""
        within = self._mask(name)[self.tissue]
        return float(within.mean()) if within.size else math.nan

    def area_mm2(self, name: str) -> float:
        """Area of an artefact, or of ``tissue``, or of ``usable``."""
        return float(self._mask(name).sum()) * (self.um_per_pixel / 1000) ** 2

    def cells(self, box: Box, size: tuple[int, int]) -> tuple[slice, slice]:
        """The rows and columns of the masks that a rectangle touches; at least one of each.

        Args:
            box: ``(left, top, right, bottom)``, in pixels of any picture of the whole slide.
            size: width and height of that picture.
        """
        rows, columns = self.tissue.shape
        place = np.array(box, dtype=float) * np.tile([columns / size[0], rows / size[1]], 2)
        left, top, right, bottom = (float(edge) for edge in place)
        return _touched(top, bottom, rows), _touched(left, right, columns)

    def _mask(self, name: str) -> Mask:
        own = {"tissue": lambda: self.tissue, "usable": lambda: self.usable}
        return own[name]() if name in own else self.artefacts[name]


def examine(overview: Picture, um_per_pixel: float, blurred: Mask | None = None) -> Quality:
    """Judge a picture of a slide.

    Args:
        overview: the slide, best at ``OVERVIEW_UM``.
        um_per_pixel: its resolution.
        blurred: where the slide is out of focus, if that was judged.

    >>> examine(np.full((64, 64, 3), 244, np.uint8), 8.0).share("near_white")
    1.0
    """
    tissue = tissue_mask(overview)
    masks = {f"pen_{colour}": mask for colour, mask in pens(overview, um_per_pixel).items()}
    ink = np.logical_or.reduce(list(masks.values()))
    masks["fold"] = folds(overview, tissue & ~ink, um_per_pixel) & ~ink
    masks["bubble"] = bubbles(overview, um_per_pixel) & ~ink
    masks["blur"] = np.zeros_like(tissue) if blurred is None else blurred
    masks["near_white"] = glass(overview)
    return Quality(um_per_pixel, overview, tissue, masks, blurred is not None)


def overview_quality(slide: Slide) -> Quality:
    """Judge a slide by its overview alone: all but focus, in one read.

    Raises:
        InputRejected: the slide states no resolution or is damaged.
    """
    overview = slide.thumbnail(_longest(slide))
    return examine(overview, _um_per_pixel(slide, overview))


def slide_quality(slide: Slide) -> Quality:
    """Judge a slide, with its focus.

    Raises:
        InputRejected: the slide states no resolution or is damaged.
    """
    if slide.mpp_um > _TOO_COARSE * FOCUS_UM:
        return overview_quality(slide)
    overview = slide.thumbnail(_longest(slide))
    um = _um_per_pixel(slide, overview)
    return examine(overview, um, _blurred(slide, tissue_mask(overview), um))


def tile_fault(tile: Tile, quality: Quality, slide_size: tuple[int, int]) -> str | None:
    """The first of ``FAULTS`` that makes a tile unfit, or None.

    Pen, folds and bubbles are looked up in the slide's masks; focus is judged on the tile itself.

    Args:
        tile: of ``transform.tiles``.
        quality: of ``overview_quality``.
        slide_size: width and height at level 0, pixels.
    """
    box = quality.cells((tile.x, tile.y, tile.x + tile.w, tile.y + tile.h), slide_size)
    if (quality.faulty[box]).mean() > _MOST_FAULTY:
        return max(FAULTS, key=lambda name: float(quality.artefacts[name][box].mean()))
    return "blur" if _tile_blurred(tile) else None


def blurred_tissue(rgb: Picture, um_per_pixel: float) -> float:
    """Share of a picture's tissue that is out of focus; 0 where it is too coarse or small to tell.

    A block counts where at least a quarter of it is tissue, with as much as it holds.
    """
    if um_per_pixel > _TOO_COARSE * FOCUS_UM:
        return 0.0
    rows, columns = (max(1, round(side * um_per_pixel / FOCUS_UM)) for side in rgb.shape[:2])
    side = min(rows, columns, BLOCK)
    if side < _SMALLEST_BLOCK:
        return 0.0
    shown = np.asarray(Pillow.fromarray(rgb).resize((columns, rows), Pillow.Resampling.BOX))
    judged = blur(shown, side)
    across, down = judged.shape[1] * side, judged.shape[0] * side
    blocks = tissue_mask(shown)[:down, :across].reshape(judged.shape[0], side, judged.shape[1], side)
    tissue = blocks.mean(axis=(1, 3))
    tissue[tissue < _LEAST_TISSUE] = 0.0
    total = float(tissue.sum())
    return float(tissue[~(judged <= BLURRED)].sum()) / total if total > 0 else 0.0


def _tile_blurred(tile: Tile) -> bool:
    """Whether more than half of what a tile shows is out of focus."""
    um = (tile.box_um[2] - tile.box_um[0]) / tile.rgb.shape[1]
    if um > _TOO_COARSE * FOCUS_UM:
        return False
    side = max(1, round(tile.rgb.shape[0] * um / FOCUS_UM))
    shown = Pillow.fromarray(tile.rgb).resize((side, side), Pillow.Resampling.BOX)
    judged = blur(np.asarray(shown), min(side, BLOCK))
    return bool(np.mean(~(judged <= BLURRED)) > _MOST_FAULTY)


def _touched(first: float, last: float, size: int) -> slice:
    start = min(math.floor(first), size - 1)
    return slice(start, min(size, max(start + 1, math.ceil(last - _ROUNDING))))


def _longest(slide: Slide) -> int:
    return min(_LONGEST, max(1, math.ceil(max(slide.dimensions) * slide.mpp_um / OVERVIEW_UM)))


def _um_per_pixel(slide: Slide, overview: UInt8[np.ndarray, "row column 3"]) -> float:
    return max(slide.dimensions) * slide.mpp_um / max(overview.shape[:2])


def _blurred(slide: Slide, tissue: Mask, um_per_pixel: float) -> Mask:
    """Blocks of tissue that are out of focus, on the overview's grid.

    A block of tissue that shows no edge at all is out of focus too.
    """
    found = np.zeros_like(tissue)
    for box, judged in _regions(slide, tissue, um_per_pixel):
        rows, columns = (part.stop - part.start for part in box)
        step = BLOCK * FOCUS_UM / um_per_pixel
        # Each pixel of the overview belongs to the block in which its middle lies.
        row = np.minimum(((np.arange(rows) + 0.5) / step).astype(int), judged.shape[0] - 1)
        column = np.minimum(((np.arange(columns) + 0.5) / step).astype(int), judged.shape[1] - 1)
        enough = _block_share(tissue[box], row, column, judged.shape) >= _LEAST_TISSUE
        found[box] = (~(judged <= BLURRED) & enough)[np.ix_(row, column)]
    return found & tissue


def _regions(
    slide: Slide, tissue: Mask, um_per_pixel: float
) -> Iterator[tuple[tuple[slice, slice], Float[np.ndarray, "block_row block_column"]]]:
    """Places on the overview that hold tissue, and how blurred their blocks are."""
    side = round(_REGION * FOCUS_UM / slide.mpp_um)  # level-0 pixels
    width, height = slide.dimensions
    scale = slide.mpp_um / um_per_pixel
    for top in range(0, height, side):
        for left in range(0, width, side):
            box = (
                slice(round(top * scale), min(tissue.shape[0], round((top + side) * scale))),
                slice(round(left * scale), min(tissue.shape[1], round((left + side) * scale))),
            )
            if tissue[box].any():
                pixels = slide.read((left, top, left + side, top + side), _REGION)
                yield box, blur(pixels)


def _block_share(mask: Mask, row: np.ndarray, column: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    block = (row[:, None] * shape[1] + column[None, :]).ravel()
    size = shape[0] * shape[1]
    inside = np.bincount(block, weights=mask.ravel(), minlength=size)
    return (inside / np.maximum(np.bincount(block, minlength=size), 1)).reshape(shape)
