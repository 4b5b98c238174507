"""Pairs through a stainer, cut into the tiles that the safety case is fitted on and judged by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from clinimm.core.errors import DataError
from clinimm.staining.pairs import StainPair
from clinimm.staining.safety import StainedTile, TileExample
from clinimm.staining.tissue_damage import TissueDamage

#: Side of the tiles that are judged: what the whole-slide engine stores and asks about.
TILE_PIXELS = 256


class StainedLike(Protocol):
    """What is needed of ``stainer.Stained``."""

    @property
    def colour(self) -> Float[Tensor, "batch 3 row column"]:
        """In [0, 1]."""

    @property
    def uncertainty(self) -> Float[Tensor, "batch row column"]:
        """Expected absolute error in [0, 1]."""

    @property
    def feature_map(self) -> Float[Tensor, "batch feature cell_row cell_column"]:
        """What the network saw, a cell of ``stride`` pixels each."""


#: ``(image (1, 3, row, column) in [0, 1], stain, subject) -> Stained``
Run = Callable[[Tensor, str, str], StainedLike]


def tile_examples(
    run: Run, stride: int, pairs: Sequence[StainPair], tile_pixels: int = TILE_PIXELS
) -> list[TileExample]:
    """Stain every pair, cut it into tiles beside the truth, and look for damage in its source.

    Tiles start at the pair's corner. Where a side is no multiple of the tile's, the last tile ends at the
    edge and overlaps the one before, so that nothing is left unjudged. Pairs smaller than a tile are one
    tile each.

    Args:
        run: the stainer on one image, with the stain's index and the subject's record filled in.
        stride: of the stainer.
        pairs: registered pairs.
        tile_pixels: side of a tile.

    Raises:
        DataError: a pair or a tile is smaller than the stride.
    """
    found: list[TileExample] = []
    for pair in pairs:
        damage = TissueDamage.of_picture(pair.source, pair.resolution_um)
        for stain, target in pair.targets.items():
            found += _of_pair(run, stride, pair, stain, target, damage, tile_pixels)
    return found


def tile_places(
    pair: StainPair, stride: int, tile_pixels: int = TILE_PIXELS
) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of a pair's tiles, row by row; a tile's sides are multiples of ``stride``.

    Raises:
        DataError: the pair or a tile is smaller than the stride.
    """
    rows, columns = _whole(pair, stride)
    side = min(tile_pixels // stride * stride, rows, columns)
    if side == 0:
        raise DataError(f"tiles of {tile_pixels} pixels are smaller than the stainer's stride of {stride}.")
    for top in _starts(rows, side):
        for left in _starts(columns, side):
            place = (slice(top, top + side), slice(left, left + side))
            if pair.valid[place].any():
                yield place


def _whole(pair: StainPair, stride: int) -> tuple[int, int]:
    """A pair's rows and columns, cut to multiples of ``stride``."""
    rows, columns = pair.source.shape[:2]
    if min(rows, columns) < stride:
        raise DataError(
            f"a pair of {rows} × {columns} pixels is smaller than the stainer's stride of {stride}: "
            "leave it out."
        )
    return rows // stride * stride, columns // stride * stride


def _starts(length: int, side: int) -> list[int]:
    """Where tiles begin along an axis; the last one ends at its end."""
    starts = list(range(0, length - side + 1, side))
    return starts if starts[-1] + side == length else [*starts, length - side]


def _of_pair(
    run: Run,
    stride: int,
    pair: StainPair,
    stain: str,
    target: np.ndarray,
    damage: TissueDamage,
    tile_pixels: int,
) -> Iterator[TileExample]:
    rows, columns = _whole(pair, stride)
    source = pair.source[:rows, :columns]
    with torch.inference_mode():
        stained = run(_image(source), stain, pair.subject_id)
    rgb, error = _rgb(stained), _error(stained)
    for place in tile_places(pair, stride, tile_pixels):
        top, left = place[0].start, place[1].start
        tile = StainedTile(stain, rgb[place], error[place], _features(stained, _cells(place, stride)))
        yield TileExample(
            pair.subject_id,
            source[place],
            tile,
            target[place],
            pair.valid[place],
            top,
            left,
            damage.of(source[place], top, left),
        )


def _cells(place: tuple[slice, slice], stride: int) -> tuple[slice, slice]:
    rows, columns = (slice(part.start // stride, part.stop // stride) for part in place)
    return rows, columns


def _image(rgb: UInt8[np.ndarray, "row column 3"]) -> Float[Tensor, "1 3 row column"]:
    return torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None].float() / 255


def _rgb(stained: StainedLike) -> UInt8[np.ndarray, "row column 3"]:
    colour = stained.colour[0].float().mul(255).round().clamp(0, 255).to(torch.uint8)
    return colour.permute(1, 2, 0).contiguous().numpy()


def _error(stained: StainedLike) -> Float[np.ndarray, "row column"]:
    return stained.uncertainty[0].float().contiguous().numpy()


def _features(stained: StainedLike, cells: tuple[slice, slice]) -> Float[np.ndarray, " feature"]:
    return stained.feature_map[0][(slice(None), *cells)].float().mean((1, 2)).contiguous().numpy()
