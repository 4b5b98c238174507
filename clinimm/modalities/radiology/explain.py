"""From a radiology token back to the pixels."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from clinimm.core.attribution import Place

_FRAME = re.compile(r", frame (\d+), pixels [\d-]+\Z")


def locate(row: Mapping[str, Any], cell: int) -> Place:
    """The pixels behind one cell of a row of ``tokens.parquet``.

    A row of a frozen encoder is one cell, so ``cell`` is 0; a row of a fine-tuned encoder is one
    picture, and ``cell`` counts along its rows of cells.
    """
    boxes = row.get("boxes")
    if isinstance(boxes, str):
        box = tuple(json.loads(boxes)[cell])
    else:
        box = tuple(float(row[edge]) for edge in ("left", "top", "right", "bottom"))
    view = row.get("view")
    name = str(row["code"]).removeprefix("DICOM//") + (f" {view}" if isinstance(view, str) else "")
    place = f"{name}, frame {int(row['frame'])}, pixels {'-'.join(f'{edge:.0f}' for edge in box)}"
    return Place("pixels", str(row["digest"]), box, place, float(row["time_hours"]))


def frame_of(text: str) -> int | None:
    """The frame that the text of a place names, counted from 0 as ``locate`` does; None where it names none.

    >>> frame_of("CR PA, frame 3, pixels 0-0-10-10"), frame_of("cell")
    (3, None)
    """
    found = _FRAME.search(text)
    return None if found is None else int(found[1])
