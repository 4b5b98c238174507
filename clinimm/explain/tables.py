"""The tables of the explain stage, and how they are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from clinimm.core.attribution import (
    ATTRIBUTION_COLUMNS,
    CHECK_COLUMNS,
    EXPLANATION_SUMMARY_COLUMNS,
    GROUP_COLUMNS,
    INTERACTION_COLUMNS,
    LOCALISATION_COLUMNS,
    NEAREST_COLUMNS,
    RANDOMISATION_COLUMNS,
    REFUSED_COLUMNS,
    STANDING_COLUMNS,
)

#: Columns of ``explain/contributions.parquet``, one row a subject, class and modality present.
CONTRIBUTION_COLUMNS: dict[str, str] = {
    "subject_id": "string",
    "task": "string",
    "class_name": "string",
    "modality": "string",
    "shapley": "float64",
    "model_digest": "string",
}

Columns = dict[str, str]

#: Table name -> its columns and the columns that it is sorted by; tokens keep the model's order.
TABLES: dict[str, tuple[Columns, list[str]]] = {
    "attributions": (ATTRIBUTION_COLUMNS, ["subject_id", "modality"]),
    "summary": (EXPLANATION_SUMMARY_COLUMNS, ["subject_id"]),
    "contributions": (CONTRIBUTION_COLUMNS, ["subject_id", "modality"]),
    "interactions": (INTERACTION_COLUMNS, ["subject_id", "modality", "other"]),
    "checks": (CHECK_COLUMNS, ["subject_id", "check", "modality"]),
    "standings": (STANDING_COLUMNS, ["subject_id", "modality"]),
    "refused": (REFUSED_COLUMNS, ["subject_id", "part"]),
}

#: The same for tables about the release rather than a subject; rows keep their order.
RELEASE_TABLES: dict[str, Columns] = {
    "randomisation": RANDOMISATION_COLUMNS,
    "groups": GROUP_COLUMNS,
    "localisation": LOCALISATION_COLUMNS,
    "nearest": NEAREST_COLUMNS,
}


@dataclass(frozen=True)
class Explanations:
    """The tables of some subjects' explanations, and who could not be explained."""

    attributions: pd.DataFrame
    summary: pd.DataFrame
    contributions: pd.DataFrame
    interactions: pd.DataFrame
    checks: pd.DataFrame
    standings: pd.DataFrame
    refused: pd.DataFrame

    @classmethod
    def from_rows(cls, rows: Mapping[str, list[dict[str, Any]]]) -> Explanations:
        """Tables from rows in any order; a table without rows is empty."""
        return cls(
            **{
                name: pd.DataFrame(rows.get(name, []), columns=list(columns))
                .sort_values(order, kind="stable")
                .reset_index(drop=True)
                for name, (columns, order) in TABLES.items()
            }
        )

    def of(self, subject_id: str) -> Explanations:
        """The rows of one subject."""
        tables = {name: getattr(self, name) for name in TABLES}
        return Explanations(
            **{
                name: table[table["subject_id"] == subject_id].reset_index(drop=True)
                for name, table in tables.items()
            }
        )

    def write(self, folder: Path) -> None:
        """Write each table as ``NAME.parquet``; equal tables give equal bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, (columns, _) in TABLES.items():
            _write(getattr(self, name), columns, folder / f"{name}.parquet")


def write_release(tables: Mapping[str, pd.DataFrame], folder: Path) -> None:
    """Write the release's tables as ``NAME.parquet``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, columns in RELEASE_TABLES.items():
        _write(tables[name].reindex(columns=list(columns)), columns, folder / f"{name}.parquet")


def _write(table: pd.DataFrame, columns: Columns, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # The schema says UTC; a column that says so too makes pyarrow 25.0 warn under pandas 3.1.
    zoned = table.select_dtypes("datetimetz").columns
    table = table.assign(**{name: table[name].dt.tz_convert(None) for name in zoned})
    schema = pa.schema([(name, _arrow_type(kind)) for name, kind in columns.items()])
    partial = path.with_name(f".{path.name}.partial")
    pq.write_table(
        pa.Table.from_pandas(table, schema=schema, preserve_index=False).replace_schema_metadata(None),
        partial,
        compression="zstd",
    )
    partial.replace(path)


def _arrow_type(kind: str) -> Any:
    import pyarrow as pa

    return pa.timestamp("us", tz="UTC") if kind.startswith("timestamp") else pa.type_for_alias(kind.lower())
