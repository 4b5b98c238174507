"""One pair of slides looked at under several maps, window by window; what was seen is kept.

Fitting, choosing between maps and judging the result ask for the same windows under the same map
again and again, and cutting them is most of what a registration costs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool

from clinimm.staining.deformation import Deformation
from clinimm.staining.local_shifts import SCALES, LocalShifts, Pair, Scale, local_shifts, window_grid

#: Windows a grid; more say little more about a smooth field.
MOST_WINDOWS = 200


class Comparison:
    """A pair, and what its windows showed.

    Args:
        pair: the slides.
        tissue: where the source has tissue, any size; it spans the slide.
        seed: of the wrong places that windows are compared with.
    """

    def __init__(self, pair: Pair, tissue: Bool[np.ndarray, "row column"], seed: int = 0) -> None:
        self.pair = pair
        self.tissue = tissue
        self.seed = seed
        self._seen: dict[tuple[Deformation, str, bool], LocalShifts] = {}

    @property
    def extent_um(self) -> tuple[float, float]:
        """Width and height of the source."""
        rows, columns = self.pair.source.shape
        return columns * self.pair.source.resolution_um, rows * self.pair.source.resolution_um

    def scales(self) -> Iterator[Scale]:
        """The scales that the source is fine and large enough for, coarse to fine."""
        return (scale for scale in SCALES if scale.suits(self.pair.source))

    def to_fit(self, deformation: Deformation, scale: Scale) -> LocalShifts:
        """Under this map, the windows that a field may be fitted to."""
        return self._look(deformation, scale, odd=False)

    def left_out(self, deformation: Deformation, scale: Scale) -> LocalShifts:
        """The windows between those, on which it is judged; each shares part of its tissue with them."""
        return self._look(deformation, scale, odd=True)

    def _look(self, deformation: Deformation, scale: Scale, odd: bool) -> LocalShifts:
        key = deformation, scale.name, odd  # a map is the same only where it is the same object
        if key not in self._seen:
            points = window_grid(self.tissue, self.extent_um, scale, MOST_WINDOWS, odd)
            self._seen[key] = local_shifts(self.pair.at(scale), deformation, scale, points, self.seed)
        return self._seen[key]
