"""The predict stage: every held-out subject, from every subset of its modalities.

A subject is predicted by the fit that held it out. A subset is asked for by hiding the tokens of
the other modalities, which is what the model meets when a hospital does not have them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.special import expit, softmax

from clinimm.controls import control_predictions, image_metadata
from clinimm.core.prediction import PREDICTION_COLUMNS, modality_key
from clinimm.corpus import Corpus
from clinimm.fit import require_same_plan
from clinimm.model import FusionModel
from clinimm.nn.tokens import Batch
from clinimm.progress import Progress
from clinimm.tables import Cohort, Fit, load_cohort
from clinimm.tasks.diagnosis import Task
from clinimm.workspace import Workspace

_BATCH = 64


def run(workspace: Workspace, progress: Progress) -> dict[str, Any]:
    """Write ``predictions``, ``tuning``, ``subsets``, ``nothing`` and ``controls`` as Parquet.

    And, for the audit's detectors, ``metadata`` (how images were made) and ``embeddings``.

    Raises:
        MissingStageError: the models were fitted to another split or under other settings.
    """
    require_same_plan(workspace)
    cohort = load_cohort(workspace)
    corpus = Corpus.load(workspace.root / "encode", workspace.config.plugins)
    folder = workspace.stage("predict")
    models = workspace.root / "train"
    held_out, tuning, subsets, nothing, controls = [], [], [], [], []
    embeddings = []
    for fit in progress.track(cohort.fits, "folds"):
        model = FusionModel.from_pretrained(models / "fits" / fit.name)
        held_out.append(_fit_rows(model, model.modalities, fit, corpus, cohort))
        tuning.append(tuning_rows(models / "fits" / fit.name, model, fit, corpus, cohort))
        for subset in nonempty_subsets(model.modalities):
            rows = _fit_rows(model, subset, fit, corpus, cohort)
            subsets.append(rows.assign(subset=modality_key(subset)))
        nothing.append(_blind_rows(model, fit, corpus, cohort))
        if fit.repeat == cohort.fits[0].repeat:
            embeddings.append(_embedding_rows(model, fit, corpus))
        controls += _single_rows(models / "singles" / fit.name, fit, corpus, cohort)
    controls.append(control_predictions(workspace, corpus, cohort, progress))
    _write_for_detectors(folder, workspace, pd.concat(embeddings, ignore_index=True))
    tables = {
        "predictions": pd.concat(held_out),
        "tuning": pd.concat(tuning),
        "subsets": pd.concat(subsets),
        "nothing": pd.concat(nothing),
        "controls": pd.concat(controls),
    }
    for name, table in tables.items():
        ordered = table.sort_values([c for c in table.columns if c in _ORDER], kind="stable")
        ordered.reset_index(drop=True).to_parquet(folder / f"{name}.parquet", index=False)
    return {name: len(table) for name, table in tables.items()}


_ORDER = ("control", "subset", "task", "class_name", "repeat", "fold", "subject_id")


def nonempty_subsets(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Every non-empty subset, smallest first.

    >>> list(nonempty_subsets(["a", "b"]))
    [('a',), ('b',), ('a', 'b')]
    """
    for size in range(1, len(names) + 1):
        yield from combinations(names, size)


def predict_subjects(
    model: FusionModel, corpus: Corpus, subjects: Sequence[str], modalities: Sequence[str]
) -> np.ndarray:
    """Probabilities (subject, class) when only ``modalities`` may be seen."""
    parts = []
    with torch.inference_mode():
        for start in range(0, len(subjects), _BATCH):
            batch = corpus.batch(subjects[start : start + _BATCH], model.statistics)
            logits = model(only(batch, modalities))
            parts.append(model.probabilities(logits.float()).numpy())
    return np.concatenate(parts) if parts else np.zeros((0, len(model.classes)))


def _embedding_rows(model: FusionModel, fit: Fit, corpus: Corpus) -> pd.DataFrame:
    """Where each held-out subject lies in the fused representation of the fit that held it out."""
    subjects, parts = list(fit.held_out), []
    with torch.inference_mode():
        for start in range(0, len(subjects), _BATCH):
            batch = corpus.batch(subjects[start : start + _BATCH], model.statistics)
            parts.append(model.fused(model.embed(batch)).float().numpy())
    values = np.concatenate(parts)
    rows = pd.DataFrame(values, columns=[f"e{place}" for place in range(values.shape[1])])
    rows.insert(0, "subject_id", subjects)
    rows.insert(1, "fold", np.int32(fit.fold))
    return rows


