"""From an EHR token back to the fact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clinimm.core.attribution import Place
from clinimm.modalities.ehr.transform import words


def locate(row: Mapping[str, Any], cell: int) -> Place:
    """The fact behind a row of ``tokens.parquet``; ``cell`` is always 0."""
    return Place("event", None, (), words(row), float(row["time_hours"]))
