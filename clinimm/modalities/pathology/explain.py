"""From a pathology token back to the tile."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from clinimm.core.attribution import Place

_EDGES = ("left", "top", "right", "bottom")


def locate(row: Mapping[str, Any], cell: int) -> Place:
    """The tile behind a row of ``tokens.parquet``; ``cell`` is always 0.

    The box is in level-0 pixels; the text names the same rectangle in micrometres from the slide's upper
    left corner, where the row states it (``left_um`` and so on).
    """
    box = tuple(float(row[edge]) for edge in _EDGES)
    text = f"tile {int(row['tile'])} at {_where(row, box)}, {float(row['tissue']):.0%} tissue"
    return Place("tile", str(row["digest"]), box, text, float(row["time_hours"]))


def _where(row: Mapping[str, Any], box: tuple[float, ...]) -> str:
    """The rectangle in words: micrometres, or pixels of tokens that were made before they had them."""
    um = [float(row.get(f"{edge}_um", math.nan)) for edge in _EDGES]
    if all(math.isfinite(edge) for edge in um):
        return f"x {um[0]:.0f} to {um[2]:.0f} µm, y {um[1]:.0f} to {um[3]:.0f} µm"
    return f"{box[0]:.0f}, {box[1]:.0f}"
