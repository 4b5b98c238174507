"""Which held-out regions get a page: spread over risk, the worst among them, and never by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from clinimm.staining.prediction_store import Results


@dataclass(frozen=True)
class Choice:
    """A region that gets a page.

    Attributes:
        row: in ``predict/regions.parquet``.
        rank: 1 is the riskiest of ``regions``.
        regions: how many were ranked.
        risk: of its riskiest tile; above 1 it was refused.
    """

    row: int
    rank: int
    regions: int
    risk: float


def choose_regions(results: Results, most: int) -> list[Choice]:
    """At most ``most`` held-out regions of the first repeat, evenly spread over risk, the riskiest first."""
    first = results.table["fit"].str.extract(r"^r(\d+)-", expand=False).astype(int)
    rows = np.flatnonzero(first == first.min()) if len(first) else np.zeros(0, dtype=int)
    files = [str(results.table["file"].iloc[row]) for row in rows]
    place = dict(zip(files, rows.tolist(), strict=True))
    order = ranked(results.tiles, files)
    return [Choice(place[order[at][0]], at + 1, len(order), order[at][1]) for at in spread(len(order), most)]


def ranked(tiles: pd.DataFrame, files: Sequence[str]) -> list[tuple[str, float]]:
    """Regions and the risk of their riskiest tile, the riskiest first.

    Args:
        tiles: ``predict/tiles.parquet``; a risk that is no number counts as the largest.
        files: the regions to rank; one without a tile counts as the riskiest.
    """
    risk = tiles["risk"].where(tiles["risk"].notna(), math.inf).groupby(tiles["file"]).max()
    known = {str(file): float(value) for file, value in risk.items()}
    pairs = [(file, known.get(file, math.inf)) for file in files]
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` of ``count`` places, the first and the last among them, evenly apart.

    >>> spread(10, 4), spread(2, 4), spread(5, 1)
    ([0, 3, 6, 9], [0, 1], [0])
    """
    if not count or not most:
        return []
    if most == 1:
        return [0]
    return sorted({round(step * (count - 1) / (most - 1)) for step in range(most)})
