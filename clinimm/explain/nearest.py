"""The training patients who lie nearest a held-out one in the fused representation, and by which source.

Only patients on whom the fit trained are looked at, and never with this patient among them. Distances are
Euclidean after each feature was divided by its spread over the training patients, and each is held
against the distances between training patients. Likeness here is likeness to the model (Caruana et al.
1999, "Case-based explanation of non-case-based learning methods"): it is no evidence about the patient.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from clinimm.cohort.stage import read_spec
from clinimm.core.attribution import NEAREST_COLUMNS
from clinimm.core.errors import DataError, ModelError
from clinimm.corpus import Corpus
from clinimm.explain.fits import fit_folder, load_fit
from clinimm.explain.select import explained_class
from clinimm.model import FusionModel
from clinimm.tables import Cohort, load_cohort
from clinimm.workspace import Workspace

#: Everything that a patient has, beside the views through one source.
_WHOLE = ""
_BATCH = 64
#: So many training patients are held against each other: enough for a percentile.
_MOST_COMPARED = 500


@dataclass(frozen=True)
class View:
    """Where training patients lie, seen through all sources or through one.

    Attributes:
        subjects: the training patients who can be seen so.
        places: where each lies, in standard deviations.
        centre, scale: mean and spread of each feature over them.
        apart: distances between pairs of them, ascending.
    """

    subjects: tuple[str, ...]
    places: Float[np.ndarray, "subject feature"]
    centre: Float[np.ndarray, " feature"]
    scale: Float[np.ndarray, " feature"]
    apart: Float[np.ndarray, " pair"]

    @classmethod
    def of(cls, values: Mapping[str, Float[np.ndarray, " feature"]]) -> View:
        """The view of patients at these values."""
        table = np.stack(list(values.values()))
        centre, scale = table.mean(axis=0), table.std(axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        places = (table - centre) / scale
        return cls(tuple(values), places, centre, scale, _between(places))

    def distances(self, value: Float[np.ndarray, " feature"]) -> Float[np.ndarray, " subject"]:
        """How far a patient at this value lies from each of them."""
        return np.linalg.norm(self.places - (value - self.centre) / self.scale, axis=1)

    def percentile(self, distance: float) -> float:
        """Share of pairs of training patients that lie closer to each other than this."""
        return float(np.searchsorted(self.apart, distance) / max(1, len(self.apart)))


def nearest_cases(workspace: Workspace, subject_ids: Sequence[str], count: int) -> pd.DataFrame:
    """The ``count`` nearest training patients of each of some held-out subjects, nearest first.

    A case's outcome is the label that the fit was taught, and null where its window had not ended when
    this subject's question was asked: nobody could have known it then (law 1).

    Returns:
        A table with ``NEAREST_COLUMNS``. A subject of whom the model has no token has no rows.

    Raises:
        DataError: a subject has no held-out prediction in this run.
        MissingStageError: the run has no predictions yet.
        ModelError: a fit is not the model that predicted a subject, or gives it no finite features.
    """
    rows: list[dict[str, Any]] = []
    if count:
        targets = explained_class(pd.read_parquet(workspace.need("predict", "predictions.parquet")))
        targets = targets.set_index("subject_id", drop=False)
        if unknown := [subject for subject in subject_ids if subject not in targets.index]:
            raise DataError(f"subject {', '.join(unknown)} has no held-out prediction in {workspace.root}.")
        rows = list(_rows(workspace, targets.loc[list(subject_ids)], count))
    found = pd.DataFrame(rows, columns=list(NEAREST_COLUMNS))
    return found.sort_values(["subject_id", "rank"], kind="stable", ignore_index=True)


def _rows(workspace: Workspace, targets: pd.DataFrame, count: int) -> Iterator[dict[str, Any]]:
    corpus = Corpus.load(workspace.root / "encode", workspace.config.plugins)
    cohort = load_cohort(workspace, needs_labels=False)
    window = read_spec(workspace.need("cohort", "spec.json").parent).label.window[1]
    training = {(fit.repeat, fit.fold): fit.training for fit in cohort.fits}
    for _, group in targets.groupby(["repeat", "fold"], sort=True):
        fit: Any = next(group.itertuples())
        model = load_fit(fit_folder(workspace, fit), group)
        known = _values(model, corpus, training[fit.repeat, fit.fold])
        views = {name: View.of(values) for name, values in known.items() if values}
        for target in group.itertuples():
            subject = str(target.subject_id)
            own = _values(model, corpus, [subject])
            if subject not in own[_WHOLE] and set(corpus.modalities_of(subject)) & set(model.modalities):
                raise ModelError(f"{subject}: the model's representation is not a finite number.")
            for row in _cases(views, own, subject, count):
                outcome = _outcome(cohort, model, window, target, row["case_id"])
                yield row | {
                    "subject_id": target.subject_id,
                    "task": target.task,
                    "class_name": target.class_name,
                    "outcome": outcome,
                    "model_digest": model.digest,
                }


def _cases(
    views: Mapping[str, View], own: Mapping[str, Mapping[str, np.ndarray]], subject: str, count: int
) -> Iterator[dict[str, Any]]:
    if _WHOLE not in views or subject not in own[_WHOLE]:
        return
    far = {
        name: dict(zip(view.subjects, view.distances(own[name][subject]), strict=True))
        for name, view in views.items()
        if subject in own[name]
    }
    others = {case: distance for case, distance in far[_WHOLE].items() if case != subject}
    nearest = sorted(others, key=lambda case: (others[case], case))[:count]
    for rank, case in enumerate(nearest, start=1):
        sources = {
            name: round(views[name].percentile(distances[case]), 4)
            for name, distances in far.items()
            if name != _WHOLE and case in distances
        }
        yield {
            "rank": rank,
            "case_id": case,
            "distance": float(others[case]),
            "percentile": views[_WHOLE].percentile(others[case]),
            "sources": json.dumps(sources, sort_keys=True),
        }


def _values(model: FusionModel, corpus: Corpus, subjects: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """View -> subject -> its features; only where it has such tokens and the features are finite."""
    found: dict[str, dict[str, np.ndarray]] = {name: {} for name in (_WHOLE, *model.modalities)}
    having = {one: set(corpus.modalities_of(one)) & set(model.modalities) for one in subjects}
    seen = [one for one in subjects if having[one]]
    for start in range(0, len(seen), _BATCH):
        chunk = seen[start : start + _BATCH]
        with torch.no_grad():
            embedded = model.embed(corpus.batch(chunk, model.statistics))
            values = {_WHOLE: model.fused(embedded)}
            values |= {name: model.fused({name: tokens}) for name, tokens in embedded.items()}
        for name, rows in values.items():
            for subject, row in zip(chunk, rows.double().cpu().numpy(), strict=True):
                if (name == _WHOLE or name in having[subject]) and np.isfinite(row).all():
                    found[name][subject] = row
    return found


def _outcome(
    cohort: Cohort, model: FusionModel, window: timedelta | None, target: Any, case: str
) -> float | None:
    """1 or 0; None where the label is not known, or was not known yet at the target's index time."""
    if window is None or cohort.index_time[case] + window > target.index_time:
        return None
    value = cohort.targets[case][list(model.classes).index(str(target.class_name))]
    return None if np.isnan(value) else float(value)


def _between(places: Float[np.ndarray, "subject feature"]) -> Float[np.ndarray, " pair"]:
    """Distances between pairs of at most so many patients, ascending; the same for the same patients."""
    if len(places) > _MOST_COMPARED:
        places = places[np.sort(np.random.default_rng(0).choice(len(places), _MOST_COMPARED, replace=False))]
    left, right = np.triu_indices(len(places), k=1)
    squared = (places**2).sum(1)
    apart = squared[left] + squared[right] - 2 * (places @ places.T)[left, right]
    return np.sort(np.sqrt(np.maximum(apart, 0)))
