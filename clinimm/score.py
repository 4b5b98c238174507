"""A saved model on another export, with nothing fitted to it.

The export goes through the same ingest, cohort rules, window and encoders as the training data.
Everybody who meets the rules is scored; vocabulary, means, weights and calibration come from the
saved model, and so do the cohort's rules and the settings that it was trained under (``origin.py``).
Whom it was fitted to is marked: nothing can be learnt of a model from them.
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
from clinimm.origin import ORIGIN_NAME, Origin, key_fingerprint, read_origin
from clinimm.perform import Digests, Work, perform, why_stale
from clinimm.progress import Progress
from clinimm.settings import COHORT_COPY, PIPELINE_COPY, write_settings
from clinimm.stages import get_stage
from clinimm.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

MODEL_FOLDER = "model"
#: Where ``split`` of a prediction says that the model was fitted to its subject.
TRAINED_ON = "trained_on"
HELD_OUT = "held_out"


@dataclass(frozen=True)
class Bundle:
    """All that scoring an export needs: the saved model, and how exports are read."""

    config: PipelineConfig
    model: Path


@dataclass(frozen=True)
class Overlap:
    """How many subjects of an export the model was fitted to.

    Attributes:
        subjects: who meets the cohort's rules.
        trained_on: how many of them were in the training or tuning pool; None where nobody can tell.
    """

    subjects: int
    trained_on: int | None

    @property
    def sentence(self) -> str:
        """For people."""
        pool = "in the model's training or tuning pool"
        if self.trained_on is None:
            return (
                f"nobody can tell which of {self.subjects} subjects were {pool}: this export was read with "
                "another pseudonym key than the training data"
            )
        if not self.trained_on:
            return f"none of {self.subjects} subjects was {pool}"
        return f"{self.trained_on} of {self.subjects} subjects were {pool} and are left out of the figures"


@dataclass(frozen=True)
class Scored:
    """What came of an export: the path of ``predictions.parquet``, and whom the model knew."""

    predictions: Path
    overlap: Overlap


def write_bundle(workspace: Workspace, folder: Path) -> None:
    """Copy what a finished run needs to score exports elsewhere into ``folder``.

    Settings are those of the training, whatever the run's own say by now; the cohort's rules lie in
    the model's folder.

    Raises:
        MissingStageError: there is no model, or its training never finished.
    """
    from clinimm.model import MODEL_FILES

    model = workspace.need("train", "model")
    config = _as_trained(read_origin(model), workspace.config)
    # Beside these lie the tuning subjects' logits, by pseudonym: they stay at home.
    (folder / MODEL_FOLDER).mkdir(parents=True)
    for name in (*MODEL_FILES, ORIGIN_NAME):
        shutil.copyfile(model / name, folder / MODEL_FOLDER / name)
    write_settings(config.model_copy(update={"sources": (), "cohort": None}), folder)


def load_bundle(folder: Path) -> Bundle:
    """A bundle that ``write_bundle`` wrote, wherever it was copied to.

    A key file that is not on this machine is no hindrance: this machine's own key is taken.
    """
    config = load_pipeline(folder / PIPELINE_COPY)
    key = config.ingest.pseudonym_key_file
    if key is not None and not key.is_file():
        own = config.ingest.model_copy(update={"pseudonym_key_file": None})
        config = config.model_copy(update={"ingest": own})
    return Bundle(config, folder / MODEL_FOLDER)


def score_export(bundle: Bundle, export: Path, place: Path, progress: Progress) -> Scored:
    """Read, select, cut, encode and score an export.

    Args:
        bundle: settings and model.
        export: the folder of the hospital's data.
        place: where the stages write; what did not change there is kept.
        progress: says what happens.

    Raises:
        ConfigError: there is no such folder.
        DataError: nobody in the export meets the cohort's rules.
        MissingStageError: the model does not say whom it was fitted to.
        ModelError: the model and what is told of its origin do not belong together.
    """
    if not export.is_dir():
        raise ConfigError(f"{export}: there is no such folder.")
    origin = read_origin(bundle.model)
    config = origin.of_the_model(bundle.config)
    workspace = Workspace(_settings(config, export, place, _write_rules(origin, place)))
    digests = Digests()
    _bring_up_to_date("ingest", workspace, progress, digests)
    _bring_up_to_date("cohort", workspace, progress, digests, select_everybody)
    _bring_up_to_date("encode", workspace, progress, digests)
    # The model is no part of this folder, so no digest tells whether it changed: always anew.
    work = partial(_predict, bundle.model, origin)
    notes = perform(get_stage("predict"), workspace, progress, digests, work).notes
    overlap = Overlap(notes["subjects"], notes[TRAINED_ON])
    return Scored(workspace.need("predict", "predictions.parquet"), overlap)


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
    cohort.insert(list(cohort.columns).index("labelled") + 1, "split", HELD_OUT)
    splits = cohort[["subject_id"]].assign(repeat=0, fold=0, split=HELD_OUT)
    write_text(folder / "task.json", json.dumps(task(spec), indent=1) + "\n")
    write_text(folder / "spec.json", spec.model_dump_json(indent=1, exclude_unset=True) + "\n")
    _write(folder / "cohort.parquet", cohort)
    _write(folder / "splits.parquet", splits.astype({"repeat": "int32", "fold": "int32"}))
    return {"subjects": len(cohort), "labelled": int(cohort["labelled"].sum())}


def _predict(folder: Path, origin: Origin, workspace: Workspace, progress: Progress) -> dict[str, Any]:
    from clinimm.corpus import Corpus
    from clinimm.model import FusionModel
    from clinimm.predict import in_fit, predict_subjects, prediction_rows
    from clinimm.tables import load_cohort

    model = FusionModel.from_pretrained(folder)
    if model.digest != origin.model_digest:
        raise ModelError(
            f"{folder} holds model {model.digest[:16]}, and its {ORIGIN_NAME} speaks of model "
            f"{origin.model_digest[:16]}: they do not belong together. Copy the folder as a whole."
        )
    cohort = load_cohort(workspace, needs_labels=False)
    corpus = Corpus.load(workspace.root / "encode", workspace.config.plugins)
    (fit,) = cohort.fits
    subjects, seen = fit.held_out, model.modalities
    chances = predict_subjects(model, corpus, subjects, seen)
    rows = prediction_rows(subjects, chances, cohort.task, corpus, cohort, model.digest, seen)
    rows = in_fit(rows, fit, HELD_OUT)
    known = origin.key_fingerprint == key_fingerprint(workspace.config)
    if known:
        rows.loc[origin.trained_on(rows["subject_id"]), "split"] = TRAINED_ON
    _write(workspace.stage("predict") / "predictions.parquet", rows)
    count = sum(origin.trained_on(subjects)) if known else None
    return {"subjects": len(subjects), TRAINED_ON: count, "model_digest": model.digest}


def _bring_up_to_date(
    name: str, workspace: Workspace, progress: Progress, digests: Digests, work: Work | None = None
) -> None:
    stage = get_stage(name)
    if why_stale(stage, workspace, digests) is not None:
        perform(stage, workspace, progress, digests, work)


def _as_trained(origin: Origin, config: PipelineConfig) -> PipelineConfig:
    return origin.reading(origin.of_the_model(config))


def _write_rules(origin: Origin, place: Path) -> Path:
    """The rules of the model's cohort as a cohort file; nobody is split, so no split stands in it."""
    rules = origin.cohort.model_dump(mode="json", exclude_unset=True, exclude={"split"})
    path = place / COHORT_COPY
    write_text(path, json.dumps(rules, indent=1, ensure_ascii=False) + "\n")  # JSON is YAML
    return path


def _settings(config: PipelineConfig, export: Path, place: Path, rules: Path) -> PipelineConfig:
    changes = {
        "name": place.name,
        "runs_dir": place.parent,
        "sources": (SourceConfig(root=export.absolute()),),
        "cohort": rules,
    }
    return config.model_copy(update=changes)


def _write(path: Path, table: pd.DataFrame) -> None:
    write_bytes(path, table.reset_index(drop=True).to_parquet(index=False))
