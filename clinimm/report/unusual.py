"""Whether a patient's input looks like what the model was trained on, source by source.

A source's tokens are averaged; the mean distance to the five nearest training patients is held against the
same figure of each training patient (Sun et al. 2022, arXiv:2204.06507). How rare that is among them is a
conformal p-value, and the limit is shared between the sources (Bonferroni), so that about one in twenty
patients like those of the training is flagged, however many sources he has. That finds input from elsewhere,
and not every wrong answer: alerts of this kind did not make clinicians more accurate (Radensky et al. 2022).
What a record lacks lies at the mean, so a record that says little is not found unusual.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from clinimm.report.facts import RunFacts, Verdict
from clinimm.report.words import percent
from clinimm.token_means import mean_token

_NEAREST = 5
_FEWEST_TRAINED, _MOST_TRAINED = 50, 500
#: Share of ordinary patients that may be called unusual by any of their sources.
_FALSE_FLAGS = 0.05
_COMMON_CODE = 0.05


@dataclass(frozen=True)
class Distance:
    """How far out one source of a patient lies.

    Attributes:
        modality: the source.
        beyond: share of training patients who lie less far from their nearest ones.
        n: training patients that it was compared with.
    """

    modality: str
    beyond: float
    n: int

    @property
    def rarity(self) -> float:
        """Conformal p-value: how often one like them would lie as far out (Vovk et al. 2005)."""
        return (1 + round(self.n * (1 - self.beyond))) / (self.n + 1)

    def told(self, sources: int) -> bool:
        """Whether there are training patients enough to call it unusual, beside so many sources."""
        return (self.n + 1) * _FALSE_FLAGS >= sources

    def unusual(self, sources: int) -> bool:
        """Whether it is too rare for one of so many sources."""
        return self.rarity <= _FALSE_FLAGS / sources


def distances(facts: RunFacts, prediction: Mapping[str, Any], present: Sequence[str]) -> list[Distance]:
    """The sources that could be compared; none where the run kept no tokens or had few to train on."""
    found = []
    for name in present:
        known = facts.remember(
            ("familiar", name, prediction["repeat"], prediction["fold"]),
            partial(_Familiar.load, facts, name, prediction),
        )
        beyond = None if known is None else known.beyond(str(prediction["subject_id"]))
        if known is not None and beyond is not None:
            found.append(Distance(name, beyond, len(known.trained)))
    return found


def familiar_verdict(facts: RunFacts, found: Sequence[Distance], present: Sequence[str]) -> Verdict:
    """The same in words."""
    title = "Like the patients it learned from?"
    sources = len(found)
    told = [one for one in found if one.told(sources)]
    if not told:
        return Verdict("unsure", title, "Not measured: this run kept too little of its training input.")
    missed = [facts.title(name) for name in present if name not in {one.modality for one in told}]
    note = (f"Not measured for: {', '.join(missed)}.",) if missed else ()
    odd = [one for one in told if one.unusual(sources)]
    if not odd:
        n = min(one.n for one in told)
        text = (
            f"Nothing unusual was found, by distance to training patients (n = {n}). "
            f"One in {round(1 / _FALSE_FLAGS)} like them would be flagged."
        )
        return Verdict("pass", title, text, note)
    said = "; ".join(
        f"{facts.title(one.modality)} lies further out than {percent(one.beyond)} of {one.n} training "
        "patients"
        for one in odd
    )
    return Verdict("fail", title, f"No, outside what it knows: {said}. Figures above may not hold.", note)


@dataclass(frozen=True)
class _Familiar:
    """One source of the training patients of a fit, and how to place another patient among them."""

    pool: _Pool
    trained: Float[np.ndarray, "subject dim"]
    centre: Float[np.ndarray, " dim"]
    scale: Float[np.ndarray, " dim"]
    reach: Float[np.ndarray, " subject"]

    @classmethod
    def load(cls, facts: RunFacts, name: str, prediction: Mapping[str, Any]) -> _Familiar | None:
        folder, splits = facts.root / "encode" / name, facts.root / "cohort" / "splits.parquet"
        if not (folder / "tokens.parquet").is_file() or not splits.is_file():
            return None
        table = pd.read_parquet(splits)
        fit = (table["repeat"] == prediction["repeat"]) & (table["fold"] == prediction["fold"])
        pool = _Pool.load(folder, set(table.loc[fit & (table["split"] == "train"), "subject_id"]))
        if pool is None:
            return None
        pooled = np.stack([pool.of(subject) for subject in pool.trained])
        centre = np.nanmean(pooled, axis=0)
        scale = np.nanstd(pooled, axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        placed = _placed(pooled, centre, scale)
        apart = _apart(placed, placed)
        np.fill_diagonal(apart, np.inf)
        return cls(pool, placed, centre, scale, _mean_nearest(apart))

    def beyond(self, subject: str) -> float | None:
        """Share of training patients that lie less far out; None where the patient has no token."""
        if subject not in self.pool.places:
            return None
        one = _placed(self.pool.of(subject)[None], self.centre, self.scale)
        return float((self.reach < _mean_nearest(_apart(one, self.trained))[0]).mean())


@dataclass(frozen=True)
class _Pool:
    """A source's tokens, one vector a patient.

    Attributes:
        places: subject -> its rows of ``values``.
        values: as ``encode`` keeps them, on disk; without columns for a record.
        numbers: a record's latest number of each common code, a row a subject; None for others.
        trained: the training patients that are compared with.
    """

    places: dict[str, np.ndarray]
    values: np.ndarray
    numbers: pd.DataFrame | None
    trained: list[str]

    @classmethod
    def load(cls, folder: Path, training: set[str]) -> _Pool | None:
        rows = pd.read_parquet(folder / "tokens.parquet").reset_index(drop=True)
        values = np.load(folder / "values.npy", mmap_mode="r")
        groups = rows.groupby("subject_id", sort=True).indices
        places = {str(name): np.asarray(found) for name, found in groups.items()}
        trained = _drawn(sorted(training & set(places)))
        if len(trained) < _FEWEST_TRAINED:
            return None
        numbers = None if values.shape[1] else _numbers(rows, trained)
        return None if not values.shape[1] and numbers is None else cls(places, values, numbers, trained)

    def of(self, subject: str) -> Float[np.ndarray, " dim"]:
        """The mean of a patient's tokens, or the record's numbers."""
        if self.numbers is not None:
            return self.numbers.loc[subject].to_numpy(float)
        return mean_token(self.values[self.places[subject]])


def _drawn(subjects: list[str]) -> list[str]:
    """At most so many that a page is not kept waiting, the same for the same run."""
    if len(subjects) <= _MOST_TRAINED:
        return subjects
    places = np.random.default_rng(0).choice(len(subjects), _MOST_TRAINED, replace=False)
    return [subjects[place] for place in sorted(places)]


def _numbers(rows: pd.DataFrame, trained: Sequence[str]) -> pd.DataFrame | None:
    """The latest number of each code that a fair share of the training patients has; None without any."""
    if not {"code", "numeric_value"} <= set(rows.columns):
        return None
    latest = rows.sort_values("time_hours", kind="stable").dropna(subset=["numeric_value"])
    table = latest.drop_duplicates(["subject_id", "code"]).pivot(
        index="subject_id", columns="code", values="numeric_value"
    )
    common = table.reindex(list(trained)).notna().mean() >= _COMMON_CODE
    table = table.loc[:, common].reindex(rows["subject_id"].unique())
    return table if table.shape[1] else None


def _placed(pooled: np.ndarray, centre: np.ndarray, scale: np.ndarray) -> Float[np.ndarray, "subject dim"]:
    """In standard deviations; what is missing lies at the mean."""
    return np.nan_to_num((pooled - centre) / scale)


def _apart(one: np.ndarray, two: np.ndarray) -> Float[np.ndarray, "left right"]:
    squared = (one**2).sum(1)[:, None] + (two**2).sum(1)[None] - 2 * one @ two.T
    return np.sqrt(np.maximum(squared, 0))


def _mean_nearest(apart: np.ndarray) -> Float[np.ndarray, " left"]:
    return np.sort(apart, axis=1)[:, :_NEAREST].mean(axis=1)
