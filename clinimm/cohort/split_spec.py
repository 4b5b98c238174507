"""How the cohort file says who trains, who tunes and who is held out."""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from clinimm.config import Frozen

TuningFraction = Annotated[
    float, Field(gt=0, lt=1, description="Share of the training subjects that early stopping uses.")
]


class Fractions(Frozen):
    """Shares of the labelled subjects; they add up to 1."""

    train: float = Field(0.7, gt=0, lt=1, description="Share that the model learns from.")
    tuning: float = Field(0.1, gt=0, lt=1, description="Share for early stopping and thresholds.")
    held_out: float = Field(0.2, gt=0, lt=1, description="Share that the figures are computed on.")

    @model_validator(mode="after")
    def _add_up(self) -> Self:
        total = self.train + self.tuning + self.held_out
        if not math.isclose(total, 1.0, abs_tol=1e-6):
            raise ValueError(f"train, tuning and held_out add up to {total:g}, not to 1")
        return self


class SubjectSplit(Frozen):
    """Subjects drawn at random, each class in proportion."""

    kind: Literal["subject"] = "subject"
    fractions: Fractions = Fractions()


class SiteSplit(Frozen):
    """Whole sites are held out: does it work in a hospital that it has not seen?"""

    kind: Literal["site"]
    held_out: tuple[str, ...] = Field(min_length=1, description="Sites that are held out.")
    tuning_fraction: TuningFraction = 0.15


class TimeSplit(Frozen):
    """The newest subjects are held out: does it still work later?"""

    kind: Literal["time"]
    held_out_from: date = Field(description="First day (UTC) whose index events are held out.")
    tuning_fraction: TuningFraction = 0.15


class KFoldSplit(Frozen):
    """Every subject is held out once a repeat; for small data."""

    kind: Literal["repeated_group_k_fold"]
    repeats: int = Field(5, gt=0, le=100, description="How often the subjects are dealt anew.")
    folds: int = Field(5, gt=1, le=50, description="Parts that each repeat deals them into.")
    tuning_fraction: TuningFraction = 0.15


class FoldsFileSplit(Frozen):
    """Folds that somebody else fixed: a CSV with patient_id, repeat and fold."""

    kind: Literal["folds_file"]
    path: Path = Field(
        description="Looked for beside the cohort file, then in the root folder of each source."
    )
    repeats: int | None = Field(
        None, gt=0, description="Only the first so many repeats of the file; null takes them all."
    )
    tuning_fraction: TuningFraction = 0.15


SplitSpec = Annotated[
    SubjectSplit | SiteSplit | TimeSplit | KFoldSplit | FoldsFileSplit, Field(discriminator="kind")
]
