"""The access log: who saw or decided what, one JSON line each, every line chained to the one before.

A line holds its number, the SHA-256 of the line before (``previous``) and its own (``digest``), so a
changed, removed, inserted or reordered line breaks the chain. What a chain cannot tell is that its
end was cut off: for that the last line's number and digest are signed after each line, in a file of
their own (``core/sign.py``). Whoever can write both files *and* kept an older signed head can still
go back in time; ``clinimm access-log verify --head`` compares with a head that was kept elsewhere.

A line is on the disk (``fsync``) before the page that it tells about is shown.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from clinimm.core.errors import IntegrityError
from clinimm.core.record import digest_bytes
from clinimm.core.sign import Signature, sign
from clinimm.serve.errors import LogUnavailable

LOG_NAME = "access.jsonl"
HEAD_NAME = "access.head.json"
SCHEMA = "clinimm-access-log/1"
#: ``previous`` of the first line.
GENESIS = "0" * 64
_TAIL_BYTES = 1 << 16


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


@dataclass(frozen=True)
class Head:
    """The end of the chain: number and digest of the last line."""

    number: int
    digest: str


class AccessLog:
    """The log in one folder. Several threads and processes may write to it.

    Args:
        folder: where ``access.jsonl`` and ``access.head.json`` lie; made where it is absent.
        key_file: private key that signs the head; None is this user's own.

    Raises:
        IntegrityError: what lies there does not end as it was signed.
        LogUnavailable: it cannot be read or written.
    """

    def __init__(self, folder: Path, key_file: Path | None = None) -> None:
        self.path = folder / LOG_NAME
        self.head_path = folder / HEAD_NAME
        self._key_file = key_file
        self._lock = threading.Lock()
        with _as_unavailable():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._open() as stream:
                self._recover(stream)

    def append(self, entry: Entry) -> Head:
        """Write one line, with everything on the disk before this returns.

        Raises:
            LogUnavailable: it cannot be written, or somebody else changed it; nothing may be shown.
        """
        try:
            with self._lock, _as_unavailable(), self._open() as stream:
                return self._add(stream, entry)
        except IntegrityError as error:
            raise LogUnavailable() from error

    def head(self) -> Head:
        """The end of the chain as it was signed last."""
        return read_head(self.head_path)[0]

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        """The log, held against other processes and readable by its owner only."""
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "r+b", buffering=0) as stream:
            # Not lockf: whoever closes the file elsewhere in this process would give that lock back.
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield stream

    def _add(self, stream: BinaryIO, entry: Entry) -> Head:
        last = self._last(stream)
        body = {
            "number": last.number + 1,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            **asdict(entry),
            "previous": last.digest,
        }
        digest = line_digest(body)
        line = canonical({**body, "digest": digest}) + b"\n"
        if stream.write(line) != len(line):
            raise OSError("short write")
        os.fsync(stream.fileno())
        head = Head(last.number + 1, digest)
        self._sign(head)
        return head

    def _last(self, stream: BinaryIO) -> Head:
        """The last line, which must be the one that was signed: nobody else may add lines."""
        found, signed = last_line(stream), self.head()
        if found != signed:
            raise IntegrityError(
                f"{self.path} ends with line {found.number}, but line {signed.number} was signed as its end."
            )
        return found

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

    def _recover(self, stream: BinaryIO) -> None:
        """Bring the end in order after a crash between two steps; nothing is dropped unsaid.

        A half line told of a page that was never shown, because its line was not finished: its
        text moves into a line of its own. A whole line whose head was not signed is signed now,
        if it is the only one.
        """
        if not os.fstat(stream.fileno()).st_size and not self.head_path.exists():
            self._sign(Head(0, GENESIS))
            return
        torn = _cut_torn(stream)
        found, signed = last_line(stream), self.head()
        if found != signed:
            if found.number != signed.number + 1 or _previous(stream) != signed.digest:
                raise IntegrityError(
                    f"{self.path} ends with line {found.number}, but line {signed.number} was signed as its "
                    "end. `clinimm access-log verify` says more; move both files to a safe place before "
                    "you start a new log."
                )
            self._sign(found)
        if torn:
            self._add(stream, Entry("recover-torn-line", detail={"text": torn.decode("utf-8", "replace")}))


def canonical(value: Mapping[str, Any]) -> bytes:
    """JSON with sorted keys and nothing to spare, as it is digested and signed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def line_digest(body: Mapping[str, Any]) -> str:
    """SHA-256 of a line without its own digest."""
    return digest_bytes(canonical({key: value for key, value in body.items() if key != "digest"}))


def read_head(path: Path) -> tuple[Head, bytes, Signature]:
    """The signed end of the chain: what was signed, as bytes, and the signature over it.

    Raises:
        IntegrityError: the file is absent or is no head.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        signed, signature = dict(value["head"]), Signature(**value["signature"])
        return Head(int(signed["number"]), str(signed["digest"])), canonical(signed), signature
    except FileNotFoundError as error:
        raise IntegrityError(f"{path} is missing: nobody can tell whether the log's end was cut.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{path}: not the signed head of an access log.") from error


def last_line(stream: BinaryIO) -> Head:
    """Number and digest of the last whole line; line 0 of an empty log.

    Raises:
        IntegrityError: the last line is no entry.
    """
    text = _last_bytes(stream)
    if not text:
        return Head(0, GENESIS)
    try:
        value = json.loads(text)
        return Head(int(value["number"]), str(value["digest"]))
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError("the access log's last line is not an entry.") from error


def _previous(stream: BinaryIO) -> str:
    return str(json.loads(_last_bytes(stream)).get("previous"))


def _last_bytes(stream: BinaryIO) -> bytes:
    """The last whole line without its end; the block that is looked at doubles until it holds it."""
    size = os.fstat(stream.fileno()).st_size
    block = _TAIL_BYTES
    while True:
        start = max(0, size - block)
        stream.seek(start)
        text = stream.read(size - start)
        lines = text[: text.rfind(b"\n") + 1].split(b"\n")
        if start == 0 or len(lines) > 2:
            return lines[-2] if len(lines) > 1 else b""
        block *= 2


def _cut_torn(stream: BinaryIO) -> bytes:
    """Remove a last line that has no end, and give its text."""
    size = os.fstat(stream.fileno()).st_size
    stream.seek(0)
    text = stream.read(size)
    keep = text.rfind(b"\n") + 1
    if keep < size:
        stream.truncate(keep)
    return text[keep:]


@contextmanager
def _as_unavailable() -> Iterator[None]:
    """A full or read-only disk, in the application's words."""
    try:
        yield
    except OSError as error:
        raise LogUnavailable() from error
