"""Which parts of a slide are run together: blocks with a halo, in bands, on the stained image's grid.

A network of local operations gives, inside a block, exactly what it gives on the whole slide, as long
as the block is run with a halo of its receptive field, starts on a multiple of its stride, and nothing
in it depends on the extent of its input. Then blocks are cut hard and need no blending.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

#: Side of a stored tile: what viewers ask for, and the grain of background and of refusal.
TILE_PIXELS = 256


@dataclass(frozen=True)
class Block:
    """A rectangle of the stained image, pixels; its last row and column are not part of it."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def rows(self) -> int:
        """Height, pixels."""
        return self.bottom - self.top

    @property
    def columns(self) -> int:
        """Width, pixels."""
        return self.right - self.left

    def tiles(self) -> list[Block]:
        """The stored tiles of the block, row by row; the last of a row or column may be smaller."""
        return [
            Block(top, left, min(top + TILE_PIXELS, self.bottom), min(left + TILE_PIXELS, self.right))
            for top in range(self.top, self.bottom, TILE_PIXELS)
            for left in range(self.left, self.right, TILE_PIXELS)
        ]

    def within(self, outer: Block) -> tuple[slice, slice]:
        """Its rows and columns, counted from the corner of a block that holds it."""
        rows = slice(self.top - outer.top, self.bottom - outer.top)
        return rows, slice(self.left - outer.left, self.right - outer.left)

    def widened(self, margin: int) -> Block:
        """The block with ``margin`` pixels more on each side; it may reach out of the image."""
        return Block(self.top - margin, self.left - margin, self.bottom + margin, self.right + margin)


@dataclass(frozen=True)
class Plan:
    """How a slide is divided.

    Attributes:
        width, height: of the stained image, pixels.
        stride: blocks start and end on its multiples.
        halo: pixels that are read around a block; at least the network's receptive field.
        block: side of a block, a multiple of ``TILE_PIXELS`` and of ``stride``.

    Raises:
        ValueError: a number is not positive, or ``block`` or ``halo`` is off the grid.

    >>> Plan(1000, 600, stride=8, halo=64, block=512).bands
    2
    """

    width: int
    height: int
    stride: int
    halo: int
    block: int

    def __post_init__(self) -> None:
        if min(self.width, self.height, self.stride, self.block) < 1 or self.halo < 0:
            raise ValueError(f"{self}: sizes must be positive.")
        if self.block % TILE_PIXELS or self.block % self.stride or self.halo % self.stride:
            raise ValueError(
                f"block {self.block} must be a multiple of {TILE_PIXELS} and of the stride {self.stride}, "
                f"and the halo {self.halo} a multiple of the stride."
            )

    @property
    def bands(self) -> int:
        """Rows of blocks."""
        return -(-self.height // self.block)

    @property
    def tile_rows(self) -> int:
        """Rows of stored tiles."""
        return -(-self.height // TILE_PIXELS)

    @property
    def tile_columns(self) -> int:
        """Columns of stored tiles."""
        return -(-self.width // TILE_PIXELS)

    def band(self, number: int) -> Iterator[Block]:
        """The blocks of a band, from left to right, cut to the image."""
        top = number * self.block
        bottom = min(top + self.block, self.height)
        for left in range(0, self.width, self.block):
            yield Block(top, left, bottom, min(left + self.block, self.width))

    def run(self, block: Block) -> Block:
        """What the network is given for a block: its halo, on multiples of the stride."""
        whole = Block(
            block.top,
            block.left,
            block.top + up(block.rows, self.stride),
            block.left + up(block.columns, self.stride),
        )
        return whole.widened(self.halo)


def size_name(columns: int, rows: int) -> str:
    """What a level is called, in any file of any format.

    >>> size_name(1500, 700)
    '1500x700'
    """
    return f"{columns}x{rows}"


def up(value: int, step: int) -> int:
    """The least multiple of ``step`` that is not below ``value``."""
    return -(-value // step) * step


def reflected(start: int, stop: int, length: int) -> Int[np.ndarray, " place"]:
    """Places in an axis of ``length`` for the positions ``start`` to ``stop``, mirrored at both ends.

    The edge itself is not repeated (``numpy.pad`` calls it ``reflect``), and an axis shorter than
    what is asked for is mirrored as often as needed.

    >>> reflected(-2, 5, 4).tolist()
    [2, 1, 0, 1, 2, 3, 2]
    """
    if length == 1:
        return np.zeros(stop - start, dtype=np.intp)
    period = 2 * (length - 1)
    places = np.abs(np.arange(start, stop)) % period
    return np.where(places >= length, period - places, places)
