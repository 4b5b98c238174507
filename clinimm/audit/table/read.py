"""Reads a table of predictions, and says by name what is wrong with one that cannot be audited."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy import ndarray

from clinimm.audit.engine.rows import Coded, Rows
from clinimm.audit.groups import MISSING
from clinimm.audit.table_settings import TableSettings
from clinimm.core.errors import DataError
from clinimm.core.record import digest_file

#: What means "not known" in a column of text.
MISSING_WORDS = frozenset({"", "?", "NA", "N/A", "NaN", "nan", "null", "NULL", "<NA>"})
_MOST_LEVELS = 30
_WHERE_ALIKE = 3


@dataclass(frozen=True)
class AuditTable:
    """A table that can be audited.

    Attributes:
        name: the file's name, without its folder.
        sha256: of the file.
        rows: what is audited.
        subjects: how many there are; None where each row is a subject of its own.
    """

    name: str
    sha256: str
    rows: Rows
    subjects: int | None


def read_audit_table(path: Path, settings: TableSettings, attributes: Sequence[str]) -> AuditTable:
    """Read and check a table.

    Args:
        path: Parquet or CSV, with a header.
        settings: names of the columns, bins.
        attributes: columns whose groups are audited.

    Raises:
        DataError: the file cannot be read, lacks a column, or holds what cannot be audited; says how
            many rows, which is the first, and what to do.
    """
    columns = settings.columns
    wanted = [columns.label, columns.probability, *attributes]
    wanted += [name for name in (columns.subject, columns.row) if name]
    binned = {name for name in attributes if name in settings.attributes and settings.attributes[name].bins}
    for name in (columns.subject, columns.label, columns.probability):
        if name in attributes:
            raise DataError(
                f"{name} is not an attribute: it names the subject, the label or the probability."
            )
    table = load_columns(path, list(dict.fromkeys(wanted)), set(attributes) - binned, binned)
    if table.num_rows == 0:
        raise DataError(f"{path.name}: the table has no rows.")
    label = _label(table[columns.label], columns.label)
    probability = _probability(table[columns.probability], columns.probability)
    coded = {name: coded_column(table[name], name, settings) for name in attributes}
    cluster = _codes(table[columns.subject], columns.subject) if columns.subject else None
    _refuse_doubles(table, settings, label, probability, coded, cluster)
    subjects = None if cluster is None else int(cluster.max()) + 1
    alone = cluster is None or subjects == len(label)
    rows = Rows(label, probability, coded, None if alone else cluster, settings.seed)
    return AuditTable(path.name, digest_file(path), rows, subjects)


def column_names(path: Path) -> list[str]:
    """The table's columns.

    Raises:
        DataError: the file cannot be read.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in (".parquet", ".pq"):
            return list(pyarrow.parquet.read_schema(path).names)
        parse = pyarrow.csv.ParseOptions(delimiter="\t" if ".tsv" in path.suffixes else ",")
        with pyarrow.csv.open_csv(path, parse_options=parse) as stream:
            return list(stream.schema.names)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path.name}: cannot be read: {str(error).splitlines()[0]}") from error


