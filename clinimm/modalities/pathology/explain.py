"""From a pathology token back to the tile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clinimm.core.attribution import Place


def locate(row: Mapping[str, Any], cell: int) -> Place:
    """The tile behind a row of ``tokens.parquet``, in level-0 pixels; ``cell`` is always 0."""
    box = tuple(float(row[edge]) for edge in ("left", "top", "right", "bottom"))
    text = f"tile {int(row['tile'])} at {box[0]:.0f}, {box[1]:.0f}, {float(row['tissue']):.0%} tissue"
    return Place("tile", str(row["digest"]), box, text, float(row["time_hours"]))
