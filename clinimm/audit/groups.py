"""Metrics of each group, with intervals that stay honest where a group is small.

Under repeated cross-validation every figure is the mean over repeats and the subject stays the
unit, as in the evaluation, so the audit's overall figures equal those of ``metrics.json``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from clinimm.audit.policy import HARM
from clinimm.core.errors import DataError
from clinimm.evaluate.estimate import Estimate, estimate, not_estimable
from clinimm.evaluate.metrics import (
    Array,
    auroc_interval,
    delong_variance,
    placements,
    rate_counts,
    wilson,
)
from clinimm.evaluate.panel import Panel

MISSING = "(missing)"
OVERALL = "overall"
METRICS = tuple(HARM)
RATE_METRICS = ("fnr", "fpr", "sensitivity", "specificity", "ppv", "npv")
#: Columns of ``cohort.parquet`` that are no audit attribute.
_NO_ATTRIBUTE = {"subject_id", "index_time", "label", "labelled", "split", "age_years"}
_RENAMED = {"site_id": "site"}
_MOST_LEVELS = 30


@dataclass(frozen=True)
class Audited:
    """The subjects that are audited, for one class.

    Attributes:
        panel: predictions of one class.
        decision: share of repeats in which a subject is flagged at the operating point, (subject,).
        attributes: attribute -> level of each subject, (subject,).
    """

    panel: Panel
    decision: Array
    attributes: dict[str, NDArray[np.object_]]

    def members(self, attribute: str, level: str) -> NDArray[np.bool_]:
        """Who belongs to a group, (subject,)."""
        return self.attributes[attribute] == level

    def levels(self, attribute: str) -> list[str]:
        """The attribute's levels in order, ``(missing)`` last."""
        return sorted(set(self.attributes[attribute].tolist()), key=lambda level: (level == MISSING, level))


@dataclass(frozen=True)
class Cell:
    """One group's figures.

    Attributes:
        attribute, level: which group; ``overall`` and ``overall`` for everybody.
        n, positives: its subjects; None where the group is smaller than the minimum.
        figures: metric -> figure; empty where suppressed.
    """

    attribute: str
    level: str
    n: int | None
    positives: int | None
    figures: dict[str, Estimate]

    @property
    def suppressed(self) -> bool:
        """Whether the group is too small to show."""
        return self.n is None


def attributes_of(
    cohort: pd.DataFrame, predictions: pd.DataFrame, panel: Panel
) -> dict[str, NDArray[np.object_]]:
    """Attribute -> level of each subject of ``panel``, and which modalities it has.

    Raises:
        DataError: a predicted subject is not in the cohort.
    """
    subjects = panel.subject_ids.tolist()
    found = levels_of(cohort, subjects)
    present = predictions.drop_duplicates("subject_id").set_index("subject_id")["modalities_present"]
    found["modalities_present"] = _levels(present.loc[subjects])
    return found


def levels_of(cohort: pd.DataFrame, subjects: Sequence[str]) -> dict[str, NDArray[np.object_]]:
    """Audit attribute -> level of each subject; a missing value is a level of its own.

    Raises:
        DataError: a subject is not in the cohort.
    """
    rows = cohort.drop_duplicates("subject_id").set_index("subject_id")
    absent = [name for name in subjects if name not in rows.index]
    if absent:
        raise DataError(
            f"{len(absent)} predicted subjects are not in the cohort, the first is {absent[0]}; "
            "predict again after `clinimm cohort`."
        )
    rows = rows.loc[list(subjects)]
    found = {}
    for column in rows.columns:
        if column in _NO_ATTRIBUTE or str(column).startswith("label:"):
            continue
        levels = _levels(rows[column])
        if len(set(levels.tolist())) <= _MOST_LEVELS:
            found[_RENAMED.get(str(column), str(column))] = levels
    return found


def cell_of(audited: Audited, attribute: str, level: str, confidence: float, minimum: int) -> Cell:
    """The figures of one group, or its name alone where it is too small."""
    members = audited.members(attribute, level)
    n = int(members.sum())
    if n < minimum:
        return Cell(attribute, level, None, None, {})
    part = audited.panel.take(members)
    figures = {name: figure(audited, members, name, confidence) for name in METRICS}
    return Cell(attribute, level, n, part.positives, figures)


def overall_cell(audited: Audited, confidence: float) -> Cell:
    """The figures of everybody."""
    everybody = np.ones(audited.panel.n, dtype=bool)
    figures = {name: figure(audited, everybody, name, confidence) for name in METRICS}
    return Cell(OVERALL, OVERALL, audited.panel.n, audited.panel.positives, figures)


def figure(audited: Audited, members: NDArray[np.bool_], metric: str, confidence: float) -> Estimate:
    """One metric of one group: Wilson for rates, DeLong on the logit scale for the AUROC."""
    panel = audited.panel.take(members)
    if metric == "auroc":
        return _auroc(panel, confidence)
    if metric == "observed_less_predicted":
        return _observed_less_predicted(panel, confidence)
    successes, n = rate_counts(metric, panel.label[:, 0], audited.decision[members])
    if n == 0:
        return not_estimable(panel.n, panel.positives, "nobody stands in the denominator")
    return estimate(
        successes / n, wilson(successes, n, confidence), round(n), panel.positives, "Wilson interval"
    )


def _auroc(panel: Panel, confidence: float) -> Estimate:
    if panel.smallest_class == 0:
        return not_estimable(panel.n, panel.positives, "only one class is present")
    parts = [placements(label, score) for label, score in _complete_repeats(panel)]
    of_positives = np.mean([part[0] for part in parts], axis=0)
    of_negatives = np.mean([part[1] for part in parts], axis=0)
    value, variance = float(of_positives.mean()), delong_variance(of_positives, of_negatives)
    interval = auroc_interval(value, variance, panel.smallest_class, confidence)
    reason = "fewer than two of a class"
    return estimate(value, interval, panel.n, panel.positives, "DeLong interval, logit scale", reason)


def _observed_less_predicted(panel: Panel, confidence: float) -> Estimate:
    residual = panel.label[:, 0] - np.nanmean(panel.probability[:, :, 0], axis=1)
    value = float(residual.mean())
    error = float(np.std(residual, ddof=1)) / math.sqrt(panel.n) if panel.n > 1 else math.nan
    half = float(norm.ppf(0.5 + confidence / 2)) * error
    return estimate(
        value, (value - half, value + half), panel.n, panel.positives, "normal interval of the mean"
    )


def _complete_repeats(panel: Panel) -> list[tuple[Array, Array]]:
    score = panel.probability[:, :, 0]
    # A subject that a repeat did not predict takes its own mean over the others, and stays one subject.
    filled = np.where(np.isnan(score), np.nanmean(score, axis=1, keepdims=True), score)
    return [(panel.label[:, 0], filled[:, column]) for column in range(len(panel.repeats))]


def _levels(column: pd.Series) -> NDArray[np.object_]:
    values = column.astype(object)
    known: Sequence[object] = [MISSING if pd.isna(value) or value == "" else _text(value) for value in values]
    return np.array(known, dtype=object)


def _text(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
