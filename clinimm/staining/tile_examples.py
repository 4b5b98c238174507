"""Pairs through a stainer, cut into the tiles that the safety case is fitted on and judged by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from clinimm.staining.pairs import StainPair
from clinimm.staining.safety import StainedTile, TileExample

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
    """Stain every pair and cut it into tiles beside the truth.

    Tiles start at the pair's corner; what is left at the right and the bottom is dropped. Pairs
    smaller than a tile are one tile each.

    Args:
        run: the stainer on one image, with the stain's index and the subject's record filled in.
        stride: of the stainer.
        pairs: registered pairs.
        tile_pixels: side of a tile.
    """
    found: list[TileExample] = []
    for pair in pairs:
        for stain, target in pair.targets.items():
            found += _of_pair(run, stride, pair, stain, target, tile_pixels)
    return found


def tile_places(
    pair: StainPair, stride: int, tile_pixels: int = TILE_PIXELS
) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of a pair's tiles, row by row; a tile's sides are multiples of ``stride``."""
    rows, columns = (side // stride * stride for side in pair.source.shape[:2])
    side = min(tile_pixels // stride * stride, rows, columns)
    for top in range(0, rows - side + 1, side):
        for left in range(0, columns - side + 1, side):
            place = (slice(top, top + side), slice(left, left + side))
            if pair.valid[place].any():
                yield place


def _of_pair(
    run: Run, stride: int, pair: StainPair, stain: str, target: np.ndarray, tile_pixels: int
) -> Iterator[TileExample]:
    rows, columns = (side // stride * stride for side in pair.source.shape[:2])
    side = min(tile_pixels // stride * stride, rows, columns)
    source = pair.source[:rows, :columns]
    with torch.inference_mode():
        stained = run(_image(source), stain, pair.subject_id)
    rgb, error = _rgb(stained), _error(stained)
    for top in range(0, rows - side + 1, side):
        for left in range(0, columns - side + 1, side):
            place = (slice(top, top + side), slice(left, left + side))
            if not pair.valid[place].any():
                continue
            tile = StainedTile(stain, rgb[place], error[place], _features(stained, _cells(place, stride)))
            yield TileExample(
                pair.subject_id, source[place], tile, target[place], pair.valid[place], top, left
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
