"""The label: what was recorded in the window after the index, and what its absence means."""

from __future__ import annotations

import numpy as np
import pandas as pd

from clinimm.cohort.event_rule import EventRule
from clinimm.cohort.rules import names, says_something, says_yes
from clinimm.cohort.spec import CohortSpec, LabelSpec
from clinimm.cohort.window import after_index, with_index


def answers(events: pd.DataFrame, cohort: pd.DataFrame, spec: LabelSpec) -> pd.DataFrame:
    """The label columns of every cohort subject.

    Args:
        events: trusted events.
        cohort: ``subject_id`` and ``index_time``, one row a subject.
        spec: the label of the cohort file.

    Returns:
        Rows as in ``cohort``. ``label`` (1, 0, the number of the class, or NaN for unknown) or,
        for a multilabel task, one column ``label:<class>`` each (for virtual staining 1 or
        NaN: there is such a slide, or not); and ``labelled``, whether
        anything is known.
    """
    after = _after(events, cohort, spec)
    if spec.kind == "multiclass":
        table = pd.DataFrame({"label": _one_of(after, cohort, spec)})
    else:
        table = pd.DataFrame(
            {
                "label" if spec.kind == "binary" else f"label:{name}": _yes_or_no(after, cohort, spec, rule)
                for name, rule in spec.resolved().items()
            }
        )
    table["labelled"] = table.notna().any(axis=1)
    return table


def classes(spec: LabelSpec) -> list[str]:
    """Class names in the order of their numbers; a binary task has its positive class alone."""
    return list(spec.resolved())


def label_columns(spec: LabelSpec) -> list[str]:
    """The columns of ``cohort.parquet`` that hold the label."""
    return [f"label:{name}" for name in classes(spec)] if spec.has_columns else ["label"]


def class_counts(cohort: pd.DataFrame, spec: LabelSpec) -> dict[str, int]:
    """Subjects a class; a binary task counts ``not <task>`` too."""
    if spec.has_columns:
        return {name: int((cohort[f"label:{name}"] == 1).sum()) for name in classes(spec)}
    if spec.kind == "multiclass":
        return {name: int((cohort["label"] == number).sum()) for number, name in enumerate(classes(spec))}
    return {
        spec.task: int((cohort["label"] == 1).sum()),
        f"not {spec.task}": int((cohort["label"] == 0).sum()),
    }


def label_warnings(events: pd.DataFrame, cohort: pd.DataFrame, spec: CohortSpec) -> list[str]:
    """What may be wrong with the label although it is as the cohort file says."""
    return [
        *_already_known(events, cohort, spec.label),
        *_not_followed(events, cohort, spec.label),
        *_conflicting(events, cohort, spec.label),
    ]


def _after(events: pd.DataFrame, cohort: pd.DataFrame, spec: LabelSpec) -> pd.DataFrame:
    meant = np.zeros(len(events), dtype=bool)
    for rule in spec.resolved().values():
        meant |= names(events, rule)
    placed = with_index(events[meant], cohort)
    return placed[after_index(placed, spec.window)]


def _yes_or_no(after: pd.DataFrame, cohort: pd.DataFrame, spec: LabelSpec, rule: EventRule) -> np.ndarray:
    """Yes if any event in the window says yes; no if some say no and none yes."""
    meant = after[names(after, rule)]
    known = cohort["subject_id"].isin(meant["subject_id"][says_something(meant, rule)])
    positive = cohort["subject_id"].isin(meant["subject_id"][says_yes(meant, rule)])
    missing = 0.0 if spec.absent == "negative" else np.nan
    return np.where(positive, 1.0, np.where(known, 0.0, missing))


def _one_of(after: pd.DataFrame, cohort: pd.DataFrame, spec: LabelSpec) -> np.ndarray:
    """The class of the earliest event that has one; two classes at that same time are no answer."""
    earliest = _earliest_classes(after, spec)
    number = earliest.groupby("subject_id")["number"].agg(["min", "max"])
    agreed = number["min"].where(number["min"] == number["max"])
    return cohort["subject_id"].map(agreed).to_numpy(dtype=float, na_value=np.nan)


def _earliest_classes(after: pd.DataFrame, spec: LabelSpec) -> pd.DataFrame:
    found = [
        after[["subject_id", "time"]][names(after, rule) & says_yes(after, rule)].assign(number=float(number))
        for number, rule in enumerate(spec.resolved().values())
    ]
    table = pd.concat(found, ignore_index=True)
    return table[(table["time"] == table.groupby("subject_id")["time"].transform("min")).to_numpy(dtype=bool)]


def _conflicting(events: pd.DataFrame, cohort: pd.DataFrame, spec: LabelSpec) -> list[str]:
    if spec.kind != "multiclass":
        return []
    earliest = _earliest_classes(_after(events, cohort, spec), spec)
    count = int((earliest.groupby("subject_id")["number"].nunique() > 1).sum())
    return [f"{count} subjects have two classes at the same time; their label is unknown."] if count else []


def _already_known(events: pd.DataFrame, cohort: pd.DataFrame, spec: LabelSpec) -> list[str]:
    meant = np.zeros(len(events), dtype=bool)
    for rule in spec.resolved().values():
        meant |= names(events, rule) & says_yes(events, rule)
    placed = with_index(events[meant], cohort)
    count = placed["subject_id"][(placed["time"] <= placed["index_time"]).to_numpy(dtype=bool)].nunique()
    if not count:
        return []
    return [
        f"{count} subjects met the label already at or before the index; to ask about new cases only, "
        "exclude them with a step that has the label's code and the window [ever, 0 d]."
    ]


def _not_followed(events: pd.DataFrame, cohort: pd.DataFrame, spec: LabelSpec) -> list[str]:
    if spec.absent != "negative" or spec.window[1] is None:
        return []
    last = cohort["subject_id"].map(events.groupby("subject_id")["time"].max())
    seen = cohort["subject_id"].isin(_after(events, cohort, spec)["subject_id"])
    count = int((~seen & (last < cohort["index_time"] + spec.window[1])).sum())
    if not count:
        return []
    return [
        f"{count} subjects count as negative because nothing was recorded, although their record ends "
        "before the label's window does: they may have been lost, not well."
    ]
