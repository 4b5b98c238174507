"""Files that exist in memory only: for tests, and for bytes that a program already holds."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from clinimm.config import IngestConfig
from clinimm.core.errors import InputRejected
from clinimm.core.record import digest_bytes
from clinimm.sources.base import SourceFile


@dataclass(frozen=True)
class MemorySource:
    """A mapping from path to content, seen as a source.

    >>> [file.path for file in MemorySource({"b.txt": b"2", "a.txt": b"1"}).files()]
    ['a.txt', 'b.txt']

    Attributes:
        content: path with forward slashes -> bytes.
        site: site of all its data, where the files do not say.
        rules: how its files are to be read.
    """

    content: Mapping[str, bytes] = field(repr=False)
    site: str | None = None
    rules: IngestConfig = field(default_factory=IngestConfig)

    def files(self) -> Iterator[SourceFile]:
        """Every file, in order of its path; the content stands in for the time of modification."""
        for path in sorted(self.content):
            data = self.content[path]
            yield SourceFile(path, len(data), int(digest_bytes(data)[:12], 16))

    def read(self, path: str) -> bytes:
        """The whole content of a file."""
        try:
            return self.content[path]
        except KeyError:
            raise InputRejected("absent", "the source holds no such file", "list the source again") from None

    def local_path(self, path: str) -> Path:
        """The content as a temporary file, which goes when the source goes."""
        content = self.read(path)
        found = Path(self._folder.name, str(os.getpid()), *PurePosixPath(path).parts)
        if not found.exists():
            found.parent.mkdir(parents=True, exist_ok=True)
            found.write_bytes(content)
        return found

    @cached_property
    def _folder(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix="clinimm-")
