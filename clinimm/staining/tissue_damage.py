"""What lies in the way of a tile's tissue: pen, blur, a fold or a bubble, and how much of it.

The same rules judge a region of a pair and a tile of a whole slide (``modalities/pathology/quality.py``).
Pen, folds and bubbles are looked for on an overview at some 8 µm a pixel, of the slide where there is one,
else of the region; focus on the tile itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from clinimm.modalities.pathology.quality import (
    FAULTS,
    OVERVIEW_UM,
    Quality,
    blurred_tissue,
    examine,
    overview_quality,
)
from clinimm.modalities.pathology.slide import Slide

Rgb = UInt8[np.ndarray, "row column 3"]

#: What can be wrong with the tissue of a tile.
DAMAGES = ("pen", "blur", "fold", "bubble")


@dataclass(frozen=True)
class Damage:
    """What is wrong with a tile's tissue most of all.

    Attributes:
        share: of its tissue that is damaged, 0 to 1.
        kind: the largest part, one of ``DAMAGES``; empty where nothing is damaged.
    """

    share: float = 0.0
    kind: str = ""


UNDAMAGED = Damage()


class TissueDamage:
    """Says of any tile of a picture or slide how much of its tissue is damaged.

    Args:
        quality: of an overview of the whole picture or slide.
        size: its width and height, in the pixels in which tiles are given.
        um_per_pixel: of those pixels.
    """

    def __init__(self, quality: Quality, size: tuple[int, int], um_per_pixel: float) -> None:
        self._quality, self._size, self._um = quality, size, um_per_pixel
        self._found = {kind: _mask(quality, kind) for kind in DAMAGES if kind != "blur"}

    @classmethod
    def of_picture(cls, rgb: Rgb, um_per_pixel: float) -> TissueDamage:
        """Of a picture alone, such as a region of a pair."""
        rows, columns = rgb.shape[:2]
        factor = min(1.0, um_per_pixel / OVERVIEW_UM)
        small = (max(1, round(columns * factor)), max(1, round(rows * factor)))
        overview = np.asarray(Image.fromarray(rgb).resize(small, Image.Resampling.BOX))
        return cls(examine(overview, um_per_pixel * columns / small[0]), (columns, rows), um_per_pixel)

    @classmethod
    def of_slide(cls, slide: Slide, size: tuple[int, int], um_per_pixel: float) -> TissueDamage:
        """Of a slide whose tiles are given in pixels of a picture of ``size``.

        Raises:
            InputRejected: the slide states no resolution or is damaged.
        """
        return cls(overview_quality(slide), size, um_per_pixel)

    def of(self, rgb: Rgb, top: int, left: int) -> Damage:
        """Judge a tile.

        Args:
            rgb: its pixels.
            top, left: where it lies in the picture or slide.
        """
        box = (left, top, left + rgb.shape[1], top + rgb.shape[0])
        cells = self._quality.cells(box, self._size)
        faulty = np.logical_or.reduce([mask[cells] for mask in self._found.values()])
        within = self._quality.tissue[cells] | faulty
        total = max(1, int(within.sum()))
        shares = {kind: float(mask[cells].sum()) / total for kind, mask in self._found.items()}
        shares["blur"] = blurred_tissue(rgb, self._um)
        share = max(float(faulty.sum()) / total, shares["blur"])
        return Damage(share, max(shares, key=lambda kind: shares[kind])) if share > 0 else UNDAMAGED


def _mask(quality: Quality, kind: str) -> np.ndarray:
    """Every fault whose name begins with the kind; pen comes in four colours."""
    return np.logical_or.reduce([quality.artefacts[name] for name in FAULTS if name.startswith(kind)])
