"""External validation: a finished run's model on another hospital's export.

Subjects whom the model was fitted to are scored and left out of the figures.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clinimm.config import PipelineConfig
from clinimm.core.errors import ConfigError, DataError
from clinimm.core.record import write_text
from clinimm.lock import locked
from clinimm.origin import OF_THE_MODEL, Origin, read_origin
from clinimm.progress import Progress
from clinimm.score import HELD_OUT, Bundle, Overlap, Scored, score_export
from clinimm.workspace import Workspace

FOLDER = "validate"
METRICS_NAME = "metrics.json"


@dataclass(frozen=True)
class Validation:
    """The result: the table, its figures, whom the model knew, and the one line that a person reads."""

    predictions: Path
    metrics: dict[str, Any]
    overlap: Overlap
    line: str


def validate_run(
    config: PipelineConfig, export: Path, progress: Progress, asked: Sequence[str] = ()
) -> Validation:
    """Score ``export`` with the model of a finished run, below ``runs/NAME/validate``.

    The run's own stages are read and never changed. The cohort's rules and the settings of the model
    are those of its training, whatever the run's settings say by now.

    Args:
        config: the run's settings; they say where it lies and how predictions are judged.
        export: the folder of the other hospital's data.
        progress: says what happens.
        asked: ``key.sub=value`` as given by the user; ``ingest...`` changes how the export is read.

    Raises:
        ConfigError: there is no such folder, ``asked`` would change the model, or the run is for virtual
            staining.
        DataError: nobody in the export meets the cohort's rules, the model was fitted to all of them,
            or nobody's label is known; the predictions are there then all the same.
        MissingStageError: the run has no model yet, or it does not say whom it was fitted to.
    """
    config.require_diagnosis("`clinimm validate`")
    workspace = Workspace(config)
    model = workspace.need("train", "model")
    origin = read_origin(model)
    _refuse_other_model(asked)
    _say_what_changed(origin, config, progress)
    shared = config.encode.model_copy(update={"cache_dir": workspace.cache.absolute()})
    bundle = Bundle(origin.reading(config.model_copy(update={"encode": shared}), asked), model)
    place = workspace.root / FOLDER / _name(export)
    with locked(place):
        (place / METRICS_NAME).unlink(missing_ok=True)  # no figure of an earlier call beside an error
        scored = score_export(bundle, export, place, progress)
        metrics = _judge(origin.of_the_model(config), scored, place)
        write_text(place / METRICS_NAME, json.dumps(metrics, indent=1, sort_keys=True) + "\n")
    return Validation(scored.predictions, metrics, scored.overlap, str(metrics["line"]))


def _refuse_other_model(asked: Sequence[str]) -> None:
    for override in asked:
        if override.partition("=")[0].split(".")[0] in (*OF_THE_MODEL, "cohort"):
            raise ConfigError(
                f"--set {override}: a finished model is validated under the settings and the cohort that it "
                "was trained under. Settings of `ingest` and `evaluate` may differ."
            )


def _say_what_changed(origin: Origin, config: PipelineConfig, progress: Progress) -> None:
    trained = origin.of_the_model(config)
    if changed := [name for name in OF_THE_MODEL if getattr(trained, name) != getattr(config, name)]:
        progress.say(
            f"the run's settings of {', '.join(changed)} are not those of the training; the training's count"
        )


def _judge(config: PipelineConfig, scored: Scored, place: Path) -> dict[str, Any]:
    import pandas as pd

    from clinimm.evaluate.stage import read_task
    from clinimm.evaluate.summary import score_predictions

    table, overlap = pd.read_parquet(scored.predictions), scored.overlap
    table = table[table["split"] == HELD_OUT]
    if table.empty:
        raise DataError(
            f"all {overlap.subjects} subjects of this export who meet the cohort's rules were in the model's "
            f"training or tuning pool: there are predictions ({scored.predictions}) and nobody to judge them "
            "by. Give an export with other patients; the run's own held-out figures are in "
            "evaluate/metrics.json."
        )
    if table["label"].isna().all():
        raise DataError(
            f"{scored.predictions} holds {table['subject_id'].nunique()} subjects whom the model was not "
            "fitted to, and the label of none is known in this export: there are predictions and nothing to "
            "judge them by."
        )
    task = read_task(place / "cohort" / "task.json")
    figures = score_predictions(table, config.evaluate, task.classes, task.kind, seed=config.seed)
    return figures | {"overlap": {**asdict(overlap), "sentence": overlap.sentence}}


def _name(export: Path) -> str:
    """A folder name that tells exports of the same name apart."""
    path = export.absolute()
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", path.name).lstrip("._-") or "export"
    return f"{plain}-{hashlib.sha256(str(path).encode('utf-8')).hexdigest()[:8]}"
