"""The figures of a run's predictions: of each class, and of every subset of modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from clinimm.audit.modalities import Coalitions
from clinimm.audit.policy import Policy
from clinimm.audit.run_rows import attributes_of, rows_of
from clinimm.audit.table.study import Study
from clinimm.core.errors import DataError
from clinimm.core.prediction import JOIN, modality_key
from clinimm.evaluate.assemble import HELD_OUT
from clinimm.evaluate.operating import OperatingPoint
from clinimm.evaluate.panel import Panel, panel_of

#: More modalities than this make too many subsets (2^6 = 64) to audit each.
_MOST_MODALITIES = 6
_KEY = ["subject_id", "class_name", "repeat"]


@dataclass(frozen=True)
class Judged:
    """What an audit of predictions rests on, beside the predictions themselves.

    Attributes:
        cohort: columns of ``cohort.parquet``.
        policy: the rules.
        points: class -> operating point.
        classes: the task's classes; each is audited one-versus-rest.
        kind: ``binary``, ``multiclass`` or ``multilabel``.
    """

    cohort: pd.DataFrame
    policy: Policy
    points: Mapping[str, OperatingPoint]
    classes: Sequence[str]
    kind: str


def studies_of(predictions: pd.DataFrame, judged: Judged) -> dict[str, Study]:
    """The figures of each class.

    Raises:
        DataError: no row has a label, a class has one outcome only, or a predicted subject is not in the
            cohort.
    """
    panel = panel_of(predictions, judged.classes, judged.kind)
    found = {}
    for index, name in enumerate(judged.classes):
        one, point = panel.one(index), judged.points[name]
        _need_both(one)
        attributes = attributes_of(judged.cohort, predictions, one.subject_ids.tolist(), judged.policy)
        rows = rows_of(one, point, attributes, judged.policy.table.seed)
        found[name] = Study(rows, point.threshold, "subjects")
    return found


def coalitions_of(folder: Path, predictions: pd.DataFrame, judged: Judged) -> Coalitions | None:
    """The figures of every subset of modalities.

    Args:
        folder: of the predict stage.
        predictions: held-out rows of ``predictions.parquet``.
        judged: what they are judged by.

    Returns:
        None where there is one modality, or more than six, or an earlier version predicted.
    """
    if not (folder / "subsets.parquet").is_file() or not (folder / "nothing.parquet").is_file():
        return None
    subsets, nothing = held_out(folder / "subsets.parquet"), held_out(folder / "nothing.parquet")
    names = tuple(sorted({name for key in subsets["subset"].unique() for name in str(key).split(JOIN)}))
    if not 2 <= len(names) <= _MOST_MODALITIES:
        return None
    present = predictions.drop_duplicates("subject_id").set_index("subject_id")["modalities_present"]
    studies: dict[str, list[Study]] = {name: [] for name in judged.classes}
    for coalition in range(2 ** len(names)):
        members = [name for bit, name in enumerate(names) if coalition >> bit & 1]
        own = subsets[subsets["subset"] == modality_key(members)] if members else nothing
        seen = _filled(own, nothing)
        seen = seen.assign(modalities_present=seen["subject_id"].map(present))
        for name, study in studies_of(seen, judged).items():
            studies[name].append(study)
    return Coalitions(names, studies)


def held_out(path: Path) -> pd.DataFrame:
    """The held-out rows of a table of predictions."""
    table = pd.read_parquet(path)
    return table[table["split"] == HELD_OUT]


def _filled(own: pd.DataFrame, nothing: pd.DataFrame) -> pd.DataFrame:
    """The subset's predictions, and for who has nothing of it those of the model that sees nothing."""
    answered = pd.MultiIndex.from_frame(own[_KEY])
    absent = ~pd.MultiIndex.from_frame(nothing[_KEY]).isin(answered)
    return pd.concat([own[nothing.columns], nothing[absent]], ignore_index=True)


def _need_both(panel: Panel) -> None:
    if panel.smallest_class == 0:
        raise DataError(
            f"{panel.classes[0]}: all {panel.n} labelled held-out subjects have the same outcome; without "
            "both nothing can be compared."
        )
