"""Audit attributes of a cohort: the level of each subject, with a level for what is not known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clinimm.core.errors import DataError

MISSING = "(missing)"
OVERALL = "overall"
EVERYBODY = "everybody"
#: Columns of ``cohort.parquet`` that are no audit attribute.
NO_ATTRIBUTE = frozenset({"subject_id", "index_time", "label", "labelled", "split", "age_years"})
#: Cohort column -> what the audit calls it.
RENAMED = {"site_id": "site"}
_MOST_LEVELS = 30


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
        if column in NO_ATTRIBUTE or str(column).startswith("label:"):
            continue
        levels = _levels(rows[column])
        if len(set(levels.tolist())) <= _MOST_LEVELS:
            found[RENAMED.get(str(column), str(column))] = levels
    return found


def _levels(column: pd.Series) -> NDArray[np.object_]:
    values = column.astype(object)
    known: Sequence[object] = [MISSING if pd.isna(value) or value == "" else _text(value) for value in values]
    return np.array(known, dtype=object)


def _text(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
