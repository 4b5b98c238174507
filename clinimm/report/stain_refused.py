"""Refused tiles of a region, joined where neighbours are refused for the same reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

#: Why a tile is refused, of ``staining.refusal.TILE_REASONS``, in words; runs of before said "quality".
WHY: Mapping[str, str] = {
    "outside": "unlike the training tissue",
    "uncertain": "too uncertain",
    "hallucination": "contradicts the source",
    "quality": "damaged tissue",
    "pen": "pen on the tissue",
    "blur": "out of focus",
    "fold": "folded tissue",
    "bubble": "air bubble",
}


@dataclass(frozen=True)
class Block:
    """A rectangle of refused tiles: where it lies in the region, pixels, and why it is refused."""

    left: int
    top: int
    width: int
    height: int
    why: tuple[str, ...]


def words(reasons: str) -> tuple[str, ...]:
    """Reasons, as the table has them, in words.

    >>> words("outside,quality")
    ('unlike the training tissue', 'damaged tissue')
    """
    return tuple(WHY.get(reason, reason) for reason in reasons.split(",") if reason)


def refused_blocks(tiles: pd.DataFrame) -> tuple[Block, ...]:
    """The refused of one stain's tiles: neighbours in a row are joined, then equal rows.

    Args:
        tiles: ``left, top, side, refused, reasons``.
    """
    own = tiles[tiles["refused"]].sort_values(["top", "left"])
    rows: list[Block] = []
    for left, top, side, reasons in own[["left", "top", "side", "reasons"]].itertuples(index=False):
        tile = Block(int(left), int(top), int(side), int(side), words(str(reasons)))
        last = rows[-1] if rows else None
        if last and _follows(last, tile):
            rows[-1] = replace(last, width=tile.left + tile.width - last.left)
        else:
            rows.append(tile)
    return tuple(_stacked(rows))


def _follows(row: Block, tile: Block) -> bool:
    """Whether a tile goes on where a row of tiles ends."""
    touches = row.left < tile.left <= row.left + row.width
    return touches and (row.top, row.height, row.why) == (tile.top, tile.height, tile.why)


def _stacked(rows: list[Block]) -> list[Block]:
    """Rows of the same extent and reasons, one under the other, as one."""
    found: list[Block] = []
    for row in rows:
        above = next((place for place, one in enumerate(found) if _lies_under(one, row)), None)
        if above is None:
            found.append(row)
        else:
            found[above] = replace(found[above], height=row.top + row.height - found[above].top)
    return found


def _lies_under(block: Block, row: Block) -> bool:
    touches = block.top < row.top <= block.top + block.height
    return touches and (block.left, block.width, block.why) == (row.left, row.width, row.why)
