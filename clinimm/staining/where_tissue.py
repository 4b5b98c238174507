"""Which parts of a slide are worth staining: tissue, found once on an overview of the whole slide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Bool, UInt8

from clinimm.staining.plan import Block
from clinimm.staining.slide_grid import SlideGrid

#: Longest side of the overview, and how far around what is found the stain goes, µm.
_OVERVIEW_PIXELS, _MARGIN_UM = 2048, 64.0


class Thumbnailed(Protocol):
    """What is needed of ``clinimm.modalities.pathology.slide.Slide``."""

    def thumbnail(self, longest: int) -> UInt8[np.ndarray, "row column 3"]:
        """The whole slide, its longer side at most ``longest`` pixels."""


@dataclass(frozen=True)
class Tissue:
    """Where on a slide there is tissue, at the resolution of an overview.

    Attributes:
        mask: True on tissue and around it.
        pixels: pixels of the stained image a pixel of the mask, along a row and along a column.
    """

    mask: Bool[np.ndarray, "row column"]
    pixels: tuple[float, float]

    def touches(self, block: Block) -> bool:
        """Whether any tissue lies in a rectangle of the stained image."""
        top, bottom = (int(edge / self.pixels[1]) for edge in (block.top, block.bottom - 1))
        left, right = (int(edge / self.pixels[0]) for edge in (block.left, block.right - 1))
        return bool(self.mask[top : bottom + 1, left : right + 1].any())


def find_tissue(slide: Thumbnailed, grid: SlideGrid, inked: bool = False) -> Tissue:
    """Tissue and a margin around it; the threshold is the whole slide's, never a tile's.

    Args:
        slide: gives the overview.
        grid: of the stained image.
        inked: whether what lies under pen counts too: where tiles can be refused, it must not pass for
            bare glass.
    """
    from scipy.ndimage import binary_dilation

    from clinimm.modalities.pathology.artefacts import pens
    from clinimm.modalities.pathology.tissue import tissue_mask

    overview = slide.thumbnail(_OVERVIEW_PIXELS)
    pixels = (grid.width / overview.shape[1], grid.height / overview.shape[0])
    reach = max(1, round(_MARGIN_UM / (max(grid.um) * max(pixels))))
    found = tissue_mask(overview)
    if inked:
        found |= np.logical_or.reduce(list(pens(overview, max(grid.um) * max(pixels)).values()))
    mask = binary_dilation(found, iterations=reach)
    return Tissue(np.asarray(mask, dtype=bool), pixels)
