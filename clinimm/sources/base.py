"""The interface that every source fulfils, and how a sealed uri finds its bytes again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from clinimm.core.errors import DataError
from clinimm.core.pseudonym import Pseudonymiser

_PREFIX = "sealed:"


@dataclass(frozen=True)
class SourceFile:
    """A file as its source lists it.

    Attributes:
        path: relative to the source's root, with forward slashes.
        size: bytes.
        modified_ns: modification time, nanoseconds since 1970.
    """

    path: str
    size: int
    modified_ns: int


class Source(Protocol):
    """Lists files and hands out their bytes."""

    @property
    def site(self) -> str | None:
        """Site of all its data, where the files do not say."""
        ...

    def files(self) -> Iterator[SourceFile]:
        """Every file, in order of its path."""
        ...

    def read(self, path: str) -> bytes:
        """The whole content of a file."""
        ...

    def local_path(self, path: str) -> Path:
        """A path on this machine that holds the file, for libraries that need one."""
        ...


@dataclass(frozen=True)
class Opener:
    """Finds the bytes behind an event's sealed ``uri``."""

    sources: Sequence[Source]
    pseudonymiser: Pseudonymiser

    def seal(self, source_index: int, path: str) -> str:
        """The uri of a file, which tells nobody without the key where it lies."""
        return _PREFIX + self.pseudonymiser.seal(f"{source_index}/{path}")

    def locate(self, uri: str) -> tuple[Source, str]:
        """The source and the path behind ``uri``."""
        if not uri.startswith(_PREFIX):
            raise DataError(f"uri {uri[:24]!r} is not sealed; ingest writes sealed uris only.")
        index, _, path = self.pseudonymiser.unseal(uri.removeprefix(_PREFIX)).partition("/")
        if int(index) >= len(self.sources):
            raise DataError("an event points at a source that the pipeline file no longer names.")
        return self.sources[int(index)], path

    def read(self, uri: str) -> bytes:
        """The content of the file behind ``uri``."""
        source, path = self.locate(uri)
        return source.read(path)

    def local_path(self, uri: str) -> Path:
        """A local path to the file behind ``uri``."""
        source, path = self.locate(uri)
        return source.local_path(path)
