"""Predictions: the seam between models and everything that judges them.

Evaluation, audit and reports need only these tables. ``predictions.parquet`` holds the fused
model's predictions and nothing else; ``subsets.parquet`` and ``controls.parquet`` add one column.
"""

from __future__ import annotations

#: Columns of ``predict/predictions.parquet``, one row a subject, task, class and repeat.
PREDICTION_COLUMNS: dict[str, str] = {
    "subject_id": "string",
    "index_time": "timestamp[us, tz=UTC]",
    "task": "string",
    "class_name": "string",
    "probability": "float64",
    "label": "float64",
    "modalities_present": "string",
    "model_digest": "string",
    "split": "string",
    "repeat": "int32",
    "fold": "int32",
}

#: Joins the names in ``modalities_present``, sorted: ``ehr+notes``. No modality is ``none``.
JOIN = "+"


def modality_key(names: list[str] | tuple[str, ...] | set[str]) -> str:
    """The canonical name of a set of modalities.

    >>> modality_key(["notes", "ehr"])
    'ehr+notes'
    """
    return JOIN.join(sorted(names)) if names else "none"
