"""External validation: a finished run's model on another hospital's export."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clinimm.config import PipelineConfig
from clinimm.core.errors import DataError
from clinimm.core.record import write_text
from clinimm.lock import locked
from clinimm.progress import Progress
from clinimm.score import Bundle, score_export
from clinimm.workspace import Workspace

FOLDER = "validate"
METRICS_NAME = "metrics.json"


@dataclass(frozen=True)
class Validation:
    """The result: the table, its figures, and the one line that a person reads."""

    predictions: Path
    metrics: dict[str, Any]
    line: str


def validate_run(config: PipelineConfig, export: Path, progress: Progress) -> Validation:
    """Score ``export`` with the model of a finished run, below ``runs/NAME/validate``.

    The run's own stages are read and never changed.

    Raises:
        ConfigError: there is no such folder.
        DataError: nobody in the export meets the cohort's rules, or nobody's label is known; the
            predictions are there then all the same.
        MissingStageError: the run has no model yet.
    """
    workspace = Workspace(config)
    model = workspace.need("train", "model")
    shared = config.encode.model_copy(update={"cache_dir": workspace.cache.absolute()})
    bundle = Bundle(config.model_copy(update={"encode": shared}), model)
    place = workspace.root / FOLDER / _name(export)
    with locked(place):
        predictions = score_export(bundle, export, place, progress)
        metrics = _judge(config, predictions, place)
        write_text(place / METRICS_NAME, json.dumps(metrics, indent=1, sort_keys=True) + "\n")
    return Validation(predictions, metrics, str(metrics["line"]))


def _judge(config: PipelineConfig, predictions: Path, place: Path) -> dict[str, Any]:
    import pandas as pd

    from clinimm.evaluate.stage import read_task
    from clinimm.evaluate.summary import score_predictions

    table = pd.read_parquet(predictions)
    if table["label"].isna().all():
        raise DataError(
            f"{predictions} holds {table['subject_id'].nunique()} subjects, and the label of none is known "
            "in this export: there are predictions and nothing to judge them by."
        )
    task = read_task(place / "cohort" / "task.json")
    return score_predictions(table, config.evaluate, task.classes, task.kind, seed=config.seed)


def _name(export: Path) -> str:
    """A folder name that tells exports of the same name apart."""
    path = export.absolute()
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", path.name).lstrip("._-") or "export"
    return f"{plain}-{hashlib.sha256(str(path).encode('utf-8')).hexdigest()[:8]}"
