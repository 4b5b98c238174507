"""How a run's maps lie on findings that are known: ``localisation.parquet``, one row a picture and map.

Known findings are boxes that a reader drew or a simulation planted. They are no input of the model:
only this table reads them, after the maps were made.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from clinimm.core.attribution import LOCALISATION_COLUMNS
from clinimm.core.errors import ConfigError
from clinimm.explain.localise import localise

#: What a table of findings must have: SHA-256 of the file, and a box in its pixels.
FINDING_COLUMNS = ("digest", "left", "top", "right", "bottom")
_MAP = ["subject_id", "task", "class_name", "method", "modality", "digest", "model_digest"]

Boxes = Mapping[str, Float[np.ndarray, "finding 4"]]


def load_findings(path: Path) -> dict[str, Float[np.ndarray, "finding 4"]]:
    """Digest of a picture's file -> boxes on it, from a CSV or Parquet table with a row a finding.

    Raises:
        ConfigError: the file cannot be read, or lacks a column, or a box has no area.
    """
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"explain.findings: {path} cannot be read as a table: {error}.") from error
    if missing := [name for name in FINDING_COLUMNS if name not in table]:
        raise ConfigError(f"explain.findings: {path} lacks {', '.join(missing)}; a row is a box on a file.")
    boxes = table[list(FINDING_COLUMNS[1:])].astype(float)
    flat = ~((boxes["right"] > boxes["left"]) & (boxes["bottom"] > boxes["top"]))
    if flat.any():
        raise ConfigError(f"explain.findings: {int(flat.sum())} boxes of {path} have no area.")
    return {
        str(digest): boxes.loc[rows.index].to_numpy()
        for digest, rows in table.groupby(table["digest"].astype(str), sort=True)
    }


def localisation(attributions: pd.DataFrame, findings: Boxes) -> pd.DataFrame:
    """Where the maps lie, of every picture that has a finding.

    A finding may speak for or against the class, and nobody knows which before the model has
    answered, so a cell counts by the size of its score. ``leaning`` is the sign of the score at the
    strongest cell. Files of several frames are left out: a box does not say on which frame it lies.

    Args:
        attributions: the stage's ``attributions.parquet``, with ``model_digest``.
        findings: of ``load_findings``.
    """
    known = attributions[attributions["digest"].isin(list(findings)) & (attributions["kind"] == "pixels")]
    rows = [
        dict(zip(_MAP, key, strict=True)) | found
        for key, cells in known.groupby(_MAP, sort=True)
        for found in _one(cells, findings[str(key[_MAP.index("digest")])])
    ]
    return pd.DataFrame(rows, columns=list(LOCALISATION_COLUMNS))


def _one(cells: pd.DataFrame, truth: Float[np.ndarray, "finding 4"]) -> Iterator[dict[str, Any]]:
    if cells["box"].duplicated().any():
        return
    boxes = np.array([json.loads(box) for box in cells["box"]], dtype=float)
    score = cells["score"].to_numpy(float)
    found = localise(np.abs(score), boxes, truth)
    yield {"findings": len(truth), "leaning": int(np.sign(score[np.argmax(np.abs(score))])), **vars(found)}