def load_columns(path: Path, wanted: list[str], text: set[str], numbers: set[str]) -> pa.Table:
    """Some columns of a file.

    Args:
        path: Parquet or CSV, with a header.
        wanted: columns that it must have.
        text: those read as text.
        numbers: those read as numbers.

    Raises:
        DataError: the file cannot be read or lacks a column.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.")
    suffix = path.suffix.lower()
    try:
        if suffix in (".parquet", ".pq"):
            file = pyarrow.parquet.ParquetFile(path)
            _need(wanted, file.schema_arrow.names, path)
            return pyarrow.parquet.read_table(path, columns=wanted, read_dictionary=sorted(text))
        if suffix in (".csv", ".gz", ".tsv", ".txt"):
            return _load_csv(path, wanted, text, numbers)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path.name}: cannot be read: {str(error).splitlines()[0]}") from error
    raise DataError(f"{path.name}: expected a .parquet or .csv file, got {suffix or 'no ending'}.")


def _load_csv(path: Path, wanted: list[str], text: set[str], numbers: set[str]) -> pa.Table:
    parse = pyarrow.csv.ParseOptions(delimiter="\t" if ".tsv" in path.suffixes else ",")
    with pyarrow.csv.open_csv(path, parse_options=parse) as stream:
        _need(wanted, stream.schema.names, path)
    types: dict[str, pa.DataType] = {name: pa.dictionary(pa.int32(), pa.string()) for name in text}
    types |= {name: pa.float64() for name in numbers}
    convert = pyarrow.csv.ConvertOptions(
        include_columns=wanted,
        column_types=types,
        null_values=sorted(MISSING_WORDS),
        strings_can_be_null=True,
    )
    return pyarrow.csv.read_csv(path, parse_options=parse, convert_options=convert)


def _need(wanted: Sequence[str], present: list[str], path: Path) -> None:
    twice = [name for name in wanted if present.count(name) > 1]
    if twice:
        raise DataError(f"{path.name}: several columns are called {twice[0]}; rename or remove all but one.")
    absent = [name for name in wanted if name not in present]
    if not absent:
        return
    alike = difflib.get_close_matches(absent[0], present, n=_WHERE_ALIKE, cutoff=0.6)
    hint = f" Did you mean {' or '.join(alike)}?" if alike else ""
    raise DataError(
        f"{path.name}: no column {', '.join(absent)}; it has {', '.join(map(str, present))}.{hint} "
        "Name the columns with --subject, --label, --probability and --attribute "
        "(--subject '' where each row is a subject of its own)."
    )


def _label(column: pa.ChunkedArray, name: str) -> ndarray:
    _refuse_nulls(column, name)
    values = pc.unique(column).to_pylist()
    words = {"true": 1, "false": 0, "1": 1, "0": 0, "1.0": 1, "0.0": 0}
    known = {value: words.get(str(value).strip().lower()) for value in values}
    strange = sorted(str(value) for value, number in known.items() if number is None)
    if strange:
        shown = ", ".join(strange[:5]) + (", ..." if len(strange) > 5 else "")
        raise DataError(
            f"{name}: expected 0 and 1 (or true and false), got {shown}. Audit one outcome at a time: "
            "1 where it happened, 0 where it did not."
        )
    if len(set(known.values())) < 2:
        raise DataError(
            f"{name}: every row is {next(iter(known.values()))}; without both outcomes nothing can be "
            "compared. Is this the right column, and the whole table?"
        )
    ones = [value for value, number in known.items() if number == 1]
    hit = pc.is_in(column, value_set=pa.array(ones, type=column.type))
    return np.asarray(hit.to_numpy()).astype(np.uint8)


def _probability(column: pa.ChunkedArray, name: str) -> ndarray:
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise DataError(f"{name}: expected numbers from 0 to 1, got {column.type}.")
    _refuse_nulls(column, name)
    values = np.ascontiguousarray(column.to_numpy(), dtype=np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        raise DataError(_rows_say(name, bad, "no number (NaN or infinite)", "Remove them or predict them."))
    outside = (values < 0) | (values > 1)
    if outside.any():
        percent = 10 < values.max() <= 100 and values.min() >= 0
        remedy = "They look like per cent: divide by 100." if percent else "Give probabilities, not scores."
        raise DataError(
            _rows_say(name, outside, f"outside 0 to 1 ({values.min():g} to {values.max():g})", remedy)
        )
    return values


def coded_column(column: pa.ChunkedArray, name: str, settings: TableSettings) -> Coded:
    """A column as levels: binned where the settings give edges, ``(missing)`` a level of its own.

    Raises:
        DataError: it has more than 30 values, or bins are asked of text.
    """
    asked = settings.attributes.get(name)
    if asked is not None and asked.bins:
        return _binned(column, name, asked.bins)
    if pa.types.is_nested(column.type):
        raise DataError(f"{name}: expected text, numbers or days, one a row, got {column.type}.")
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    whole = encoded.unify_dictionaries().combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = whole.chunk(0)
    texts = [_text(value) for value in whole.dictionary.to_pylist()]
    levels = sorted({text for text in texts if text not in MISSING_WORDS and text != MISSING})
    code = np.asarray(pc.fill_null(whole.indices, len(texts)))
    number = {level: place for place, level in enumerate(levels)}
    table = np.array([number.get(text, len(levels)) for text in texts] + [len(levels)])
    code = table[code]
    used = np.flatnonzero(np.bincount(code, minlength=len(levels) + 1))
    if len(used) > _MOST_LEVELS:
        raise DataError(
            f"{name}: {len(used)} different values, at most {_MOST_LEVELS} can be compared. For a number "
            f"give edges, such as --bins {name}=18,40,65; else group the values first."
        )
    return _compact(code, (*levels, MISSING))


def _binned(column: pa.ChunkedArray, name: str, bins: Sequence[float]) -> Coded:
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise DataError(f"{name}: --bins needs numbers, got {column.type}.")
    values = np.asarray(column.cast(pa.float64()).to_numpy(), dtype=float)
    names = [f"below {bins[0]:g}"]
    names += [f"{low:g} to below {high:g}" for low, high in itertools.pairwise(bins)]
    names += [f"{bins[-1]:g} and above", MISSING]
    code = np.where(np.isnan(values), len(bins) + 1, np.searchsorted(np.array(bins), values, side="right"))
    return _compact(code, tuple(names))


def _compact(code: ndarray, levels: tuple[str, ...]) -> Coded:
    """Only levels that somebody has."""
    used = np.flatnonzero(np.bincount(code, minlength=len(levels)))
    place = np.zeros(len(levels), dtype=np.int16)
    place[used] = np.arange(len(used))
    return Coded(place[code], tuple(levels[level] for level in used))


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _codes(column: pa.ChunkedArray, name: str) -> ndarray:
    _refuse_nulls(column, name)
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    return np.concatenate(
        [np.asarray(chunk.indices) for chunk in encoded.unify_dictionaries().chunks]
    ).astype(np.int64)


def _refuse_nulls(column: pa.ChunkedArray, name: str) -> None:
    if column.null_count:
        empty = np.asarray(column.is_null().to_numpy())
        raise DataError(_rows_say(name, empty, "empty", "Remove these rows, or fill them in."))


def _refuse_doubles(  # what makes two rows the same
    table: pa.Table,
    settings: TableSettings,
    label: ndarray,
    probability: ndarray,
    coded: dict[str, Coded],
    cluster: ndarray | None,
) -> None:
    """Rows that stand twice would count twice and make every interval too narrow."""
    named = settings.columns.row
    if named:
        code = _codes(table[named], named)
        double = _seen_before(code.astype(np.uint64))
        if double.any():
            raise DataError(_rows_say(named, double, "named like an earlier row", "Each row needs its own."))
        return
    if cluster is None or int(cluster.max()) + 1 == len(cluster):
        return
    mixed = cluster.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    parts = [probability.view(np.uint64), label.astype(np.uint64)]
    parts += [column.code.astype(np.uint64) for column in coded.values()]
    for part in parts:
        mixed = (mixed ^ (part + (mixed << np.uint64(6)))) * np.uint64(0xD6E8FEB86659FD93)
        mixed ^= mixed >> np.uint64(32)
    double = _seen_before(mixed)
    if double.any():
        raise DataError(
            _rows_say(
                settings.columns.subject,
                double,
                "equal to an earlier row of the same subject in every column that is used",
                "Remove doubled rows; if they are separate events, name each row with --row COLUMN.",
            )
        )


def _seen_before(key: ndarray) -> ndarray:
    _, first = np.unique(key, return_index=True)
    again = np.ones(len(key), dtype=bool)
    again[first] = False
    return again


def _rows_say(name: str, bad: ndarray, what: str, remedy: str) -> str:
    count, first = int(bad.sum()), int(np.argmax(bad)) + 1
    rows = "1 row is" if count == 1 else f"{count:,} rows are"
    return f"{name}: {rows} {what}, the first is row {first:,} below the header. {remedy}"
