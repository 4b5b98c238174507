"""The access log: who saw or decided what, one JSON line each, every line chained to the one before.

Its form on the disk, and what the chain and the signed end can tell, stands in ``chain.py``. A line is
on the disk (``fsync``) before the page that it tells about is shown.

Nobody can make the server sign a log that was cut off: before each line it checks that the end is
signed by its own key, and that the log has not become shorter since it last wrote. Whoever can write
both files *and* kept an older signed head can still go back in time while the server is stopped;
``clinimm access-log verify --head`` compares with a head that was kept elsewhere.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from clinimm.core.errors import IntegrityError
from clinimm.core.sign import canonical, is_whole, sign
from clinimm.serve.chain import (
    GENESIS,
    HEAD_NAME,
    LOG_NAME,
    SCHEMA,
    Head,
    cut_torn,
    last_line,
    line_digest,
    read_head,
)
from clinimm.serve.errors import LogUnavailable


@dataclass(frozen=True)
class Entry:
    """What happened.

    Attributes:
        action: what was done or asked for, such as ``view-report``.
        user: ``issuer|subject`` of the person; ``-`` before sign-in.
        name: what the person is called by the provider.
        fhir_user: the person's FHIR resource, or None.
        roles: the roles that the person had.
        outcome: ``done`` or ``refused``.
        run, subject, model_digest: what it was about; None where it was about no patient.
        detail: further facts; never a comment's text.
    """

    action: str
    user: str = "-"
    name: str = ""
    fhir_user: str | None = None
    roles: tuple[str, ...] = ()
    outcome: str = "done"
    run: str | None = None
    subject: str | None = None
    model_digest: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


class AccessLog:
    """The log in one folder. Several threads and processes may write to it.

    Args:
        folder: where ``access.jsonl`` and ``access.head.json`` lie; made where it is absent.
        key_file: private key that signs the head; None is this user's own.

    Raises:
        IntegrityError: what lies there does not end as this server's key signed it.
        LogUnavailable: it cannot be read or written.
    """

    def __init__(self, folder: Path, key_file: Path | None = None) -> None:
        self.path = folder / LOG_NAME
        self.head_path = folder / HEAD_NAME
        self._key_file = key_file
        self._public_key = sign(b"", key_file).public_key
        self._lock = threading.Lock()
        #: The end as this process saw it last: a log never becomes shorter.
        self._newest = Head(0, GENESIS)
        with _as_unavailable():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._open() as stream:
                self._begin(stream)
                self._settle(stream)

    def append(self, entry: Entry) -> Head:
        """Write one line, with everything on the disk before this returns.

        Raises:
            LogUnavailable: it cannot be written, or somebody else changed it; nothing may be shown.
        """
        try:
            with self._lock, _as_unavailable(), self._open() as stream:
                self._settle(stream)
                return self._add(stream, entry)
        except IntegrityError as error:
            raise LogUnavailable() from error

    def head(self) -> Head:
        """The end of the chain as this server signed it last.

        Raises:
            IntegrityError: it is missing, or another key signed it.
        """
        head, content, signature = read_head(self.head_path)
        if signature.public_key != self._public_key or not is_whole(content, signature):
            raise IntegrityError(f"{self.head_path} is not signed by this server's key.")
        return head

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        """The log, held against other processes and readable by its owner only."""
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "r+b", buffering=0) as stream:
            # Not lockf: whoever closes the file elsewhere in this process would give that lock back.
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield stream

    def _begin(self, stream: BinaryIO) -> None:
        """Sign the end of a log that has no line yet."""
        if not os.fstat(stream.fileno()).st_size and not self.head_path.exists():
            self._sign(Head(0, GENESIS))

    def _settle(self, stream: BinaryIO) -> None:
        """Bring the end in order after a crash between two steps; nothing is dropped or kept unsaid.

        A half line told of a page that was never shown, because its line was not finished: its text
        moves into a line of its own. A whole line whose head was not signed, if it is the only one,
        is signed now, and the next line says so: it is the one line that the key did not vouch for
        when it was written.

        Raises:
            IntegrityError: the log does not end as it was signed, or is shorter than it was.
        """
        torn, signed = cut_torn(stream), self.head()
        newest = self._newest
        if signed.number < newest.number or (signed.number == newest.number and signed != newest):
            raise IntegrityError(f"{self.path} was set back to line {signed.number}.")
        line = last_line(stream)
        found = Head(line["number"], line["digest"])
        if found != signed:
            follows = found.number == signed.number + 1 and line.get("previous") == signed.digest
            if not follows or line_digest(line) != found.digest:
                raise IntegrityError(
                    f"{self.path} ends with line {found.number}, but line {signed.number} was signed as its "
                    "end. `clinimm access-log verify` says more; move both files to a safe place before "
                    "you start a new log."
                )
            self._sign(found)
            self._add(stream, Entry("recover-unsigned-line", detail=asdict(found)))
        if torn:
            self._add(stream, Entry("recover-torn-line", detail={"text": torn.decode("utf-8", "replace")}))

    def _add(self, stream: BinaryIO, entry: Entry) -> Head:
        before, size = self.head(), os.fstat(stream.fileno()).st_size
        body = {
            "number": before.number + 1,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            **asdict(entry),
            "previous": before.digest,
        }
        head = Head(before.number + 1, line_digest(body))
        line = canonical({**body, "digest": head.digest}) + b"\n"
        try:
            if stream.write(line) != len(line):
                raise OSError("short write")
            os.fsync(stream.fileno())
            self._sign(head)
        except OSError:
            self._take_back(stream, size, before)
            raise
        self._newest = head
        return head

    def _take_back(self, stream: BinaryIO, size: int, before: Head) -> None:
        """Remove a line that was not signed: what it tells of is not shown, and the next one must fit."""
        with suppress(OSError, IntegrityError):
            if self.head() == before:
                stream.truncate(size)

    def _sign(self, head: Head) -> None:
        signed = {"schema": SCHEMA, **asdict(head)}
        text = {"head": signed, "signature": asdict(sign(canonical(signed), self._key_file))}
        partial = self.head_path.with_name(f".{HEAD_NAME}.partial")
        with partial.open("wb") as stream:
            stream.write(canonical(text) + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(self.head_path)
        folder = os.open(self.head_path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def _as_unavailable() -> Iterator[None]:
    """A full or read-only disk, in the application's words."""
    try:
        yield
    except OSError as error:
        raise LogUnavailable() from error
