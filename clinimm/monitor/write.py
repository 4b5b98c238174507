"""Writes the board: JSON for machines, one HTML file for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clinimm.core.record import write_text
from clinimm.monitor.page import board

JSON_NAME, BOARD_NAME = "monitor.json", "board.html"


def write_board(folder: Path, content: Mapping[str, Any]) -> None:
    """Write both files, each whole or not at all; the same look gives the same bytes."""
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_text(folder / JSON_NAME, text + "\n")
    write_text(folder / BOARD_NAME, board(content))
