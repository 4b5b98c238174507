"""A snapshot from one table, from any tool: predictions, labels as far as they came, fields, attributes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from clinimm.core.errors import ConfigError, DataError
from clinimm.core.record import digest_file
from clinimm.monitor.snapshot import ROW_COLUMNS, Snapshot

#: Fields whose name has no ``MODALITY.`` before it.
TABLE = "table"
CLASS = "outcome"
_OPTIONAL: dict[str, Any] = {"index_time": pd.NaT, "label": np.nan, "class_name": CLASS, "model_digest": None}


def read_table(path: Path, attributes: Sequence[str] = ()) -> Snapshot:
    """Read Parquet or CSV.

    Columns ``subject_id`` and ``probability``; ``index_time``, ``label``, ``class_name`` and
    ``model_digest`` where there are any; ``attributes``; every other column is a field, and a name such as
    ``ehr.lactate`` puts it into the modality ``ehr``.

    Raises:
        DataError: the file cannot be read, lacks a column, or holds no probabilities.
    """
    return _snapshot(_checked(path, attributes), path.name, digest_file(path), attributes)


def read_divided(
    path: Path, since: pd.Timestamp, attributes: Sequence[str] = ()
) -> tuple[Snapshot, Snapshot]:
    """One table as two: what lies before a day is the reference, what lies from it on is judged.

    Raises:
        ConfigError: one side is empty, or the rows have no index time.
        DataError: as ``read_table``.
    """
    table = _checked(path, attributes)
    if table["index_time"].isna().any():
        raise ConfigError(f"--since: {path.name} holds rows without an index_time.")
    late = table["index_time"] >= since
    if late.all() or not late.any():
        raise ConfigError(f"--since {since.date()}: all rows of {path.name} lie on one side of it.")
    digest = digest_file(path)
    day = since.date().isoformat()
    before = _snapshot(table[~late], f"{path.name} before {day}", digest, attributes)
    return before, _snapshot(table[late], f"{path.name} since {day}", digest, attributes)


def _checked(path: Path, attributes: Sequence[str]) -> pd.DataFrame:
    table = _load(path)
    absent = [name for name in ("subject_id", "probability", *attributes) if name not in table]
    if absent:
        known = ", ".join(map(str, table.columns))
        raise DataError(f"{path.name}: no column {', '.join(absent)}; it has {known}.")
    if table.empty:
        raise DataError(f"{path.name}: the table has no rows.")
    for name, value in _OPTIONAL.items():
        if name not in table:
            table[name] = value
    table["subject_id"] = table["subject_id"].astype(str)
    table["probability"] = _probability(table["probability"], path)
    table["label"] = _label(table["label"], path)
    table["index_time"] = _times(table["index_time"], path)
    again = table.duplicated(["subject_id", "index_time", "class_name"]).to_numpy()
    if again.any():
        raise DataError(
            f"{path.name}: a subject has two rows for one index_time and class; keep one of them. "
            f"{int(again.sum()):,} rows repeat an earlier one, first row {int(again.argmax()) + 1:,} below "
            "the header."
        )
    return table


def _snapshot(table: pd.DataFrame, name: str, digest: str, attributes: Sequence[str]) -> Snapshot:
    people = table.drop_duplicates("subject_id").set_index("subject_id").sort_index()
    named = [column for column in table if column not in (*ROW_COLUMNS, *attributes)]
    rows = table[list(ROW_COLUMNS)].reset_index(drop=True)
    return Snapshot(name, digest, rows, people[list(attributes)].astype(object), _by_modality(people[named]))


def _load(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file or run.")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return pd.read_parquet(path)
        if path.suffix.lower() in (".csv", ".tsv", ".gz", ".txt"):
            return pd.read_csv(path, sep="\t" if ".tsv" in path.suffixes else ",")
    except (pa.ArrowInvalid, pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name}: cannot be read: {str(error).splitlines()[0]}") from error
    raise DataError(f"{path.name}: expected a .parquet or .csv file, or the folder of a run.")


def _probability(column: pd.Series, path: Path) -> pd.Series:
    values = pd.to_numeric(column, errors="coerce").astype(float)
    bad = ~values.between(0, 1)
    if bad.any():
        raise DataError(
            f"{path.name}: probability: {int(bad.sum()):,} rows are empty or outside 0 to 1, the first is "
            f"row {int(np.argmax(bad.to_numpy())) + 1:,} below the header."
        )
    return values


def _label(column: pd.Series, path: Path) -> pd.Series:
    values = (
        column.map({True: 1.0, False: 0.0})
        if column.dtype == bool
        else pd.to_numeric(column, errors="coerce")
    )
    strange = column.notna() & ~values.isin([0, 1])
    if strange.any():
        shown = ", ".join(sorted({str(one) for one in column[strange]})[:5])
        raise DataError(f"{path.name}: label: expected 0, 1 or nothing (not known yet), got {shown}.")
    return values.astype(float)


def _times(column: pd.Series, path: Path) -> pd.Series:
    times = pd.to_datetime(column, utc=True, errors="coerce", format="ISO8601")
    if bad := int((times.isna() & column.notna()).sum()):
        raise DataError(
            f"{path.name}: index_time: {bad:,} rows are no times such as 2026-03-01 or 2026-03-01T10:00Z."
        )
    return times.astype("datetime64[us, UTC]")


def _by_modality(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    found: dict[str, list[str]] = {}
    for name in table.columns:
        modality, dot, _ = str(name).partition(".")
        found.setdefault(modality if dot else TABLE, []).append(name)
    return {
        modality: table[names].rename(columns={name: name.removeprefix(f"{modality}.") for name in names})
        for modality, names in sorted(found.items())
    }
