"""The token cache: what a frozen encoder made of an item, found again by content.

An entry's key is the SHA-256 of the item's digest and of the encoder's identity (name, digest of
its weights, options, version of the transform), so a changed parameter is a miss and nothing is
ever stale. An entry holds named arrays in safetensors, followed by the SHA-256 of those bytes: a
torn or altered file is a miss, never a wrong token.

    cache/<encoder>/identity.json
    cache/<encoder>/<2 hex digits>/<key>.tokens
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clinimm.core.record import digest_json, write_text

#: What an entry holds: array name -> array, such as ``values`` and ``boxes``.
Entry = dict[str, np.ndarray]

_SUFFIX = ".tokens"
_CHECK_BYTES = 32
_FOLDER_DIGITS = 16


@dataclass(frozen=True)
class CacheStats:
    """What one encoder has in the cache: its identity, its entries and their bytes."""

    identity: dict[str, Any]
    entries: int
    size_bytes: int


class EncoderCache:
    """The part of the cache that belongs to one encoder with one set of parameters."""

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.identity = dict(identity)
        self._digest = digest_json(self.identity)
        self._folder = folder / self._digest[:_FOLDER_DIGITS]
        folder.mkdir(parents=True, exist_ok=True)
        self.hits = 0
        self.misses = 0

    @property
    def folder(self) -> Path:
        """Where the whole cache lies."""
        return self._folder.parent

    def key(self, item_digest: str) -> str:
        """The entry's name: SHA-256 of the item's digest and the encoder's identity."""
        return hashlib.sha256(f"{item_digest}|{self._digest}".encode()).hexdigest()

    def has(self, item_digest: str) -> bool:
        """Whether there is an entry; ``get`` may still find that it is damaged."""
        return self._path(item_digest).is_file()

    def get(self, item_digest: str) -> Entry | None:
        """The tokens of an item, or None where they are absent or damaged; counts either."""
        found = _decode(self._path(item_digest))
        if found is None:
            self.misses += 1
        else:
            self.hits += 1
        return found

    def put(self, item_digest: str, entry: Mapping[str, np.ndarray]) -> None:
        """Keep the tokens of an item, whole or not at all."""
        path = self._path(item_digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        note = self._folder / "identity.json"
        if not note.is_file():
            write_text(note, json.dumps(self.identity, indent=1, sort_keys=True, default=str) + "\n")
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        partial.write_bytes(_encode(entry))
        partial.replace(path)

    def _path(self, item_digest: str) -> Path:
        key = self.key(item_digest)
        return self._folder / key[:2] / f"{key}{_SUFFIX}"


class TokenCache:
    """The cache of all encoders, as ``clinimm cache`` shows and clears it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def encoder(self, identity: Mapping[str, Any]) -> EncoderCache:
        """The part that belongs to an encoder; ``identity`` holds every parameter that matters."""
        return EncoderCache(self.folder, identity)

    def stats(self) -> list[CacheStats]:
        """One entry an encoder, the largest first."""
        found = [_folder_stats(path.parent) for path in sorted(self.folder.glob("*/identity.json"))]
        return sorted(found, key=lambda one: -one.size_bytes)

    def clear(self, encoder: str | None = None) -> int:
        """Delete the entries of the encoder of that name, or all of them; returns how many."""
        removed = 0
        for path in sorted(self.folder.glob("*/identity.json")):
            stats = _folder_stats(path.parent)
            if encoder is None or stats.identity.get("encoder") == encoder:
                removed += stats.entries
                shutil.rmtree(path.parent)
        return removed


def _encode(entry: Mapping[str, np.ndarray]) -> bytes:
    from safetensors.numpy import save

    content = save({name: np.ascontiguousarray(array) for name, array in entry.items()})
    return content + hashlib.sha256(content).digest()


def _decode(path: Path) -> Entry | None:
    from safetensors.numpy import load

    try:
        whole = path.read_bytes()
    except FileNotFoundError:
        return None
    content, check = whole[:-_CHECK_BYTES], whole[-_CHECK_BYTES:]
    return load(content) if hashlib.sha256(content).digest() == check else None


def _folder_stats(folder: Path) -> CacheStats:
    sizes = [path.stat().st_size for path in folder.glob(f"??/*{_SUFFIX}") if not path.name.startswith(".")]
    try:
        identity = json.loads((folder / "identity.json").read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        identity = {"encoder": "unknown"}
    return CacheStats(identity, len(sizes), sum(sizes))
