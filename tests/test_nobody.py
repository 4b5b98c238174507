"""The search for identifiers can fail: a name is found in every form in which a run writes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.nobody import assert_nobody_is_named

NAME = "Zoë O'Brannick"


def _parquet(path: Path) -> None:
    # Many texts, so that the page is compressed; neither the first nor the last, which stand plain.
    texts = [f"cell {number} of many" for number in range(500)] + [f"cell 25 is of {NAME} today"]
    pd.DataFrame({"text_value": texts}).to_parquet(path, compression="zstd")


def _nested(path: Path) -> None:
    frame = pd.DataFrame({"attributes": [json.dumps({"device": [NAME]})], "list": [["x", "y"]]})
    frame.to_parquet(path, compression="zstd")


def _sqlite(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE tags (value TEXT)")
        database.execute("INSERT INTO tags VALUES (?)", (json.dumps({"note": NAME}),))
        database.commit()


FORMS: dict[str, Callable[[Path], object]] = {
    "cells.parquet": _parquet,
    "nested.parquet": _nested,
    "deep/er/index.json": lambda path: path.write_text(json.dumps({"a": [{NAME: 1}]})),
    "lines.jsonl": lambda path: path.write_text("{}\n" + json.dumps({"a": NAME}) + "\n"),
    "page.html": lambda path: path.write_text("<p>Zo&euml; O&#x27;Brannick</p>"),
    "figure.svg": lambda path: path.write_text("<svg><text>Zo&#235; O&apos;Brannick</text></svg>"),
    "values.npy": lambda path: np.save(path, np.array([NAME])),
    "tracking.db": _sqlite,
    "weights.bin": lambda path: path.write_bytes(b"\xff\x00" + NAME.encode() + b"\xfe"),
    f"{NAME}.txt": lambda path: path.write_text("x"),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_planted_name_is_found_in_every_form(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    FORMS[name](path)
    with pytest.raises(AssertionError, match="Brannick"):
        assert_nobody_is_named(tmp_path, {NAME, "MRN-SECRET"})
    assert_nobody_is_named(tmp_path, {"MRN-SECRET"})


def test_a_search_of_bytes_would_not_have_found_it(tmp_path: Path) -> None:
    _parquet(tmp_path / "cells.parquet")
    assert NAME.encode() not in (tmp_path / "cells.parquet").read_bytes()


def test_the_time_of_an_event_is_no_birth_date_and_a_text_is(tmp_path: Path) -> None:
    born = datetime(2020, 5, 1, tzinfo=UTC)
    pd.DataFrame({"time": [born]}).to_parquet(tmp_path / "events.parquet")
    assert_nobody_is_named(tmp_path, {"2020-05-01"})
    pd.DataFrame({"text_value": [born.isoformat()]}).to_parquet(tmp_path / "texts.parquet")
    with pytest.raises(AssertionError, match="2020-05-01"):
        assert_nobody_is_named(tmp_path, {"2020-05-01"})


def test_nothing_to_search_and_nothing_to_search_for_are_mistakes(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        assert_nobody_is_named(tmp_path, {"MRN-SECRET"})
    (tmp_path / "a").write_text("x")
    with pytest.raises(AssertionError):
        assert_nobody_is_named(tmp_path, set())
