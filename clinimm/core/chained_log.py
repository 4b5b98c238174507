"""A log that is only added to: every line chained to the one before, and the end signed.

Its form on the disk, and what the chain and the signed end can tell, stands in ``chain.py``. A line is
on the disk (``fsync``) before ``append`` returns.

Nobody can make it sign a log that was cut off: before each line it checks that the end is signed by a
key that it trusts, and that the log has not become shorter since it last wrote. Whoever can write both
files *and* kept an older signed head can still go back in time while nobody writes; ``check_log`` with a
head that was kept elsewhere finds that.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from clinimm.core.chain import GENESIS, Head, LogForm, cut_last, cut_torn, last_line, line_digest, read_head
from clinimm.core.durable import sync_folder, write_durably
from clinimm.core.errors import IntegrityError
from clinimm.core.sign import canonical, check_listed, sign


class ChainedLog:
    """One log in a folder. Several threads and processes may write to it.

    Args:
        folder: where its two files lie; made where it is absent.
        form: what they are called.
        key_file: private key that signs the head; None is this user's own.
        trusted: further public keys that may have signed the head, as ``Signature.public_key``.
        recovered: further fields of the lines that tell of a recovery after a crash.
        keep_unsigned: whether the line that a crash left without its signature is signed later; where not,
            it is taken out, and its text kept in a line that says so. Where a line by itself allows
            something, as in the gate's log, nobody may have it signed by writing it.

    Raises:
        IntegrityError: what lies there does not end as a trusted key signed it.
        OSError: it cannot be read or written.
    """

    def __init__(
        self,
        folder: Path,
        form: LogForm,
        key_file: Path | None = None,
        trusted: Collection[str] = (),
        recovered: Mapping[str, Any] | None = None,
        keep_unsigned: Callable[[Mapping[str, Any]], bool] = lambda line: True,
    ) -> None:
        self.form = form
        self.path = folder / form.log_name
        self.head_path = folder / form.head_name
        self._key_file = key_file
        self._trusted = {*trusted, sign(b"", key_file).public_key}
        self._recovered = dict(recovered or {})
        self._keep_unsigned = keep_unsigned
        self._lock = threading.Lock()
        #: The end as this process saw it last: a log never becomes shorter.
        self._newest = Head(0, GENESIS)
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            sync_folder(folder.parent)
        with self._open() as stream:
            self._begin(stream)
            self._settle(stream)

    def append(self, entry: Mapping[str, Any]) -> Head:
        """Write one line, with everything on the disk before this returns.

        Raises:
            IntegrityError: somebody else changed it.
            OSError: it cannot be written.
        """
        with self._lock, self._open() as stream:
            self._settle(stream)
            return self._add(stream, entry)

    def head(self) -> Head:
        """The end of the chain as it was signed last.

        Raises:
            IntegrityError: it is missing, or a key signed it that is not trusted.
        """
        head, content, signature = read_head(self.path.parent, self.form)
        try:
            check_listed(content, signature, self._trusted)
        except IntegrityError as error:
            raise IntegrityError(f"{self.head_path} is not signed by a key that this log trusts.") from error
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

        A half line told of what was never done, because its line was not finished: its text moves
        into a line of its own. A whole line whose head was not signed, if it is the only one, is
        signed now, and the next line says so: it is the one line that the key did not vouch for when
        it was written. Where ``keep_unsigned`` says no, it is treated as a half line is.

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
                    f"end. Verifying the {self.form.title} says more; move both files to a safe place before "
                    "you start a new log."
                )
            if self._keep_unsigned(line):
                self._sign(found)
                self._recover(stream, "recover-unsigned-line", asdict(found))
            else:
                text = cut_last(stream)
                self._recover(stream, "recover-unsigned-line", {"text": text.decode("utf-8", "replace")})
        if torn:
            self._recover(stream, "recover-torn-line", {"text": torn.decode("utf-8", "replace")})

    def _recover(self, stream: BinaryIO, action: str, detail: Mapping[str, Any]) -> None:
        self._add(stream, {**self._recovered, "action": action, "detail": dict(detail)})

    def _add(self, stream: BinaryIO, entry: Mapping[str, Any]) -> Head:
        before, size = self.head(), os.fstat(stream.fileno()).st_size
        body = {
            "number": before.number + 1,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            **entry,
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
        """Remove a line that was not signed: what it tells of is not done, and the next one must fit."""
        with suppress(OSError, IntegrityError):
            if self.head() == before:
                stream.truncate(size)

    def _sign(self, head: Head) -> None:
        signed = {"schema": self.form.schema, **asdict(head)}
        text = {"head": signed, "signature": asdict(sign(canonical(signed), self._key_file))}
        write_durably(self.head_path, canonical(text) + b"\n")
