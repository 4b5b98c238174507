from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from clinimm.core.errors import InputRejected
from clinimm.nn.cache import EncoderCache, Entry, TokenCache
from clinimm.nn.rows import by_time, fill_cache, gather, most_recent
from clinimm.progress import QUIET


@pytest.fixture
def cache(tmp_path: Path) -> EncoderCache:
    return TokenCache(tmp_path).encoder({"encoder": "toy"})


def frame(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame(columns)


def test_rows_stand_by_subject_and_oldest_first_whatever_the_order() -> None:
    rows = frame(subject_id=["b", "a", "a", "a"], time_hours=[1.0, 0.0, 5.0, 5.0], code=["x", "y", "z", "w"])

    ordered = by_time(rows, "code")

    assert ordered["code"].tolist() == ["w", "z", "y", "x"]
    pd.testing.assert_frame_equal(by_time(rows.iloc[::-1], "code"), ordered)


def test_the_most_recent_rows_are_kept_and_the_important_ones_before_them() -> None:
    rows = frame(subject_id=["a"] * 4 + ["b"], time_hours=[9.0, 3.0, 2.0, 1.0, 7.0], code=list("prstu"))

    assert most_recent(rows, 2)["code"].tolist() == ["s", "t", "u"]
    assert most_recent(rows, 2, always=rows["code"] == "p")["code"].tolist() == ["p", "t", "u"]
    pd.testing.assert_frame_equal(most_recent(rows, 9), rows)


def load(row: Mapping[str, Any]) -> str:
    if row["digest"] == "bad":
        raise InputRejected("truncated", "the file ends early", "send it again")
    if row["digest"] == "gone":
        raise FileNotFoundError(2, "No such file or directory")
    return str(row["digest"])


def compute(loaded: list[str]) -> list[Entry]:
    return [{"values": np.full((2, 3), len(one), np.float16)} for one in loaded]


def test_bad_items_are_listed_and_the_others_are_encoded(cache: EncoderCache) -> None:
    items = frame(
        subject_id=["a", "a", "b", "b"],
        time_hours=[2.0, 1.0, 3.0, 0.0],
        digest=["one", "bad", "gone", "three"],
        code=["X"] * 4,
    )

    refusals, counts = fill_cache(items, cache, load, compute, 1, QUIET)
    tokens, values = gather(items, cache, lambda item, entry: frame(cell=range(len(entry["values"]))))

    assert {digest: one.code for digest, one in refusals.items()} == {
        "bad": "truncated",
        "gone": "unreadable",
    }
    assert counts == {"cache_hits": 0, "cache_misses": 4}
    assert tokens["subject_id"].tolist() == ["a", "a", "b", "b"]
    np.testing.assert_array_equal(values[:, 0], [3, 3, 5, 5])


def test_a_second_time_nothing_is_computed(cache: EncoderCache) -> None:
    items = frame(subject_id=["a", "b"], time_hours=[2.0, 1.0], digest=["one", "one"], code=["X", "X"])
    fill_cache(items, cache, load, compute, 8, QUIET)

    def forbidden(_: Mapping[str, Any]) -> str:
        raise AssertionError("read again")

    _, counts = fill_cache(items, cache, forbidden, compute, 8, QUIET)

    assert counts == {"cache_hits": 1, "cache_misses": 0}


def test_nothing_gives_no_rows(cache: EncoderCache) -> None:
    items = frame(subject_id=["a"], time_hours=[1.0], digest=["bad"], code=["X"])

    tokens, values = gather(items, cache, lambda item, entry: frame(cell=[]))

    assert (len(tokens), len(values)) == (0, 0)
    assert list(tokens.columns) == ["subject_id", "time_hours"]


def test_a_mistake_in_a_reader_is_not_swallowed_and_names_the_item(cache: EncoderCache) -> None:
    items = frame(subject_id=["a"], time_hours=[1.0], digest=["one"], code=["X//1"])

    def mistaken(row: Mapping[str, Any]) -> str:
        return str(row["no such column"])

    with pytest.raises(KeyError) as found:
        fill_cache(items, cache, mistaken, compute, 8, QUIET)
    assert found.value.__notes__ == ["This was raised by the reader of X//1 on the item with digest one."]
