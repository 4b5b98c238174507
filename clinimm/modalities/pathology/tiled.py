"""Regions put together from a file's own tiles, each decoded straight from its bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from clinimm.modalities.pathology.pixels import WHITE, Box, Rgb, SlideInfo, with_white_rim


class TileSource(Protocol):
    """One level's tiles."""

    def tile(self, column: int, row: int) -> Rgb | None:
        """A tile in full size, also at the edge; None where the scanner left it out."""
        ...


class TileCache:
    """Tiles that were decoded and not used up, the oldest dropped first.

    Args:
        most_bytes: what they may take; the newest is kept even if it alone takes more.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._held = 0
        self._tiles: OrderedDict[tuple[int, int, int], Rgb] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[int, int, int]) -> Rgb | None:
        """A held tile, which is then the newest."""
        with self._lock:
            found = self._tiles.get(key)
            if found is not None:
                self._tiles.move_to_end(key)
            return found

    def put(self, key: tuple[int, int, int], tile: Rgb) -> None:
        """Hold a tile."""
        with self._lock:
            if key in self._tiles:
                return
            self._tiles[key] = tile
            self._held += tile.nbytes
            while self._held > self._most and len(self._tiles) > 1:
                self._held -= self._tiles.popitem(last=False)[1].nbytes


@dataclass(frozen=True)
class _Part:
    """A tile and the box of the level that is wanted of it."""

    column: int
    row: int
    box: Box


class TiledPixels:
    """A slide whose levels are grids of tiles.

    A region that is exactly one tile is that tile, decoded and handed on without a copy. Tiles of
    which only a part was asked for are kept for the neighbours, within ``cache_bytes``.

    Args:
        info: of the slide; each level states its tile size.
        sources: the tiles of each level.
        cache_bytes: most that kept tiles take.
        on_close: called once at the end.
    """

    def __init__(
        self,
        info: SlideInfo,
        sources: tuple[TileSource, ...],
        cache_bytes: int,
        on_close: Callable[[], None],
    ) -> None:
        self.info = info
        self._sources = sources
        self._cache = TileCache(cache_bytes)
        self._on_close = on_close

    def close(self) -> None:
        """Give the file back."""
        self._on_close()

    def read(self, level: int, box: Box, pool: Executor | None = None) -> Rgb:
        """The box of a level, white outside; tiles are decoded by ``pool`` where one is given.

        Raises:
            InputRejected: ``cannot-read`` or ``truncated``, a tile is damaged.
        """
        known = self.info.levels[level]
        width, height = known.tile_width, known.tile_height
        column, row = box[0] // width, box[1] // height
        whole = (column * width, row * height, (column + 1) * width, (row + 1) * height)
        if box == whole and box[2] <= known.width and box[3] <= known.height and min(box) >= 0:
            tile = self._sources[level].tile(column, row)
            return _blank(box) if tile is None else tile
        return with_white_rim(
            box, known.width, known.height, lambda inside: self._assembled(level, inside, pool)
        )

    def _assembled(self, level: int, box: Box, pool: Executor | None) -> Rgb:
        canvas = np.empty((box[3] - box[1], box[2] - box[0], 3), dtype=np.uint8)

        def place(part: _Part) -> None:
            left, top, right, bottom = part.box
            target = canvas[top - box[1] : bottom - box[1], left - box[0] : right - box[0]]
            tile = self._tile(level, part)
            if tile is None:
                target[...] = WHITE
                return
            x, y = self._origin(level, part)
            target[...] = tile[top - y : bottom - y, left - x : right - x]

        parts = self._parts(level, box)
        if pool is None or len(parts) == 1:
            for part in parts:
                place(part)
        else:
            list(pool.map(place, parts))
        return canvas

    def _parts(self, level: int, box: Box) -> list[_Part]:
        known = self.info.levels[level]
        left, top, right, bottom = box
        width, height = known.tile_width, known.tile_height
        return [
            _Part(
                column,
                row,
                (
                    max(left, column * width),
                    max(top, row * height),
                    min(right, (column + 1) * width),
                    min(bottom, (row + 1) * height),
                ),
            )
            for row in range(top // height, -(-bottom // height))
            for column in range(left // width, -(-right // width))
        ]

    def _origin(self, level: int, part: _Part) -> tuple[int, int]:
        known = self.info.levels[level]
        return part.column * known.tile_width, part.row * known.tile_height

    def _tile(self, level: int, part: _Part) -> Rgb | None:
        key = (level, part.column, part.row)
        found = self._cache.get(key)
        if found is None:
            found = self._sources[level].tile(part.column, part.row)
            if found is not None and self._is_part_only(level, part):
                self._cache.put(key, found)
        return found

    def _is_part_only(self, level: int, part: _Part) -> bool:
        """Whether a neighbour's region may want the rest of the tile."""
        known = self.info.levels[level]
        x, y = self._origin(level, part)
        left, top, right, bottom = part.box
        end = (min(known.width, x + known.tile_width), min(known.height, y + known.tile_height))
        return (left, top, right, bottom) != (x, y, *end)


def _blank(box: Box) -> Rgb:
    return np.full((box[3] - box[1], box[2] - box[0], 3), WHITE, dtype=np.uint8)
