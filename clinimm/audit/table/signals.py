"""What detectors found: ``signals.json`` and ``signals.html``; and on a table, what they look at."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy import ndarray

from clinimm.audit.detect.detect import Extras, Signals, detect
from clinimm.audit.detect_settings import DetectSettings
from clinimm.audit.engine.rows import Coded, Rows
from clinimm.audit.table.assemble import Audit
from clinimm.audit.table.read import coded_column, column_names, load_columns
from clinimm.audit.table_settings import TableSettings
from clinimm.audit.templates import environment
from clinimm.core.errors import DataError
from clinimm.provenance import code_version

SCHEMA = "clinimm.audit-signals/2"
_FIFTHS = 5
_MOST_NUMBERS = 8
_FEW_PERIODS = 60
TITLES = {
    "slices": "Slices nobody named",
    "label_validity": "Does the label mean the same for everybody?",
    "metadata": "Can the label be told without looking at the patient?",
    "embedding": "What the embedding carries",
    "drift": "Do gaps move over time?",
}


def table_signals(path: Path, rows: Rows, settings: TableSettings) -> Signals:
    """Run the detectors that the settings name on a table that was read before.

    Raises:
        DataError: a column is absent or does not hold what its detector needs.
    """
    extras = read_extras(path, rows, settings)
    try:
        return detect(rows, settings.threshold or 0.5, extras, settings.detect, seed=settings.seed)
    except ValueError as error:
        raise DataError(f"{path.name}: {error}") from error


def read_extras(path: Path, rows: Rows, settings: TableSettings) -> Extras:
    """Read the columns that detectors look at.

    Raises:
        DataError: a column is absent or does not hold what its detector needs.
    """
    asked = settings.detect
    vectors = [name for name in column_names(path) if asked.embedding and name.startswith(asked.embedding)]
    if asked.embedding and not vectors:
        raise DataError(f"{path.name}: no column begins with {asked.embedding} (--embedding).")
    text = {*asked.metadata}
    named = [*asked.features, *asked.metadata, *(name for name in (asked.outcome, asked.time) if name)]
    table = load_columns(path, list(dict.fromkeys([*named, *vectors])), text, set(vectors))
    return Extras(
        features={
            name: _feature(table[name], name, settings)
            for name in asked.features
            if name not in rows.attributes
        },
        outcome=(asked.outcome, _numbers(table[asked.outcome], asked.outcome)) if asked.outcome else None,
        period=_period(table[asked.time], asked) if asked.time else None,
        metadata={name: coded_column(table[name], name, settings) for name in asked.metadata},
        embedding=np.stack([_numbers(table[name], name) for name in vectors], axis=1) if vectors else None,
    )


def signal_files(signals: Mapping[str, Signals], name: str) -> dict[str, bytes]:
    """Path relative to the folder -> content. They hold small counts: for reviewers, not for publication.

    Args:
        signals: class -> what was found; at least one.
        name: of what was audited.
    """
    classes = [
        {"class_name": one, "raised": found.raised, "detectors": found.as_json()}
        for one, found in signals.items()
    ]
    alpha = next(iter(signals.values())).alpha
    content = {"schema": SCHEMA, "code_version": code_version(), "file": name, "alpha": alpha}
    content |= {"classes": classes}
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return {"signals.json": f"{text}\n".encode(), "signals.html": signals_page(content).encode()}


def with_signals(audit: Audit, signals: Mapping[str, Signals]) -> Audit:
    """The audit with what the detectors found, in sentences; its verdict does not change."""
    found = [
        {"class_name": one, "detector": name, "title": TITLES[name], "raised": raised, "sentences": sentences}
        for one, own in signals.items()
        for name, (raised, sentences) in own.by_detector.items()
    ]
    part = {
        "alpha": next(iter(signals.values())).alpha,
        "asked": len(found),
        "raised": sum(bool(row["raised"]) for row in found),
        "found": found,
    }
    return replace(audit, content=audit.content | {"signals": part})


def signals_page(content: Mapping[str, Any]) -> str:
    """One HTML file, without script; every value escaped."""
    template = environment().get_template("signals.html")
    return template.render(signals=content, titles=TITLES)


def _feature(column: pa.ChunkedArray, name: str, settings: TableSettings) -> Coded:
    """A column of text, or a number of few values, by value; any other number in fifths."""
    number = pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
    own = settings.attributes.get(name)
    if not number or (own is not None and own.bins) or len(pc.unique(column)) <= _MOST_NUMBERS:
        return coded_column(column, name, settings)
    values = _numbers(column, name)
    known = np.isfinite(values)
    edges = np.unique(np.quantile(values[known], np.linspace(0, 1, _FIFTHS + 1)[1:-1]))
    names = [f"below {edges[0]:g}"]
    names += [f"{low:g} to below {high:g}" for low, high in itertools.pairwise(edges)]
    names += [f"{edges[-1]:g} and above", "(missing)"]
    code = np.where(known, np.searchsorted(edges, values, side="right"), len(edges) + 1)
    return _compact(code, names)


def _period(column: pa.ChunkedArray, settings: DetectSettings) -> Coded:
    """Periods in order of time: the column's own values where they are few, else parts of equal size."""
    name = settings.time
    if column.null_count:
        raise DataError(f"{name}: {column.null_count:,} rows have no time; leave them out or fill them in.")
    if pa.types.is_string(column.type) or pa.types.is_dictionary(column.type):
        column = column.cast(pa.string())
    values = np.asarray(column.to_numpy(zero_copy_only=False))
    distinct, code = np.unique(values, return_inverse=True)
    if len(distinct) < 3:
        raise DataError(f"{name}: {len(distinct)} different values; drift needs at least three periods.")
    if pa.types.is_string(column.type) and len(distinct) > _FEW_PERIODS:
        raise DataError(f"{name}: expected dates, numbers or up to {_FEW_PERIODS} periods, got text.")
    if len(distinct) <= settings.periods or pa.types.is_string(column.type):
        return Coded(code.astype(np.int64), tuple(_day(one) for one in distinct))
    rank = np.cumsum(np.bincount(code))[code] / len(code)
    part = np.minimum((rank * settings.periods).astype(np.int64), settings.periods - 1)
    _, part = np.unique(part, return_inverse=True)
    names = [
        f"{_day(values[part == one].min())} to {_day(values[part == one].max())}"
        for one in range(int(part.max()) + 1)
    ]
    return Coded(part.astype(np.int64), tuple(names))


def _day(value: object) -> str:
    if isinstance(value, np.datetime64):
        return str(value.astype("datetime64[D]"))
    if isinstance(value, float | np.floating):
        return f"{value:g}"
    return str(value)


def _numbers(column: pa.ChunkedArray, name: str) -> ndarray:
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise DataError(f"{name}: expected numbers (or true and false), got {column.type}.")
    values = np.asarray(column.cast(pa.float64()).to_numpy(), dtype=float)
    if not np.isfinite(values).any():
        raise DataError(f"{name}: no row has a number.")
    return values


def _compact(code: ndarray, names: list[str]) -> Coded:
    used, place = np.unique(code, return_inverse=True)
    return Coded(place.astype(np.int64), tuple(names[one] for one in used))
