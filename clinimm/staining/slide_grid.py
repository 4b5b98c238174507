"""A slide on the grid of the stained image: any rectangle, at one resolution, mirrored at the edges."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from jaxtyping import UInt8

from clinimm.core.errors import InputRejected
from clinimm.modalities.pathology.resolution import Resolution
from clinimm.modalities.pathology.slide import Slide
from clinimm.modalities.pathology.view import at
from clinimm.staining.plan import Block, reflected

#: A slide coarser than this many times what the model works at does not hold the detail.
_COARSEST = 1.25


class ViewLike(Protocol):
    """What is needed of ``clinimm.modalities.pathology.view.View``."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""

    @property
    def resolution(self) -> Resolution:
        """Of its pixels."""

    def read(self, box: tuple[int, int, int, int]) -> UInt8[np.ndarray, "row column 3"]:
        """The pixels of ``(left, top, right, bottom)``."""


class SlideGrid:
    """Reads a slide as if it had been scanned at the resolution of the model.

    Args:
        view: the slide at that resolution; the same pixel comes out whatever rectangle is asked for.
    """

    def __init__(self, view: ViewLike) -> None:
        self._view = view
        self.width, self.height = view.size
        self.um = (view.resolution.um_per_pixel_x, view.resolution.um_per_pixel_y)

    def read(self, block: Block) -> UInt8[np.ndarray, "row column 3"]:
        """The pixels of a rectangle that may reach out of the slide; there it is mirrored.

        Raises:
            InputRejected: ``cannot-read`` or ``truncated``, the slide is damaged there.
        """
        rows = reflected(block.top, block.bottom, self.height)
        columns = reflected(block.left, block.right, self.width)
        left, top = int(columns.min()), int(rows.min())
        right, bottom = int(columns.max()) + 1, int(rows.max()) + 1
        pixels = self._view.read((left, top, right, bottom))
        if (top, left, bottom, right) == (block.top, block.left, block.bottom, block.right):
            return pixels
        return pixels[rows - top][:, columns - left]


def grid_of(slide: Slide, resolution_um: float) -> SlideGrid:
    """A slide at the resolution of a model, micrometres a pixel.

    Raises:
        InputRejected: ``no-resolution``; ``too-coarse``, the slide does not hold that much detail.
    """
    if slide.mpp_um > resolution_um * _COARSEST:
        raise InputRejected(
            "too-coarse",
            f"the slide has {slide.mpp_um:.3f} µm a pixel and the model works at {resolution_um:.3f}",
            "scan at a finer resolution, or train a model for this one",
        )
    return SlideGrid(at(slide, resolution_um))
