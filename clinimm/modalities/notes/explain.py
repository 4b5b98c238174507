"""From a notes token back to the characters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clinimm.core.attribution import Place


def locate(row: Mapping[str, Any], cell: int) -> Place:
    """The characters behind a row of ``tokens.parquet``; ``cell`` is always 0."""
    box = (float(row["start"]), float(row["stop"]))
    return Place("characters", str(row["digest"]), box, str(row["text"]), float(row["time_hours"]))
