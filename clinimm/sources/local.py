"""A folder of files: the default source."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath

from clinimm.config import IngestConfig
from clinimm.core.errors import ConfigError, InputRejected
from clinimm.sources.base import SourceFile


@dataclass(frozen=True)
class LocalSource:
    """Everything below one folder, at any depth.

    Hidden files and folders (a leading dot) are left out, and so is every symbolic link that leads
    out of the folder, or to a folder: an export must not make ingest read the rest of the disk.

    Attributes:
        root: the folder.
        site: site of all its data, where the files do not say.
        rules: how its files are to be read.
    """

    root: Path
    site: str | None = None
    rules: IngestConfig = field(default_factory=IngestConfig)

    def files(self) -> Iterator[SourceFile]:
        """Every file, in order of its path.

        Raises:
            ConfigError: the folder is absent or cannot be listed.
        """
        if not self.root.is_dir():
            raise ConfigError(f"{self.root}: a source's root must be a folder that exists.")
        yield from sorted(self._walk(self.root, ""), key=lambda file: file.path)

    def read(self, path: str) -> bytes:
        """The whole content of a file."""
        return self.local_path(path).read_bytes()

    def local_path(self, path: str) -> Path:
        """Where the file lies.

        Raises:
            InputRejected: ``outside-root``, the path leads out of the folder.
        """
        parts = PurePosixPath(path)
        found = self.root / parts
        if parts.is_absolute() or ".." in parts.parts or not self._inside(found):
            raise InputRejected(
                "outside-root", "the path leads out of the source's folder", "copy the file into the folder"
            )
        return found

    def _inside(self, path: Path) -> bool:
        if path.is_symlink():
            path = path.resolve()
        return _real(path.parent).is_relative_to(_real(self.root))

    def _walk(self, folder: Path, prefix: str) -> Iterator[SourceFile]:
        try:
            entries = list(os.scandir(folder))
        except PermissionError as error:
            raise ConfigError(f"{folder}: cannot be listed: {error.strerror}.") from error
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(folder / entry.name, path + "/")
            elif entry.is_file() and (not entry.is_symlink() or self._inside(folder / entry.name)):
                status = entry.stat()
                yield SourceFile(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _real(folder: Path) -> Path:
    """A folder without links; remembered, because every file of a folder asks."""
    return folder.resolve()
