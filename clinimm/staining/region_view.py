"""What a region of a stained image can see of the source, and the same blurred."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter
from torch import Tensor

from clinimm.core.errors import DataError

#: Standard deviation of the baseline's blur: wider than a nucleus, narrower than a gland.
BLUR_UM = 8.0
#: Side of the cells in which a source is taken away.
CELL_PIXELS = 16


@dataclass(frozen=True)
class Region:
    """A rectangle of the source: first row and column, and how many of each."""

    row: int
    column: int
    rows: int
    columns: int


@dataclass(frozen=True)
class RegionView:
    """What a region can see: the source around it and its blurred version, as the stainer reads them.

    Attributes:
        image, blurred: (1, 3, row, column) in [0, 1].
        place: where they lie in the source.
        inside: where the region lies in them.
        region: the same in the source.
    """

    image: Float[Tensor, "1 3 row column"]
    blurred: Float[Tensor, "1 3 row column"]
    place: tuple[slice, slice]
    inside: tuple[slice, slice]
    region: Region

    @classmethod
    def of(
        cls, source: np.ndarray, region: Region, halo: int, stride: int, resolution_um: float
    ) -> RegionView:
        """Cut out what the region sees, on the stainer's grid, and blur a copy."""
        starts, sizes = (region.row, region.column), (region.rows, region.columns)
        spans = [
            _span(start, size, side, halo, stride)
            for start, size, side in zip(starts, sizes, source.shape[:2], strict=True)
        ]
        rows, columns = (span for span, _ in spans)
        inner_rows, inner_columns = (inside for _, inside in spans)
        sigma = BLUR_UM / resolution_um
        smooth = gaussian_filter(source.astype(np.float32), (sigma, sigma, 0), truncate=3)
        return cls(
            _tensor(source[rows, columns]),
            _tensor(smooth[rows, columns]),
            (rows, columns),
            (inner_rows, inner_columns),
            region,
        )

    @property
    def origin(self) -> tuple[int, int]:
        """Row and column of the first pixel in the source."""
        return self.place[0].start, self.place[1].start

    def cells(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each cell's score, and its distance to the middle of the region, both (cell,)."""
        part = pixels[self.place]
        starts = [np.arange(0, side, CELL_PIXELS) for side in part.shape]
        scores = np.add.reduceat(np.add.reduceat(part, starts[0], axis=0), starts[1], axis=1)
        middle = [(inner.start + inner.stop) / 2 for inner in self.inside]
        rows, columns = (
            start + CELL_PIXELS / 2 - centre for start, centre in zip(starts, middle, strict=True)
        )
        return scores.ravel(), np.hypot(rows[:, None], columns[None, :]).ravel()

    def without(self, hidden: Bool[np.ndarray, " cell"]) -> Float[Tensor, "1 3 row column"]:
        """The image with some cells blurred."""
        rows, columns = self.image.shape[2:]
        shape = (-(-rows // CELL_PIXELS), -(-columns // CELL_PIXELS))
        whole = np.kron(hidden.reshape(shape), np.ones((CELL_PIXELS, CELL_PIXELS), dtype=bool))[
            :rows, :columns
        ]
        return torch.where(torch.from_numpy(whole), self.blurred, self.image)


def _span(start: int, size: int, side: int, halo: int, stride: int) -> tuple[slice, slice]:
    """Along one axis: what the region sees, on the stainer's grid, and the region within it."""
    if start < 0 or size < 1 or start + size > side:
        raise DataError(f"the region's {start} to {start + size} lies outside the source's 0 to {side}.")
    usable = side // stride * stride
    first = max(0, (start - halo) // stride * stride)
    last = min(usable, -(-(start + size + halo) // stride) * stride)
    if start + size > last or first >= last:
        raise DataError(
            f"the region ends at {start + size}, but the stainer reads only {usable} of {side} pixels "
            f"(multiples of {stride}); pad the source or move the region."
        )
    return slice(first, last), slice(start - first, start + size - first)


def _tensor(rgb: np.ndarray) -> Float[Tensor, "1 3 row column"]:
    return torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None].float() / 255
