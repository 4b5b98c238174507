"""Whether anything below a folder tells who a patient is, whatever form it is written in.

A name in a compressed Parquet page, behind ``\\u00e9`` in JSON or behind ``&#x27;`` in HTML is not in
the file's bytes. So each file is searched as bytes and, decoded, as words.
"""

from __future__ import annotations

import html
import io
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def assert_nobody_is_named(folder: Path, secrets: Iterable[str]) -> None:
    """Search names, bytes and decoded content of every file below ``folder``.

    Times in tables are left out: a newborn's first event has the date of birth, and the times of
    events are meant to be written.
    """
    wanted = sorted(set(secrets))
    assert wanted
    assert all(len(secret) > 3 for secret in wanted), "shorter words are found anywhere by chance"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    found = {
        (str(path.relative_to(folder)), secret) for path in files for secret in _told(path, folder, wanted)
    }
    assert not found, f"{len(found)} places tell who somebody is: {sorted(found)[:20]}"


def _told(path: Path, folder: Path, secrets: list[str]) -> Iterator[str]:
    content = path.read_bytes()
    words = "\n".join([str(path.relative_to(folder)), *_words(path, content)])
    yield from (secret for secret in secrets if secret.encode() in content or secret in words)


def _words(path: Path, content: bytes) -> Iterator[str]:
    """Every cell, key, value and text of a file; nothing where it holds no words."""
    if content.startswith(b"PAR1"):
        table = pq.read_table(io.BytesIO(content))
        yield from _texts(table.column_names)
        for column in table.columns:
            if not pa.types.is_temporal(column.type):
                yield from _texts(
                    column.unique().to_pylist() if _is_flat(column.type) else column.to_pylist()
                )
        yield from (value.decode() for value in (table.schema.metadata or {}).values())
    elif content.startswith(b"SQLite format 3\0"):
        yield from _cells(path)
    elif content.startswith(b"\x93NUMPY"):
        yield from _texts(np.load(io.BytesIO(content), allow_pickle=False).ravel().tolist())
    elif path.suffix in (".json", ".jsonl", ".ndjson"):
        yield from _texts(_json(content.decode("utf-8")))
    else:
        yield html.unescape(content.decode("utf-8", errors="ignore"))


def _is_flat(kind: pa.DataType) -> bool:
    return not pa.types.is_nested(kind)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.splitlines() if line.strip()]


def _texts(value: Any) -> Iterator[str]:
    """All texts and numbers in a nested value; a text that is JSON is opened too."""
    if isinstance(value, dict):
        yield from _texts([*value, *value.values()])
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, bytes):
        yield value.decode("utf-8", errors="ignore")
    elif value is not None:
        text = str(value)
        yield html.unescape(text)
        if text.startswith(("{", "[")):
            with suppress(json.JSONDecodeError):  # then it was a plain text, and is searched as one
                yield from _texts(json.loads(text))


def _cells(path: Path) -> Iterator[str]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in database.execute(f'SELECT * FROM "{name}"'):
                yield from _texts(list(row))
