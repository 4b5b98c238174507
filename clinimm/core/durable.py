"""Small files that must be on the disk, whole, before anything else happens."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path


def write_durably(path: Path, content: bytes) -> None:
    """Put a file in place, whole and on the disk (``fsync``) before this returns.

    Two processes that write the same file at once write two partial files of different names; a crash
    leaves the old file or the new one, and at most a hidden partial file that nobody reads.

    Raises:
        OSError: it cannot be written; then the old file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    try:
        with partial.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, not only the files' content."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
