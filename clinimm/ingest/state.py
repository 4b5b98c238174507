"""What earlier runs have read: a folder of sealed shards, which is its own index.

A shard is written whole as soon as its batch is read, so a kill loses only the batches in the air.
Which shard holds the valid reading of a file follows from the file's size and time alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from clinimm.core.pseudonym import Pseudonymiser
from clinimm.core.record import digest_bytes, write_bytes
from clinimm.ingest.reading import PASSING
from clinimm.ingest.shard import KnownFile, Shard, seal_shard, unseal_shard
from clinimm.sources.base import SourceFile

_SUFFIX = ".shard"
_READERS = "readers"
_TOUCHED = "touched"

#: Label of a source, and a path within it.
Key = tuple[str, str]


@dataclass
class State:
    """The shards of one run's ``ingest/state``.

    Attributes:
        folder: where they lie.
        readers: digest of the code and settings that read them; others' shards are dropped.
        shards: name -> shard.
        touched: files whose time changed and whose bytes did not -> the new time, and the digest.
    """

    folder: Path
    readers: str
    pseudonymiser: Pseudonymiser
    shards: dict[str, Shard] = field(default_factory=dict)
    touched: dict[Key, tuple[int, str]] = field(default_factory=dict)
    _passing: set[tuple[str, int]] = field(default_factory=set)

    def load(self) -> State:
        """Read what is there; what another key or other code wrote is removed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        mark = self.folder / _READERS
        if not mark.is_file() or mark.read_text("ascii") != self.readers:
            self._clear()
            write_bytes(mark, self.readers.encode("ascii"))
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            self.add(path.stem)
        self._passing = {
            (name, number)
            for name, shard in self.shards.items()
            for number, file in enumerate(shard.files)
            if any(refusal.code in PASSING for refusal in file.refusals)
        }
        touched = self.folder / _TOUCHED
        if touched.is_file():
            items = orjson.loads(self.pseudonymiser.unseal(touched.read_text("ascii")))
            self.touched = {(source, path): (time, digest) for source, path, time, digest in items}
        return self

    def add(self, name: str) -> None:
        """Take in a shard that lies in the folder; a damaged one is removed, and its files are new."""
        path = self.folder / (name + _SUFFIX)
        shard = unseal_shard(path.read_bytes(), self.pseudonymiser)
        if shard is None:
            path.unlink()
        else:
            self.shards[name] = shard

    def known(self) -> dict[Key, list[tuple[KnownFile, str, int]]]:
        """File -> its readings, each with the shard's name and its number in there."""
        found: dict[Key, list[tuple[KnownFile, str, int]]] = {}
        for name, shard in self.shards.items():
            for number, file in enumerate(shard.files):
                found.setdefault((file.source, file.path), []).append((file, name, number))
        return found

    def digest(self, readings: Iterable[tuple[KnownFile, str, int]]) -> str | None:
        """The digest of the last good reading of a file, to see whether its bytes changed at all."""
        good = [known.digest for known, name, number in readings if (name, number) not in self._passing]
        return good[-1] if good and good[-1] else None

    def choose(
        self, source: str, file: SourceFile, readings: Iterable[tuple[KnownFile, str, int]]
    ) -> tuple[KnownFile, str, int] | None:
        """The reading that is of the file as it is now, by size and time; None where it must be read."""
        touched = self.touched.get((source, file.path))
        for known, name, number in readings:
            current = known.modified_ns == file.modified_ns or touched == (file.modified_ns, known.digest)
            if current and known.size == file.size and (name, number) not in self._passing:
                return known, name, number
        return None

    def keep(self, names: set[str]) -> None:
        """Remove every shard that is not in ``names``, and note touched files."""
        for name in self.shards.keys() - names:
            (self.folder / (name + _SUFFIX)).unlink(missing_ok=True)
            del self.shards[name]
        items = sorted([*key, *value] for key, value in self.touched.items())
        target = self.folder / _TOUCHED
        if items:
            write_bytes(target, self.pseudonymiser.seal(orjson.dumps(items).decode()).encode("ascii"))
        else:
            target.unlink(missing_ok=True)

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            path.unlink()


def write_shard(folder: Path, shard: Shard, pseudonymiser: Pseudonymiser) -> str:
    """Write a shard, whole or not at all; returns its name, which follows from its content."""
    sealed = seal_shard(shard, pseudonymiser)
    name = digest_bytes(sealed)[:24]
    write_bytes(folder / (name + _SUFFIX), sealed)
    return name


def readers_digest(parts: Sequence[str]) -> str:
    """One digest of the code and settings that decide what a file gives."""
    return digest_bytes("\n".join(parts).encode("utf-8"))
