"""The cohort stage's tables as training and prediction see them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from clinimm.core.errors import ConfigError, DataError
from clinimm.tasks.diagnosis import Task
from clinimm.workspace import Workspace


@dataclass(frozen=True)
class Fit:
    """One training set and the subjects held out from it."""

    repeat: int
    fold: int
    training: tuple[str, ...]
    tuning: tuple[str, ...]
    held_out: tuple[str, ...]

    @property
    def name(self) -> str:
        """``r0-f3``."""
        return f"r{self.repeat}-f{self.fold}"


@dataclass(frozen=True)
class Cohort:
    """The cohort as the training sees it."""

    task: Task
    index_time: dict[str, pd.Timestamp]
    targets: dict[str, np.ndarray]
    fits: tuple[Fit, ...]
    table: pd.DataFrame = field(default_factory=pd.DataFrame, compare=False, repr=False)

    @property
    def labelled(self) -> tuple[str, ...]:
        """Every subject with a known label, sorted."""
        return tuple(sorted(s for s, target in self.targets.items() if not np.isnan(target).all()))

    def groups(self, attribute: str) -> dict[str, str]:
        """Subject -> level of an attribute, ``(missing)`` where it is not known; nothing for no attribute.

        Raises:
            ConfigError: the cohort has no such column.
        """
        if not attribute:
            return {}
        if attribute not in self.table.columns or attribute.startswith("label"):
            known = ", ".join(str(name) for name in self.table.columns if not str(name).startswith("label"))
            raise ConfigError(f"train.mitigation_attribute: no column {attribute}; the cohort has {known}.")
        column = self.table[attribute]
        return {
            str(subject): "(missing)" if pd.isna(level) else str(level) for subject, level in column.items()
        }


def load_cohort(workspace: Workspace, needs_labels: bool = True) -> Cohort:
    """Read the cohort stage's tables.

    Raises:
        MissingStageError: the cohort stage did not run.
        DataError: no subject is labelled.
    """
    for name in ("cohort.parquet", "splits.parquet", "task.json"):
        workspace.need("cohort", name)
    return read_cohort(workspace.root / "cohort", needs_labels)


def read_cohort(folder: Path, needs_labels: bool = True) -> Cohort:
    """The tables in ``folder``; see ``load_cohort``."""
    table = pd.read_parquet(folder / "cohort.parquet").set_index("subject_id")
    splits = pd.read_parquet(folder / "splits.parquet")
    value = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    task = Task(value["name"], value["kind"], tuple(value["classes"]))
    targets = _targets(table, task)
    fits = []
    keys = splits[["repeat", "fold"]].drop_duplicates().sort_values(["repeat", "fold"])
    for repeat, fold in keys.itertuples(index=False):
        rows = splits[(splits["repeat"] == repeat) & (splits["fold"] == fold)]
        parts = {str(split): tuple(sorted(part)) for split, part in rows.groupby("split")["subject_id"]}
        fits.append(
            Fit(
                int(repeat),
                int(fold),
                parts.get("train", ()),
                parts.get("tuning", ()),
                parts.get("held_out", ()),
            )
        )
    index_time = {str(subject): time for subject, time in table["index_time"].items()}
    cohort = Cohort(task, index_time, targets, tuple(fits), table)
    if needs_labels and not cohort.labelled:
        raise DataError("no subject of the cohort has a known label, so nothing can be trained.")
    return cohort


def _targets(table: pd.DataFrame, task: Task) -> dict[str, np.ndarray]:
    """Subject -> (class,) 0, 1 or NaN."""
    if task.kind in ("multilabel", "virtual_staining"):
        values = table[[f"label:{name}" for name in task.classes]].to_numpy(float)
    elif task.kind == "multiclass":
        label = table["label"].to_numpy(float)
        values = np.where(np.isnan(label)[:, None], np.nan, label[:, None] == np.arange(len(task.classes)))
    else:
        values = table[["label"]].to_numpy(float)
    return {str(subject): row for subject, row in zip(table.index, values, strict=True)}
