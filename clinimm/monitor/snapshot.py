"""What one stretch of a deployed model's life left behind, wherever it was read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from clinimm.monitor.plan import MonitoringPlan

#: Columns of ``Snapshot.rows`` beside the attributes.
ROW_COLUMNS = ("subject_id", "index_time", "class_name", "probability", "label", "model_digest")
PERIOD_CODES = {"week": "W", "month": "M", "quarter": "Q"}


@dataclass(frozen=True)
class Intake:
    """Counts of what arrived.

    Attributes:
        files, refused: files that were read or refused, by reason.
        refusals: reason -> files.
        events: events by modality.
        flags: flag -> events.
        units: code, unit, quartiles of the numbers (``low, median, high``) and their ``count``.
        independent: subjects of equal size that would say as much about a share of the events, if the events
            of a subject all go together (Kish 1965): the square of all events over the sum of squares.
    """

    files: int
    refusals: Mapping[str, int]
    events: Mapping[str, int]
    flags: Mapping[str, int]
    units: pd.DataFrame
    independent: float

    @property
    def refused(self) -> int:
        """All refusals."""
        return sum(self.refusals.values())


@dataclass(frozen=True)
class Snapshot:
    """One stretch.

    Attributes:
        name: for people; a file's or a folder's name.
        digest: SHA-256 over what was read.
        rows: predictions, one row a subject, index time and class: ``ROW_COLUMNS``; ``index_time`` may be
            NaT, ``label`` NaN, ``model_digest`` missing.
        attributes: audit attributes, a row a subject, by ``subject_id``.
        fields: modality -> one row a subject, by ``subject_id``: what the model reads.
        vectors: modality -> mean embedding of each subject that has one; none for a record.
        intake: what arrived; None where nobody kept count.
        threshold: class -> the run's operating point.
    """

    name: str
    digest: str
    rows: pd.DataFrame
    attributes: pd.DataFrame
    fields: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    vectors: Mapping[str, Float[ndarray, "subject dim"]] = field(default_factory=dict)
    intake: Intake | None = None
    threshold: Mapping[str, float] = field(default_factory=dict)

    @property
    def classes(self) -> list[str]:
        """The classes that are predicted."""
        return sorted(self.rows["class_name"].unique().tolist())

    @property
    def models(self) -> list[str]:
        """Digests of the models that made the predictions."""
        return sorted(self.rows["model_digest"].dropna().unique().tolist())

    def of_class(self, name: str) -> pd.DataFrame:
        """The predictions of one class, in order of index time."""
        rows = self.rows[self.rows["class_name"] == name]
        return rows.sort_values(["index_time", "subject_id"], kind="stable").reset_index(drop=True)

    @property
    def times(self) -> tuple[pd.Timestamp, pd.Timestamp] | None:
        """First and last index time; None where none is known."""
        known = self.rows["index_time"].dropna()
        return None if known.empty else (known.min(), known.max())


def labelled(rows: pd.DataFrame, plan: MonitoringPlan) -> pd.DataFrame:
    """Rows whose label is final: known, and as old as the plan asks when the data were drawn."""
    known = rows[rows["label"].notna()]
    if rows["index_time"].isna().all() or not plan.label_delay_days:
        return known
    return known[known["index_time"] <= last_final(rows, plan)]


def last_final(rows: pd.DataFrame, plan: MonitoringPlan) -> pd.Timestamp:
    """The newest index time whose label is final: the plan's delay before the data were drawn."""
    drawn = rows["index_time"].max() if plan.drawn is None else pd.Timestamp(plan.drawn, tz="UTC")
    return drawn - pd.Timedelta(days=plan.label_delay_days)


def period_name(period: pd.Period) -> str:
    """How a period is called, such as ``2026-03``."""
    return str(period).replace("/", " to ")


def period_of(times: pd.Series, plan: MonitoringPlan) -> np.ndarray:
    """The name of each row's period, such as ``2026-03``; ``all`` where no time is known."""
    if times.isna().all():
        return np.full(len(times), "all", dtype=object)
    named = times.dt.tz_localize(None).dt.to_period(PERIOD_CODES[plan.period]).astype(str)
    return named.str.replace("/", " to ", regex=False).to_numpy(dtype=object)
