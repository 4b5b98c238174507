"""The explain stage: attributions, modality contributions and their checks for held-out subjects."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from clinimm.core.errors import DataError, ModelError
from clinimm.corpus import Corpus
from clinimm.explain.attribute import Explanation
from clinimm.explain.checks import attribute_fully, deletion
from clinimm.explain.contribution import modality_shapley
from clinimm.explain.select import explained_class, select_subjects
from clinimm.explain.tables import TABLES, Explanations
from clinimm.modalities import get_modality
from clinimm.model import FusionModel
from clinimm.nn.tokens import Batch
from clinimm.progress import Progress
from clinimm.workspace import Workspace

#: Explanations made on request lie here, below ``explain``; hidden, so no result of the stage.
REQUESTED = ".requested"


def run(workspace: Workspace, progress: Progress) -> dict[str, Any]:
    """Explain ``explain.subjects`` held-out subjects and write the tables."""
    folder = workspace.stage("explain")
    shutil.rmtree(folder / REQUESTED, ignore_errors=True)
    targets = _targets(workspace)
    chosen = select_subjects(targets, workspace.config.explain.subjects)
    found = _explain(workspace, targets.set_index("subject_id").loc[chosen].reset_index(), progress)
    found.write(folder)
    return {"explained": len(found.summary), "worst_relative_delta": worst_relative_delta(found.summary)}


def explain_subjects(workspace: Workspace, subject_ids: Sequence[str], progress: Progress) -> Explanations:
    """Explain some subjects on request; their pages find the tables under ``explain/.requested``.

    Each is explained by the fit that did not train on it.

    Raises:
        DataError: a subject has no held-out prediction in this run.
        MissingStageError: the run has no predictions yet.
    """
    targets = _targets(workspace).set_index("subject_id")
    unknown = [subject for subject in subject_ids if subject not in targets.index]
    if unknown:
        raise DataError(
            f"subject {', '.join(unknown)} has no held-out prediction in {workspace.root}: only subjects "
            "that the model did not train on are explained (see predict/predictions.parquet)."
        )
    found = _explain(workspace, targets.loc[list(subject_ids)].reset_index(), progress)
    for subject in subject_ids:
        found.of(subject).write(workspace.stage("explain") / REQUESTED / subject)
    return found


def worst_relative_delta(summary: pd.DataFrame) -> float | None:
    """Largest residual of any explanation, as a share of what was to be explained."""
    if summary.empty:
        return None
    change = (summary["logit"] - summary["baseline_logit"]).abs().clip(lower=1e-3)
    return float((summary["convergence_delta"].abs() / change).max())


def _targets(workspace: Workspace) -> pd.DataFrame:
    return explained_class(pd.read_parquet(workspace.need("predict", "predictions.parquet")))


def _explain(workspace: Workspace, targets: pd.DataFrame, progress: Progress) -> Explanations:
    corpus = Corpus.load(workspace.root / "encode", workspace.config.plugins)
    fits = {str(target.subject_id): _fit(workspace, target) for target in targets.itertuples()}
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    order = targets.assign(fit=targets["subject_id"].astype(str).map(fits).astype(str))
    for fit, group in order.groupby("fit", sort=True):
        model = FusionModel.from_pretrained(Path(str(fit)))
        for target in progress.track(list(group.itertuples()), "explain", len(group)):
            _explain_one(workspace, corpus, model, target, tables)
    return Explanations.from_rows(tables)


def _fit(workspace: Workspace, target: Any) -> Path:
    """The folder of the fit that held this subject out."""
    folder = workspace.root / "train" / "fits" / f"r{target.repeat}-f{target.fold}"
    return folder if folder.is_dir() else workspace.root / "train" / "model"


def _explain_one(
    workspace: Workspace,
    corpus: Corpus,
    model: FusionModel,
    target: Any,
    tables: dict[str, list[dict[str, Any]]],
) -> None:
    config, subject = workspace.config.explain, str(target.subject_id)
    if not set(corpus.modalities_of(subject)) & set(model.modalities):
        return  # no token, nothing to attribute; the page says that no modality was there
    index = list(model.classes).index(str(target.class_name))
    batch = corpus.batch([subject], model.statistics)
    found = attribute_fully(model, batch, index, config.method, config.steps)
    common = {
        "subject_id": subject,
        "task": str(target.task),
        "class_name": str(target.class_name),
        "model_digest": model.digest,
    }
    seen = {"index_time": target.index_time, "method": found.method, "baseline": found.baseline}
    for row in _token_rows(workspace, corpus, model, subject, found):
        tables["attributions"].append(common | seen | row)
    tables["summary"].append(common | _summary(workspace, model, batch, found, index))
    for modality, value in modality_shapley(model, batch, index).items():
        tables["contributions"].append(common | {"modality": modality, "shapley": value})


def _token_rows(
    workspace: Workspace, corpus: Corpus, model: FusionModel, subject: str, found: Explanation
) -> list[dict[str, Any]]:
    """One row an embedded token, in the source's own terms."""
    rows: list[dict[str, Any]] = []
    for name, scores in found.scores.items():
        modality = get_modality(name, workspace.config.plugins)
        cells = int(getattr(model.encoders[name], "cells", 1))
        table = corpus.rows(subject, name).to_dict("records")
        if len(table) * cells > scores.shape[1]:
            raise DataError(
                f"{name}: {len(table)} tokens of {cells} cells, but the model embedded {scores.shape[1]}."
            )
        for place, record in enumerate(table):
            for cell in range(cells):
                where = modality.locate({str(key): value for key, value in record.items()}, cell)
                rows.append(
                    {
                        "modality": name,
                        "score": float(scores[0, place * cells + cell]),
                        "kind": where.kind,
                        "digest": where.digest,
                        "box": json.dumps([float(edge) for edge in where.box]),
                        "text": where.text,
                        "time_hours": float(where.time_hours),
                    }
                )
    return rows


def _summary(
    workspace: Workspace, model: FusionModel, batch: Batch, found: Explanation, index: int
) -> dict[str, Any]:
    check = deletion(model, batch, found, index, seed=workspace.config.seed)
    if not np.isfinite([*found.logit, *found.total]).all():
        raise ModelError("the model's logit or its gradient is not a finite number.")
    return {
        "method": found.method,
        "logit": float(found.logit[0]),
        "baseline_logit": float(found.baseline_logit[0]),
        "attribution_sum": float(found.total[0]),
        "convergence_delta": float(found.delta[0]),
        "deletion_auc": check.auc,
        "deletion_auc_random": check.auc_random,
    }
