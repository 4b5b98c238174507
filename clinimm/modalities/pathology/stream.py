"""A whole slide piece by piece, in a memory that does not grow with it.

Bands are as wide as the slide and some rows high; a tile stream gives one tile after the other. Both
state how much memory they may take, and decode ahead of their reader where they have threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from clinimm.core.errors import ConfigError
from clinimm.modalities.pathology.pixels import Box, Rgb
from clinimm.modalities.pathology.resolution import Resolution
from clinimm.modalities.pathology.slide import Slide
from clinimm.modalities.pathology.tile_grid import TileGrid
from clinimm.modalities.pathology.view import View

#: Memory that a stream may take unless told otherwise, MiB.
BUDGET_MIB = 256.0
_MEBIBYTE = 1 << 20
_BYTES_A_PIXEL = 3
#: A band is held by its reader while the next is made, and takes three times its size while resampled.
_COPIES_STORED, _COPIES_RESAMPLED = 2, 4
#: Tiles in flight for each thread.
_AHEAD = 4


@dataclass(frozen=True)
class Band:
    """Some rows of a slide.

    Attributes:
        top: first row, pixels of the view.
        left: first column, pixels of the view.
        pixels: (row, column, 3) uint8.
    """

    top: int
    left: int
    pixels: Rgb


def row_bands(
    slide: Slide,
    resolution: Resolution,
    band_rows: int | None = None,
    columns: tuple[int, int] | None = None,
    rows: tuple[int, int] | None = None,
    budget_mib: float = BUDGET_MIB,
    threads: int = 1,
) -> Iterator[Band]:
    """A slide from top to bottom in bands; together they are the slide, without seams.

    Args:
        slide: open.
        resolution: of the bands; ``View(slide, resolution)`` says which one comes out, and the size.
        band_rows: rows of a band (the last may have fewer); None for as many as the budget holds.
        columns: first column and the one after the last, pixels at that resolution; None for all.
        rows: first row and the one after the last; None for all. Both may reach outside: white.
        budget_mib: most that the stream takes, MiB.
        threads: that decode the file's tiles.

    Raises:
        ConfigError: the budget does not hold a band; says what it takes.
        InputRejected: ``no-resolution``; ``cannot-read`` or ``truncated``, the slide is damaged.
    """
    view = View(slide, resolution)
    left, right = columns or (0, view.size[0])
    first, last = rows or (0, view.size[1])
    height = _band_rows(view, right - left, band_rows, budget_mib)
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(threads)) if threads > 1 else None
        for top in range(first, last, height):
            box = (left, top, right, min(last, top + height))
            yield Band(top, left, view.read(box, pool))


def _band_rows(view: View, width: int, wanted: int | None, budget_mib: float) -> int:
    """Rows of a band within the budget; on stored pixels a multiple of the file's tiles where that fits."""
    row_bytes = width * _BYTES_A_PIXEL * (_COPIES_STORED if view.is_stored else _COPIES_RESAMPLED)
    most = int(budget_mib * _MEBIBYTE // row_bytes)
    if wanted is not None and 0 < wanted <= most:
        return wanted
    if wanted is not None or most < 1:
        needed = (wanted or 1) * row_bytes / _MEBIBYTE
        raise ConfigError(
            f"{wanted or 1} rows of {width} pixels take {needed:.0f} MiB; the memory budget is "
            f"{budget_mib:g} MiB. Raise the budget, or ask for fewer rows (at least 1) or columns."
        )
    tile = view.slide.info.levels[view.level].tile_height
    return most - most % tile if view.is_stored and 0 < tile <= most else most


def stream_tiles(
    grid: TileGrid,
    places: Iterable[tuple[int, int]] | None = None,
    budget_mib: float = BUDGET_MIB,
    threads: int = 1,
) -> Iterator[tuple[Box, Rgb]]:
    """The tiles of a grid, each with its box in pixels of the grid's view.

    Args:
        grid: of the slide.
        places: column and row of those wanted, in the order in which they are given; None for all.
        budget_mib: most that tiles take which are decoded and not yet given, MiB.
        threads: that decode; 1 decodes when asked.

    Raises:
        InputRejected: ``no-resolution``; ``cannot-read`` or ``truncated``, the slide is damaged.
    """
    boxes = (grid.box(*place) for place in (grid.places() if places is None else places))
    if threads <= 1:
        for box in boxes:
            yield box, grid.view.read(box)
        return
    tile_bytes = grid.size**2 * _BYTES_A_PIXEL * _COPIES_RESAMPLED
    ahead = max(1, min(threads * _AHEAD, int(budget_mib * _MEBIBYTE // tile_bytes)))
    waiting: deque[tuple[Box, Future[Rgb]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for box in boxes:
                waiting.append((box, pool.submit(grid.view.read, box)))
                if len(waiting) > ahead:
                    done, future = waiting.popleft()
                    yield done, future.result()
            while waiting:
                done, future = waiting.popleft()
                yield done, future.result()
        finally:
            for _, future in waiting:
                future.cancel()
