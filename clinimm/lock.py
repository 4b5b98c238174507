"""One run at a time in one folder."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clinimm.core.errors import BusyError

LOCK_NAME = ".lock"


@contextmanager
def locked(
    folder: Path, remedy: str = "Wait until it ends, or give this run another name (--set name=NAME)."
) -> Iterator[None]:
    """Hold ``folder`` for this process while the block runs.

    The lock is POSIX's (``fcntl``), so the system gives it back however the process ends, also
    after ``kill -9``; the file's text only tells a person who holds it.

    Args:
        folder: what is held; made where it is absent.
        remedy: what a person can do who finds it held.

    Raises:
        BusyError: another live process holds it; names that process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_NAME
    with path.open("a+", encoding="utf-8") as stream:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            stream.seek(0)
            holder = stream.read().strip() or "another process"
            raise BusyError(f"{folder} is in use by {holder}. {remedy}") from error
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        stream.flush()
        try:
            yield
        finally:
            stream.truncate(0)
            fcntl.lockf(stream, fcntl.LOCK_UN)
