"""Bytes of a file at any place, from several threads, never fewer than asked for."""

from __future__ import annotations

import os
from pathlib import Path

from clinimm.core.errors import InputRejected


class FileBytes:
    """An open file that is read by position.

    Positions are given with each read (``pread``), so threads share one handle, and what was read
    does not stay mapped into the process as it would with ``mmap``.

    Raises:
        InputRejected: ``cannot-open`` or ``empty-file``.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._handle = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise InputRejected(
                "cannot-open",
                f"the file cannot be opened: {error.strerror}",
                "check that it is there and may be read",
            ) from error
        self.size = os.fstat(self._handle).st_size
        if self.size == 0:
            self.close()
            raise InputRejected("empty-file", "the file has no bytes", "ask the sender to transmit it again")

    def read(self, position: int, count: int) -> bytes:
        """``count`` bytes from ``position``.

        Raises:
            InputRejected: ``truncated``, the file ends before them.
        """
        if not 0 <= position <= self.size - count:
            raise InputRejected(
                "truncated",
                f"bytes {position} to {position + count} are asked for, and the file has {self.size}",
                "export or transmit the slide again",
            )
        found = os.pread(self._handle, count, position)
        while len(found) < count:  # a single call may give less, on network file systems
            more = os.pread(self._handle, count - len(found), position + len(found))
            if not more:
                raise InputRejected("truncated", "the file became shorter while it was read", "read it again")
            found += more
        return found

    def head(self, count: int) -> bytes:
        """The first bytes, fewer where the file is shorter."""
        return self.read(0, min(count, self.size))

    def close(self) -> None:
        """Give the handle back; a second call does nothing."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
