from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinimm.nn.cache import EncoderCache, TokenCache

IDENTITY = {"encoder": "lite", "weights": "abc", "size": 224, "version": 1}
ENTRY = {"values": np.arange(6, dtype=np.float16).reshape(2, 3), "boxes": np.ones((2, 4), np.float32)}


@pytest.fixture
def cache(tmp_path: Path) -> EncoderCache:
    return TokenCache(tmp_path / "cache").encoder(IDENTITY)


def only_entry(folder: Path) -> Path:
    (path,) = folder.rglob("*.tokens")
    return path


def test_what_was_put_comes_back(cache: EncoderCache) -> None:
    cache.put("d1", ENTRY)

    found = cache.get("d1")

    assert found is not None
    for name, array in ENTRY.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    assert (cache.hits, cache.misses) == (1, 0)


@pytest.mark.parametrize(
    "changed", [{"weights": "xyz"}, {"size": 320}, {"version": 2}, {"encoder": "hf:other"}, {"new": None}]
)
def test_a_changed_parameter_is_a_miss(tmp_path: Path, changed: dict[str, object]) -> None:
    TokenCache(tmp_path).encoder(IDENTITY).put("d1", ENTRY)

    assert TokenCache(tmp_path).encoder({**IDENTITY, **changed}).get("d1") is None
    assert TokenCache(tmp_path).encoder(dict(reversed(IDENTITY.items()))).get("d1") is not None


def test_another_item_is_a_miss(cache: EncoderCache) -> None:
    cache.put("d1", ENTRY)

    assert cache.get("d2") is None
    assert (cache.hits, cache.misses) == (0, 1)


@settings(max_examples=40, deadline=None)
@given(position=st.integers(0, 10_000), flip=st.integers(1, 255), torn=st.booleans())
def test_a_damaged_entry_is_a_miss(
    tmp_path_factory: pytest.TempPathFactory, position: int, flip: int, torn: bool
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    cache = TokenCache(folder).encoder(IDENTITY)
    cache.put("d1", ENTRY)
    path = only_entry(folder)
    content = bytearray(path.read_bytes())
    position %= len(content)
    if torn:
        content = content[:position]
    else:
        content[position] ^= flip
    path.write_bytes(content)

    assert cache.get("d1") is None


def test_stats_and_clear_by_encoder(tmp_path: Path) -> None:
    cache = TokenCache(tmp_path)
    cache.encoder(IDENTITY).put("d1", ENTRY)
    cache.encoder(IDENTITY).put("d2", ENTRY)
    cache.encoder({"encoder": "other"}).put("d1", ENTRY)

    assert {one.identity["encoder"]: one.entries for one in cache.stats()} == {"lite": 2, "other": 1}
    assert all(one.size_bytes > 0 for one in cache.stats())
    assert cache.clear("lite") == 2
    assert [one.identity["encoder"] for one in cache.stats()] == ["other"]
    assert cache.clear() == 1
    assert cache.stats() == []
