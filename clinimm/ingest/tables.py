"""The three tables of ingest, written so that equal content gives equal bytes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from clinimm.core.errors import Refusal
from clinimm.core.event import EVENT_COLUMNS

_ARROW: dict[str, pa.DataType] = {
    "string": pa.string(),
    "float64": pa.float64(),
    "timestamp[us, tz=UTC]": pa.timestamp("us", tz="UTC"),
}
EVENT_SCHEMA = pa.schema([(name, _ARROW[kind]) for name, kind in EVENT_COLUMNS.items()])
REFUSAL_SCHEMA = pa.schema([(field.name, pa.string()) for field in fields(Refusal)])
SUBJECT_SCHEMA = pa.schema([("subject_id", pa.string()), ("identifier_hash", pa.string())])


def refusal_table(refusals: Iterable[Refusal]) -> pa.Table:
    """Refusals in order of file and item."""
    rows = sorted((asdict(refusal) for refusal in refusals), key=lambda row: tuple(row.values()))
    return pa.Table.from_pylist(rows, REFUSAL_SCHEMA)


def subject_table(pairs: Iterable[tuple[str, str]]) -> pa.Table:
    """``(subject_id, identifier_hash)``, one row an identifier."""
    ordered = sorted(set(pairs))
    return pa.table(
        [[subject for subject, _ in ordered], [hashed for _, hashed in ordered]], schema=SUBJECT_SCHEMA
    )


def write_table(path: Path, table: pa.Table) -> None:
    """Write Parquet, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    pq.write_table(table, partial, compression="zstd", row_group_size=1 << 20)
    partial.replace(path)
