"""What one subject's page is made of, read from a finished run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from clinimm.cohort.stage import read_spec
from clinimm.cohort.window import visible
from clinimm.core.attribution import CHECK_COLUMNS, INTERACTION_COLUMNS, STANDING_COLUMNS
from clinimm.core.errors import DataError
from clinimm.evaluate.metrics import wilson
from clinimm.report.facts import RunFacts, split_key
from clinimm.workspace import Workspace

#: Where ``explain_subjects`` leaves what was asked for later (``explain/stage.py``).
_REQUESTED = ".requested"
#: Held-out subjects within this distance in probability count as "like this one".
_NEAR = 0.10
_NEEDED = ("attributions", "summary", "contributions")
#: What runs of earlier versions do not have, and the columns that a page asks for.
_OPTIONAL: dict[str, list[str]] = {
    "interactions": list(INTERACTION_COLUMNS),
    "checks": list(CHECK_COLUMNS),
    "standings": list(STANDING_COLUMNS),
}


@dataclass(frozen=True)
class SubjectFacts:
    """One subject's prediction and its explanation.

    Attributes:
        prediction: its row of ``predictions.parquet``.
        attributes: its row of ``cohort.parquet``.
        attributions: its rows of ``attributions.parquet``; empty where it was not explained.
        summary: its row of ``summary.parquet``, or None.
        contributions: modality -> Shapley value.
        interactions, checks, standings: its rows of the tables of that name; empty in older runs.
        events: its rows of ``events.parquet`` that a model may see (``cohort/window.py``).
    """

    prediction: Mapping[str, Any]
    attributes: Mapping[str, Any]
    attributions: pd.DataFrame
    summary: Mapping[str, Any] | None
    contributions: Mapping[str, float]
    interactions: pd.DataFrame
    checks: pd.DataFrame
    standings: pd.DataFrame
    events: pd.DataFrame

    @property
    def present(self) -> tuple[str, ...]:
        """The modalities it has."""
        return tuple(split_key(str(self.prediction["modalities_present"])))


@dataclass(frozen=True)
class Neighbours:
    """Held-out subjects with a similar probability, and how many of them had the outcome.

    Attributes:
        n, positives: how many, and how many with the outcome.
        low, high: Wilson's 95 % interval of the share.
        from_probability, to_probability: which probabilities count as similar.
    """

    n: int
    positives: int
    low: float
    high: float
    from_probability: float
    to_probability: float


def is_explained(workspace: Workspace, subject_id: str) -> bool:
    """Whether the page of a subject would hold an explanation of its current prediction.

    Raises:
        DataError: the subject has no held-out prediction in this run.
    """
    facts = RunFacts(workspace)
    return _explanation(facts, read_prediction(facts, subject_id)) is not None


def read_subject(facts: RunFacts, subject_id: str) -> SubjectFacts:
    """Everything that the run knows about one subject's prediction.

    Raises:
        DataError: the subject has no held-out prediction in this run.
        MissingStageError: the run has no predictions.
    """
    prediction = read_prediction(facts, subject_id)
    tables = _explanation(facts, prediction)
    cohort = facts.cohort[facts.cohort["subject_id"] == subject_id]
    summary = None if tables is None else _record(tables["summary"])
    contributions = (
        {} if tables is None else tables["contributions"].set_index("modality")["shapley"].to_dict()
    )
    return SubjectFacts(
        prediction=prediction,
        attributes={} if cohort.empty else _record(cohort),
        attributions=pd.DataFrame() if tables is None else tables["attributions"],
        summary=summary,
        contributions={str(name): float(value) for name, value in contributions.items()},
        **{
            name: pd.DataFrame(columns=columns) if tables is None else tables[name]
            for name, columns in _OPTIONAL.items()
        },
        events=_events(facts, subject_id, prediction["index_time"]),
    )


def neighbours(
    facts: RunFacts, prediction: Mapping[str, Any], minimum: int = 10, near: float = _NEAR
) -> Neighbours | None:
    """How the outcome turned out for held-out subjects near this probability, itself left out.

    None where fewer than ``minimum`` are near: a share of nine people is no evidence, and might
    tell who they are.
    """
    rows = others(facts, prediction)
    low, high = max(0.0, prediction["probability"] - near), min(1.0, prediction["probability"] + near)
    rows = rows[rows["probability"].between(low, high)]
    if len(rows) < minimum:
        return None
    positives = int((rows["label"] == 1).sum())
    return Neighbours(len(rows), positives, *wilson(positives, len(rows)), low, high)


def others(facts: RunFacts, prediction: Mapping[str, Any]) -> pd.DataFrame:
    """The rows of the other held-out subjects with a label, of the same class and repeat."""
    table = facts.predictions
    return table[
        (table["split"] == "held_out")
        & (table["repeat"] == prediction["repeat"])
        & (table["class_name"] == prediction["class_name"])
        & (table["subject_id"] != prediction["subject_id"])
        & table["label"].notna()
    ]


def read_prediction(facts: RunFacts, subject_id: str) -> dict[str, Any]:
    """The row of ``predictions.parquet`` that a subject's page is about.

    Raises:
        DataError: the subject has no held-out prediction in this run.
    """
    rows = facts.predictions[
        (facts.predictions["subject_id"] == subject_id) & (facts.predictions["split"] == "held_out")
    ]
    if rows.empty:
        raise DataError(
            f"subject {subject_id} has no held-out prediction in {facts.root}; pages are made for "
            "subjects that the model did not train on (see predict/predictions.parquet)."
        )
    # As the explain stage chooses: the first repeat, and in it the most probable class.
    order = rows.sort_values(
        ["repeat", "probability", "class_name"], ascending=[True, False, True], kind="stable"
    )
    return _record(order)


def _explanation(facts: RunFacts, prediction: Mapping[str, Any]) -> dict[str, pd.DataFrame] | None:
    """The tables of the subject, where they explain this very model's answer."""
    subject = str(prediction["subject_id"])
    for folder in (facts.root / "explain", facts.root / "explain" / _REQUESTED / subject):
        if not (folder / "summary.parquet").exists():
            continue
        tables = {}
        for name in (*_NEEDED, *_OPTIONAL):
            table = _table(folder / f"{name}.parquet", _OPTIONAL.get(name))
            same = (table["subject_id"] == subject) & (table["class_name"] == prediction["class_name"])
            tables[name] = table[same & (table["model_digest"] == prediction["model_digest"])]
        if len(tables["summary"]):
            return tables
    return None


def _table(path: Path, columns: list[str] | None) -> pd.DataFrame:
    if columns is not None and not path.exists():
        return pd.DataFrame(columns=columns)
    return pd.read_parquet(path)


def _events(facts: RunFacts, subject_id: str, index_time: pd.Timestamp) -> pd.DataFrame:
    path = facts.workspace.need("ingest", "events.parquet")
    events = pd.read_parquet(path, filters=[("subject_id", "==", subject_id)])
    spec = read_spec(facts.workspace.need("cohort", "spec.json").parent)
    member = pd.DataFrame({"subject_id": [subject_id], "index_time": [index_time]})
    return pd.concat([visible(events, member, spec, name) for name in spec.inputs], ignore_index=True)


def _record(table: pd.DataFrame) -> dict[str, Any]:
    row = table.iloc[0].to_dict()
    return {
        str(key): (value.item() if isinstance(value, np.generic) else value) for key, value in row.items()
    }
