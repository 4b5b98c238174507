"""The coarser levels of a stained slide: each pixel the mean of four of the level below.

Levels are made from the stored tiles of the level below, four tiles at a time, so memory does not
grow with the slide and an interrupted pyramid goes on at its last row of tiles. The label is drawn
anew at every level: shrunken letters cannot be read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from clinimm.progress import QUIET, Progress
from clinimm.staining.codec import Codec, Tile, padded
from clinimm.staining.label_mark import Picture, draw, label
from clinimm.staining.plan import TILE_PIXELS, Plan
from clinimm.staining.refused import GLASS_WHITE
from clinimm.staining.spool import GLASS, Band, Spool

#: The coarsest level is the first whose longer side is not above this, pixels.
_COARSEST_PIXELS = 512


@dataclass(frozen=True)
class StoredLevel:
    """One level; ``bands`` is how many files its tiles lie in, each of ``band_rows`` rows of tiles."""

    number: int
    width: int
    height: int
    bands: int
    band_rows: int

    @property
    def tile_columns(self) -> int:
        """Columns of tiles."""
        return -(-self.width // TILE_PIXELS)

    @property
    def tile_rows(self) -> int:
        """Rows of tiles."""
        return -(-self.height // TILE_PIXELS)

    @property
    def scale(self) -> int:
        """Pixels of level 0 a pixel of this level, along a row."""
        return 1 << self.number


@dataclass(frozen=True)
class StoredPyramid:
    """All levels of a stained slide, finest first, in the folder of ``spool``."""

    spool: Spool
    codec: Codec
    levels: tuple[StoredLevel, ...]

    def tiles(self, level: StoredLevel) -> Iterator[bytes]:
        """A level's compressed tiles, row by row."""
        return self.spool.tiles(level.number, level.bands)

    def digest(self, level: StoredLevel) -> str:
        """SHA-256 over a level's tiles; see ``digest_tiles``."""
        return digest_tiles(self.tiles(level))

    def tile(self, level: StoredLevel, row: int, column: int) -> Tile:
        """The pixels of one tile, cut to the image."""
        band, inside = divmod(row, level.band_rows)
        packed = self.spool.tile(level.number, band, inside * level.tile_columns + column)
        rows = min(TILE_PIXELS, level.height - row * TILE_PIXELS)
        columns = min(TILE_PIXELS, level.width - column * TILE_PIXELS)
        return self.codec.decode(packed)[:rows, :columns]

    def is_glass(self, level: StoredLevel, row: int, column: int) -> bool:
        """Whether a tile holds nothing but glass."""
        band, inside = divmod(row, level.band_rows)
        return bool(self.spool.table(level.number, band).states[inside, column] == GLASS)


def digest_tiles(tiles: Iterator[bytes]) -> str:
    """SHA-256 over the compressed tiles of a level, each preceded by its length, row by row.

    It is the same for every file that holds the same tiles, whatever the file's format.
    """
    state = hashlib.sha256()
    for tile in tiles:
        state.update(len(tile).to_bytes(8, "little") + tile)
    return state.hexdigest()


def level_sizes(width: int, height: int) -> list[tuple[int, int]]:
    """Width and height of every level; each is half the one below, rounded up.

    >>> level_sizes(2000, 1001)
    [(2000, 1001), (1000, 501), (500, 251)]
    """
    sizes = [(width, height)]
    while max(sizes[-1]) > _COARSEST_PIXELS:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes


def build_levels(
    spool: Spool,
    plan: Plan,
    codec: Codec,
    stain: str,
    progress: Progress = QUIET,
    notes: tuple[str, ...] = (),
) -> StoredPyramid:
    """Make every level above the stained one, from what lies in ``spool``; ``notes`` stand in the label."""
    band_rows = plan.block // TILE_PIXELS
    levels = [StoredLevel(0, plan.width, plan.height, plan.bands, band_rows)]
    for number, (width, height) in enumerate(level_sizes(plan.width, plan.height)[1:], start=1):
        below = levels[-1]
        level = StoredLevel(number, width, height, -(-height // TILE_PIXELS), 1)
        levels.append(level)
        pyramid = StoredPyramid(spool, codec, tuple(levels))
        mark = label(stain, width, height, notes)
        missing = [row for row in range(level.tile_rows) if not spool.done(number, row)]
        for row in progress.track(missing, f"level {number}", len(missing)):
            spool.put(number, row, _tile_row(pyramid, below, level, row, mark))
    return StoredPyramid(spool, codec, tuple(levels))


def halved(pixels: Tile) -> Tile:
    """Each pixel the rounded mean of four; an odd last row or column counts twice."""
    rows, columns = pixels.shape[:2]
    even = np.pad(pixels, ((0, rows % 2), (0, columns % 2), (0, 0)), mode="edge").astype(np.uint16)
    pairs = even[::2] + even[1::2]
    return ((pairs[:, ::2] + pairs[:, 1::2] + 2) // 4).astype(np.uint8)


def _tile_row(
    pyramid: StoredPyramid, below: StoredLevel, level: StoredLevel, row: int, mark: Picture
) -> Band:
    glass = np.full((TILE_PIXELS, TILE_PIXELS, 3), GLASS_WHITE, np.uint8)
    glass_bytes = pyramid.codec.encode(glass)
    tiles, states = [], np.full((1, level.tile_columns), GLASS, np.uint8)
    for column in range(level.tile_columns):
        top, left = row * TILE_PIXELS, column * TILE_PIXELS
        parts = [
            (2 * row + down, 2 * column + across)
            for down in (0, 1)
            for across in (0, 1)
            if 2 * row + down < below.tile_rows and 2 * column + across < below.tile_columns
        ]
        states[0, column] = max(_state(pyramid, below, *part) for part in parts)
        marked = top < mark.shape[0] and left < mark.shape[1]
        if states[0, column] == GLASS and not marked:
            tiles.append(glass_bytes)
            continue
        canvas = glass[: min(TILE_PIXELS, level.height - top), : min(TILE_PIXELS, level.width - left)].copy()
        half = TILE_PIXELS // 2
        for below_row, below_column in parts:
            small = halved(pyramid.tile(below, below_row, below_column))
            down, across = (below_row - 2 * row) * half, (below_column - 2 * column) * half
            canvas[down : down + small.shape[0], across : across + small.shape[1]] = small
        tiles.append(pyramid.codec.encode(padded(draw(canvas, top, left, mark))))
    nothing = np.zeros((0, 0), np.float32)
    return Band(tiles, states, nothing, nothing)


def _state(pyramid: StoredPyramid, level: StoredLevel, row: int, column: int) -> int:
    band, inside = divmod(row, level.band_rows)
    return int(pyramid.spool.table(level.number, band).states[inside, column])
