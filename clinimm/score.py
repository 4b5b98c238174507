"""A saved model on another export, with nothing fitted to it.

The export goes through the same ingest, cohort rules, window and encoders as the training data.
Everybody who meets the rules counts as held out; vocabulary, means, weights and calibration come
from the saved model.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clinimm.config import PipelineConfig, SourceConfig, load_pipeline
from clinimm.core.errors import ConfigError, DataError, ModelError
from clinimm.core.record import write_bytes, write_text
from clinimm.perform import Digests, Work, perform, why_stale
from clinimm.progress import Progress
from clinimm.settings import COHORT_COPY, PIPELINE_COPY, write_settings
from clinimm.stages import get_stage
from clinimm.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

MODEL_FOLDER = "model"


@dataclass(frozen=True)
class Bundle:
    """All that scoring an export needs: settings with their cohort file, and the saved model."""

    config: PipelineConfig
    model: Path


def write_bundle(workspace: Workspace, folder: Path) -> None:
    """Copy what a finished run needs to score exports elsewhere into ``folder``."""
    model = workspace.need("train", "model")
    shutil.copytree(model, folder / MODEL_FOLDER)
    write_settings(workspace.config.model_copy(update={"sources": ()}), folder)


def load_bundle(folder: Path) -> Bundle:
    """A bundle that ``write_bundle`` wrote, wherever it was copied to."""
    config = load_pipeline(folder / PIPELINE_COPY)
    return Bundle(config.model_copy(update={"cohort": folder / COHORT_COPY}), folder / MODEL_FOLDER)


def score_export(bundle: Bundle, export: Path, place: Path, progress: Progress) -> Path:
    """Read, select, cut, encode and score an export; the path of ``predictions.parquet``.

    Args:
        bundle: settings and model.
        export: the folder of the hospital's data.
        place: where the stages write; what did not change there is kept.
        progress: says what happens.

    Raises:
        ConfigError: there is no such folder.
        DataError: nobody in the export meets the cohort's rules.
        ModelError: the model and the cohort file do not belong together.
    """
    if not export.is_dir():
        raise ConfigError(f"{export}: there is no such folder.")
    workspace = Workspace(_settings(bundle.config, export, place))
    digests = Digests()
    _bring_up_to_date("ingest", workspace, progress, digests)
    _bring_up_to_date("cohort", workspace, progress, digests, select_everybody)
    _bring_up_to_date("encode", workspace, progress, digests)
    # The model is no part of this folder, so no digest tells whether it changed: always anew.
    perform(get_stage("predict"), workspace, progress, digests, partial(_predict, bundle))
    return workspace.need("predict", "predictions.parquet")


def select_everybody(workspace: Workspace, progress: Progress) -> dict[str, Any]:
    """The cohort of an export to be scored: who meets the rules is held out, labelled or not.

    Raises:
        DataError: nobody does; ``flow.json`` says where they left.
    """
    import pandas as pd

    from clinimm.cohort.select import select
    from clinimm.cohort.spec import load_cohort
    from clinimm.cohort.stage import cohort_file, task

    spec = load_cohort(cohort_file(workspace))
    selection = select(pd.read_parquet(workspace.need("ingest", "events.parquet")), spec)
    folder = workspace.stage("cohort")
    write_text(folder / "flow.json", selection.flow.to_json())
    if selection.cohort.empty:
        raise DataError(
            f"nobody in the export meets the rules of cohort {spec.name}; {folder / 'flow.json'} says at "
            "which step they left."
        )
    cohort = selection.cohort.copy()
    cohort.insert(list(cohort.columns).index("labelled") + 1, "split", "held_out")
    splits = cohort[["subject_id"]].assign(repeat=0, fold=0, split="held_out")
    write_text(folder / "task.json", json.dumps(task(spec), indent=1) + "\n")
    write_text(folder / "spec.json", spec.model_dump_json(indent=1, exclude_unset=True) + "\n")
    _write(folder / "cohort.parquet", cohort)
    _write(folder / "splits.parquet", splits.astype({"repeat": "int32", "fold": "int32"}))
    return {"subjects": len(cohort), "labelled": int(cohort["labelled"].sum())}


def _predict(bundle: Bundle, workspace: Workspace, progress: Progress) -> dict[str, Any]:
    from clinimm.corpus import Corpus
    from clinimm.model import FusionModel
    from clinimm.predict import in_fit, predict_subjects, prediction_rows
    from clinimm.tables import load_cohort

    model = FusionModel.from_pretrained(bundle.model)
    cohort = load_cohort(workspace, needs_labels=False)
    if tuple(cohort.task.classes) != tuple(model.classes):
        raise ModelError(
            f"the model tells {', '.join(model.classes)} apart and the cohort file asks for "
            f"{', '.join(cohort.task.classes)}: they do not belong together."
        )
    corpus = Corpus.load(workspace.root / "encode", workspace.config.plugins)
    (fit,) = cohort.fits
    subjects, seen = fit.held_out, model.modalities
    chances = predict_subjects(model, corpus, subjects, seen)
    rows = prediction_rows(subjects, chances, cohort.task, corpus, cohort, model.digest, seen)
    _write(workspace.stage("predict") / "predictions.parquet", in_fit(rows, fit, "held_out"))
    return {"subjects": len(subjects), "model_digest": model.digest}


def _bring_up_to_date(
    name: str, workspace: Workspace, progress: Progress, digests: Digests, work: Work | None = None
) -> None:
    stage = get_stage(name)
    if why_stale(stage, workspace, digests) is not None:
        perform(stage, workspace, progress, digests, work)


def _settings(config: PipelineConfig, export: Path, place: Path) -> PipelineConfig:
    changes = {
        "name": place.name,
        "runs_dir": place.parent,
        "sources": (SourceConfig(root=export.absolute()),),
    }
    return config.model_copy(update=changes)


def _write(path: Path, table: pd.DataFrame) -> None:
    write_bytes(path, table.reset_index(drop=True).to_parquet(index=False))
