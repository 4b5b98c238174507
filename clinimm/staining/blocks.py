"""Blocks of tissue as the unit of an interval, where there are too few subjects for one.

Within one specimen a block of tissue says how sure a figure is for *that* specimen; it says nothing
of other subjects, and whoever shows such an interval must say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from clinimm.staining.optical import Rgb
from clinimm.staining.pairs import StainPair


@dataclass(frozen=True)
class Blocks:
    """Pairs cut into squares, and what belongs to each.

    Attributes:
        pairs: one a square, in the order of the pairs they were cut from.
        predictions: method -> one image a square.
        units: name of each square, for ``measure_stain``.
    """

    pairs: tuple[StainPair, ...]
    predictions: dict[str, list[Rgb]]
    units: tuple[str, ...]


def cut_blocks(
    pairs: Sequence[StainPair], predictions: Mapping[str, Sequence[Rgb]], side_um: float
) -> Blocks:
    """Cut pairs and their virtual images into the same squares.

    Args:
        pairs: held-out pairs.
        predictions: method -> one image a pair.
        side_um: side of a square; what is left at the far edges is spread over the squares. Make it
            several times as long as a region, or neighbours are not independent.
    """
    cut: list[StainPair] = []
    units: list[str] = []
    made: dict[str, list[Rgb]] = {name: [] for name in predictions}
    for place, pair in enumerate(pairs):
        for number, square in enumerate(_squares(pair, side_um)):
            if not pair.valid[square].any():
                continue
            targets = {stain: image[square] for stain, image in pair.targets.items()}
            cut.append(replace(pair, source=pair.source[square], targets=targets, valid=pair.valid[square]))
            units.append(f"{pair.name}/{place}/block {number}")
            for name, images in predictions.items():
                made[name].append(images[place][square])
    return Blocks(tuple(cut), made, tuple(units))


def _squares(pair: StainPair, side_um: float) -> list[tuple[slice, slice]]:
    side = side_um / pair.resolution_um
    rows, columns = (_cuts(length, side) for length in pair.source.shape[:2])
    return [(row, column) for row in rows for column in columns]


def _cuts(length: int, side: float) -> list[slice]:
    ends = np.linspace(0, length, max(1, int(length / side)) + 1).round().astype(int)
    return [slice(int(low), int(high)) for low, high in pairwise(ends)]
