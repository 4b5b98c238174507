"""Landmarks: the same points marked on both slides by a person, as a table."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from clinimm.core.errors import DataError

COLUMNS = ("source_x_um", "source_y_um", "target_x_um", "target_y_um")
Points = Float64[np.ndarray, "point 2"]


def read_landmarks(path: Path) -> tuple[Points, Points]:
    """Points of the source and of the target, micrometres from the upper left corners.

    Args:
        path: CSV with the columns ``source_x_um, source_y_um, target_x_um, target_y_um``.

    Raises:
        DataError: there is no such file, a column is missing, a value is no number, or no point is left.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(
                    f"{path}: the columns {', '.join(missing)} are missing; needed: {', '.join(COLUMNS)}."
                )
            rows = [_values(path, reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read as a table of landmarks ({type(error).__name__}). Give a CSV with the "
            f"columns {', '.join(COLUMNS)}."
        ) from error
    if not rows:
        raise DataError(f"{path}: no landmark in it; expected a row a point.")
    table = np.array(rows)
    return table[:, :2], table[:, 2:]


def _values(path: Path, line: int, row: dict[str, str | None]) -> list[float]:
    values = []
    for name in COLUMNS:
        try:
            value = float(row[name] or "")
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise DataError(
                f"{path}, line {line}: {name} is {row[name]!r}, expected a number of micrometres."
            )
        values.append(value)
    return values
