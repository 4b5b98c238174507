"""A predictor's probabilities as arrays: subject by repeat by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clinimm.core.errors import DataError
from clinimm.evaluate.metrics import Array


@dataclass(frozen=True)
class Panel:
    """What one predictor said about labelled subjects.

    Attributes:
        subject_ids: (subject,), sorted.
        label: (subject, class), 0.0, 1.0 or NaN (that class is not known for that subject).
        probability: (subject, repeat, class); NaN where a repeat did not predict a subject.
        fold: (subject, repeat), -1 where a repeat did not predict a subject.
        classes: names, in the task's order.
        repeats: repeat numbers of the cross-validation; one for a single split.
        exclusive: whether exactly one class holds for a subject (multi-class).
    """

    subject_ids: NDArray[np.object_]
    label: Array
    probability: Array
    fold: NDArray[np.int64]
    classes: tuple[str, ...]
    repeats: tuple[int, ...]
    exclusive: bool = False

    @property
    def n(self) -> int:
        """Labelled subjects."""
        return len(self.subject_ids)

    @property
    def positives(self) -> int | None:
        """Subjects with the outcome; None where there is more than one class."""
        return int(np.nansum(self.label[:, 0])) if len(self.classes) == 1 else None

    @property
    def smallest_class(self) -> int:
        """Subjects in the smallest of all one-versus-rest groups."""
        known = ~np.isnan(self.label)
        positives = np.nansum(self.label, axis=0)
        return int(np.minimum(positives, known.sum(axis=0) - positives).min()) if self.n else 0

    @property
    def strata(self) -> NDArray[np.int64]:
        """What a resample keeps fixed: the label, the class, or nothing where labels combine freely."""
        if len(self.classes) == 1:
            return self.label[:, 0].astype(np.int64)
        if self.exclusive:
            return np.argmax(self.label, axis=1).astype(np.int64)
        return np.zeros(self.n, dtype=np.int64)

    def one(self, index: int) -> Panel:
        """The panel of one class alone, one-versus-rest, for subjects whose label is known."""
        known = ~np.isnan(self.label[:, index])
        return replace(
            self.take(known),
            label=self.label[known, index : index + 1],
            probability=self.probability[known, :, index : index + 1],
            classes=(self.classes[index],),
            exclusive=False,
        )

    def take(self, rows: NDArray[np.bool_]) -> Panel:
        """Some of the subjects."""
        return replace(
            self,
            subject_ids=self.subject_ids[rows],
            label=self.label[rows],
            probability=self.probability[rows],
            fold=self.fold[rows],
        )

    def among(self, subject_ids: NDArray[np.object_]) -> NDArray[np.bool_]:
        """Which subjects are among ``subject_ids``, (subject,)."""
        return pd.Index(subject_ids).get_indexer(pd.Index(self.subject_ids)) >= 0

    def of_repeats(self, repeats: Sequence[int]) -> Panel:
        """Some of the repeats."""
        at = [self.repeats.index(repeat) for repeat in repeats]
        return replace(
            self, probability=self.probability[:, at], fold=self.fold[:, at], repeats=tuple(repeats)
        )


def panel_of(frame: pd.DataFrame, classes: Sequence[str], kind: str = "binary") -> Panel:
    """A prediction table as a panel; rows without a label are left out.

    Args:
        frame: columns of ``core.prediction``; ``label`` is 1 or 0 for the row's class, or (in a
            multi-class task) the index of the subject's class in every row.
        classes: class names, in the task's order.
        kind: ``binary``, ``multiclass`` or ``multilabel``.

    Raises:
        DataError: a row is doubled, a probability lies outside 0 to 1, or a label contradicts itself.
    """
    rows = frame[frame["label"].notna() & frame["class_name"].isin(list(classes))]
    _check(rows, frame, classes)
    rows = rows.assign(label=_indicator(rows, classes, kind))
    subjects = np.array(sorted(rows["subject_id"].unique().tolist()), dtype=object)
    repeats = tuple(int(repeat) for repeat in sorted(rows["repeat"].unique()))
    at = pd.Index(subjects).get_indexer(pd.Index(rows["subject_id"]))
    in_repeat = pd.Index(repeats).get_indexer(pd.Index(rows["repeat"]))
    in_class = pd.Index(list(classes)).get_indexer(pd.Index(rows["class_name"]))
    probability = np.full((len(subjects), len(repeats), len(classes)), np.nan)
    probability[at, in_repeat, in_class] = rows["probability"].to_numpy(float)
    fold = np.full((len(subjects), len(repeats)), -1, dtype=np.int64)
    fold[at, in_repeat] = rows["fold"].to_numpy(np.int64)
    label = np.full((len(subjects), len(classes)), np.nan)
    label[at, in_class] = rows["label"].to_numpy(float)
    return Panel(subjects, label, probability, fold, tuple(classes), repeats, kind == "multiclass")


def tuning_panel_of(frame: pd.DataFrame, classes: Sequence[str], kind: str = "binary") -> Panel | None:
    """Tuning predictions as a panel with one "repeat" a fit; None where no subject has a label.

    A subject may tune several fits of one repeat, so a fit takes the place of the repeat.
    """
    if not frame["label"].notna().any():
        return None
    fit = frame.groupby(["repeat", "fold"], sort=True).ngroup()
    return panel_of(frame.assign(repeat=fit), classes, kind)


def align(other: Panel, to: Panel) -> tuple[Panel, Panel]:
    """Both panels on the same subjects and repeats, for a paired comparison.

    A subject whom ``other`` does not answer gets its mean probability of that repeat: a simpler
    model must answer for everybody too, and there it knows no more than the average.

    Raises:
        DataError: they share no repeat.
    """
    repeats = [repeat for repeat in to.repeats if repeat in other.repeats]
    if not repeats:
        raise DataError("two predictors share no repeat of the cross-validation; predict both on the same.")
    kept, source = to.of_repeats(repeats), other.of_repeats(repeats)
    at = pd.Index(source.subject_ids).get_indexer(pd.Index(kept.subject_ids))
    probability = np.where((at >= 0)[:, None, None], source.probability[at], np.nan)
    means = np.nanmean(source.probability, axis=0)
    probability = np.where(np.isnan(probability), means[None], probability)
    probability = np.where(np.isnan(kept.probability), np.nan, probability)
    return kept, replace(kept, probability=probability)


def _check(rows: pd.DataFrame, frame: pd.DataFrame, classes: Sequence[str]) -> None:
    if rows.empty:
        raise DataError(
            f"none of the {len(frame)} predictions has a label for {', '.join(classes)}: there is nothing "
            "to evaluate; check the cohort's label and its window."
        )
    bad = ~rows["probability"].between(0.0, 1.0)
    if bad.any():
        raise DataError(
            f"{int(bad.sum())} probabilities are missing or outside 0 to 1, the first for subject "
            f"{rows.loc[bad, 'subject_id'].iloc[0]}; predict again."
        )
    if rows.duplicated(["subject_id", "repeat", "class_name"]).any():
        raise DataError(
            "a subject was predicted twice in one repeat; the folds of a repeat must not overlap."
        )
    if (rows.groupby(["subject_id", "class_name"])["label"].nunique() > 1).any():
        raise DataError("a subject has two labels for one class; the label must not depend on the repeat.")


def _indicator(rows: pd.DataFrame, classes: Sequence[str], kind: str) -> pd.Series:
    label = rows["label"].astype(float)
    index_in_every_row = kind == "multiclass" and len(classes) > 1
    if index_in_every_row and (rows.groupby("subject_id")["label"].nunique() == 1).all():
        position = {name: float(index) for index, name in enumerate(classes)}
        return (label == rows["class_name"].map(position).astype(float)).astype(float)
    if not label.isin([0.0, 1.0]).all():
        raise DataError("a label is neither 0 nor 1; a prediction's label says whether its class holds.")
    return label