def _write_for_detectors(folder: Path, workspace: Workspace, embeddings: pd.DataFrame) -> None:
    embeddings.sort_values("subject_id", ignore_index=True).to_parquet(
        folder / "embeddings.parquet", index=False
    )
    metadata = image_metadata(workspace).rename_axis("subject_id").reset_index()
    metadata.to_parquet(folder / "metadata.parquet", index=False)


def only(batch: Batch, modalities: Sequence[str]) -> Batch:
    """The batch with the tokens of all other modalities hidden."""
    return {
        name: tokens if name in modalities else tokens.with_mask(torch.zeros_like(tokens.mask))
        for name, tokens in batch.items()
    }


def prediction_rows(
    subjects: Sequence[str],
    probabilities: np.ndarray,
    task: Task,
    corpus: Corpus,
    cohort: Cohort,
    model_digest: str,
    allowed: Sequence[str],
) -> pd.DataFrame:
    """Rows of the prediction table, one a subject and class."""
    seen = [
        modality_key([name for name in corpus.modalities_of(subject) if name in allowed])
        for subject in subjects
    ]
    parts = []
    for column, class_name in enumerate(task.classes):
        parts.append(
            pd.DataFrame(
                {
                    "subject_id": list(subjects),
                    "index_time": [cohort.index_time[subject] for subject in subjects],
                    "task": task.name,
                    "class_name": class_name,
                    "probability": probabilities[:, column].astype(float),
                    "label": [float(cohort.targets[subject][column]) for subject in subjects],
                    "modalities_present": seen,
                    "model_digest": model_digest,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def in_fit(rows: pd.DataFrame, fit: Fit, split: str) -> pd.DataFrame:
    """The rows marked with the fit and split that they belong to, columns in order."""
    rows = rows.assign(split=split, repeat=np.int32(fit.repeat), fold=np.int32(fit.fold))
    return rows[list(PREDICTION_COLUMNS)]


def tuning_rows(folder: Path, model: FusionModel, fit: Fit, corpus: Corpus, cohort: Cohort) -> pd.DataFrame:
    """Predictions of tuning subjects, made by members that did not train on them."""
    logits = pd.read_parquet(folder / "tuning_logits.parquet")
    subjects = [str(subject) for subject in logits["subject_id"]]
    values = logits.drop(columns="subject_id").to_numpy(float).reshape(len(subjects), -1)
    if not subjects:
        values = np.zeros((0, len(model.classes)))
    chances = softmax(values, axis=1) if model.kind == "multiclass" else expit(values)
    task = cohort.task
    rows = prediction_rows(subjects, chances, task, corpus, cohort, model.digest, model.modalities)
    return in_fit(rows, fit, "tuning")


def _fit_rows(
    model: FusionModel, allowed: Sequence[str], fit: Fit, corpus: Corpus, cohort: Cohort
) -> pd.DataFrame:
    """Held-out predictions; for a true subset, of the subjects that have any of it."""
    whole = len(allowed) == len(model.modalities)
    subjects = [
        subject
        for subject in fit.held_out
        if whole or any(name in allowed for name in corpus.modalities_of(subject))
    ]
    chances = predict_subjects(model, corpus, subjects, allowed)
    rows = prediction_rows(subjects, chances, cohort.task, corpus, cohort, model.digest, allowed)
    return in_fit(rows, fit, "held_out")


def _blind_rows(model: FusionModel, fit: Fit, corpus: Corpus, cohort: Cohort) -> pd.DataFrame:
    """What the model answers for the held-out subjects when it sees nothing of them."""
    chances = predict_subjects(model, corpus, fit.held_out, ())
    rows = prediction_rows(fit.held_out, chances, cohort.task, corpus, cohort, model.digest, ())
    return in_fit(rows, fit, "held_out")


def _single_rows(folder: Path, fit: Fit, corpus: Corpus, cohort: Cohort) -> list[pd.DataFrame]:
    """Held-out predictions of the models that were trained on one modality alone.

    A subject without that modality gets the model's prior, so that all controls are compared on
    the same subjects.
    """
    parts = []
    for path in sorted(folder.glob("*/done")):
        model = FusionModel.from_pretrained(path.parent)
        rows = _fit_rows(model, model.modalities, fit, corpus, cohort)
        parts.append(rows.assign(control=f"single:{path.parent.name}"))
    return parts
