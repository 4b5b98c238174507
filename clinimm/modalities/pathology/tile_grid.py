"""Where tiles lie on a slide: on the file's own tiles where that is possible, else centred."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from clinimm.modalities.pathology.pixels import Box
from clinimm.modalities.pathology.view import View


@dataclass(frozen=True)
class TileGrid:
    """Tiles of one size side by side.

    Attributes:
        view: that the tiles are cut from.
        size: side of a tile, pixels of the view.
        left, top: of the first tile, pixels of the view.
        columns, rows: how many tiles.
        is_aligned: whether tiles and the file's tiles share their edges: nothing is resampled, and
            no tile of the file is decoded for a part of it only.
    """

    view: View
    size: int
    left: int
    top: int
    columns: int
    rows: int
    is_aligned: bool

    def __len__(self) -> int:
        return self.columns * self.rows

    def box(self, column: int, row: int) -> Box:
        """A tile's place, pixels of the view."""
        x, y = self.left + column * self.size, self.top + row * self.size
        return x, y, x + self.size, y + self.size

    def places(self) -> Iterator[tuple[int, int]]:
        """Column and row of every tile, row by row."""
        return ((column, row) for row in range(self.rows) for column in range(self.columns))


def grid_of(view: View, size: int) -> TileGrid:
    """The grid of whole tiles on a slide; one tile where the slide is smaller.

    The rest of the slide lies right and below on an aligned grid, on all sides of another one.
    """
    width, height = view.size
    known = view.slide.info.levels[view.level]
    is_aligned = (
        view.is_stored and _share_edges(size, known.tile_width) and _share_edges(size, known.tile_height)
    )
    across, down = starts(width, size), starts(height, size)
    left, top = (0, 0) if is_aligned else (across[0], down[0])
    return TileGrid(view, size, left, top, len(across), len(down), is_aligned)


def _share_edges(size: int, stored: int) -> bool:
    return stored > 0 and (size % stored == 0 or stored % size == 0)


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
