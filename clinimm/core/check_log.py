"""Is a log whole? Reads every line, and says which one is wrong and how."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clinimm.core.chain import GENESIS, Head, LogForm, line_digest, read_head
from clinimm.core.errors import IntegrityError
from clinimm.core.sign import Signature


@dataclass(frozen=True)
class LogState:
    """What was found.

    Attributes:
        lines: how many lines there are.
        head: the last line.
        key_id: short name of the key that signed the head.
        problems: what is wrong, one sentence each, with the line; empty where the log is whole.
    """

    lines: int
    head: Head
    key_id: str
    problems: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether nothing was changed, removed, inserted, reordered or cut off."""
        return not self.problems


def check_log(
    folder: Path, form: LogForm, trust: Callable[[bytes, Signature], None], kept: Head | None = None
) -> LogState:
    """Check the chain from its first line to the signed head, while others go on writing.

    Args:
        folder: where the log lies.
        form: what its files are called.
        trust: raises IntegrityError where it does not vouch for the head's signature.
        kept: a head that was written down earlier, elsewhere. The log must still hold that line:
            this finds a log that was set back together with its signed head.

    Raises:
        IntegrityError: there is no log, or its head is unsigned or signed by an unknown key.
    """
    path = folder / form.log_name
    if not path.is_file():
        raise IntegrityError(f"{path}: there is no {form.title}.")
    size, (signed, content, signature) = _end(folder, form)
    _check_signature(content, signature, form, trust)
    problems: list[str] = []
    last, kept_digest = Head(0, GENESIS), GENESIS if kept is not None and kept.number == 0 else None
    lines = 0
    for lines, (value, problem) in enumerate(read_lines(path, size), start=1):
        found = problem or _wrong(value, lines, last)
        if found:
            problems.append(f"line {lines}: {found}")
        last = Head(_number(value) or lines, str(value.get("digest")))
        if kept is not None and last.number == kept.number:
            kept_digest = last.digest
    if last != signed:
        problems.append(_wrong_end(last, signed))
    if kept is not None and kept_digest != kept.digest:
        problems.append(f"line {kept.number} is not the line that was written down ({kept.digest[:16]}…).")
    return LogState(lines, last, signature.key_id, tuple(problems))


def read_lines(path: Path, size: int | None = None) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Every line as a value, with what is wrong with its form.

    Args:
        path: the log.
        size: how much of it is read, bytes; None reads all that is there now.
    """
    left = path.stat().st_size if size is None else size
    with path.open("rb") as stream:
        while left > 0 and (line := stream.readline(left)):
            left -= len(line)
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                value = None
            if not isinstance(value, dict):
                yield {}, "not an entry"
            else:
                yield value, None if line.endswith(b"\n") else "the line has no end"


def _end(folder: Path, form: LogForm) -> tuple[int, tuple[Head, bytes, Signature]]:
    """How long the log is, and its head, of one moment: no line is being written meanwhile."""
    with (folder / form.log_name).open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)
        return os.fstat(stream.fileno()).st_size, read_head(folder, form)


def _check_signature(
    content: bytes, signature: Signature, form: LogForm, trust: Callable[[bytes, Signature], None]
) -> None:
    try:
        trust(content, signature)
    except IntegrityError as error:
        raise IntegrityError(f"{form.head_name}: {error}".replace("the manifest", "the log's end")) from error


def _wrong(value: dict[str, Any], number: int, last: Head) -> str | None:
    try:
        digest = line_digest(value)
    except ValueError:
        digest = None
    if digest is None or digest != value.get("digest"):
        return "was changed after it was written"
    if value.get("previous") != last.digest:
        return f"does not follow the line before it (it is numbered {value.get('number')})"
    return None if value.get("number") == number else f"is numbered {value.get('number')}"


def _number(value: dict[str, Any]) -> int | None:
    found = value.get("number")
    return found if isinstance(found, int) else None


def _wrong_end(last: Head, signed: Head) -> str:
    if last.number < signed.number:
        return f"the end was cut off: the last line is {last.number}, line {signed.number} was signed."
    if last.number > signed.number:
        return f"{last.number - signed.number} lines stand after line {signed.number}, the signed end."
    return f"line {last.number} is not the line that was signed."
