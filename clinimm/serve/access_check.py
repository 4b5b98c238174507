"""Is the access log whole? Reads every line, and says which one is wrong and how."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clinimm.core.errors import IntegrityError
from clinimm.core.sign import check
from clinimm.serve.access_log import GENESIS, HEAD_NAME, LOG_NAME, Head, line_digest, read_head


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


def verify_log(folder: Path, trusted_key: Path | None = None, kept: Head | None = None) -> LogState:
    """Check the chain from its first line to the signed head.

    Args:
        folder: where the log lies.
        trusted_key: the signer's public key (PEM); None takes this user's own.
        kept: a head that was written down earlier, elsewhere. The log must still hold that line:
            this finds a log that was set back together with its signed head.

    Raises:
        IntegrityError: there is no log, or its head is unsigned or signed by an unknown key.
    """
    path = folder / LOG_NAME
    if not path.is_file():
        raise IntegrityError(f"{path}: there is no access log.")
    signed, content, signature = read_head(folder / HEAD_NAME)
    check(content, signature, trusted_key)
    problems: list[str] = []
    last, digests = Head(0, GENESIS), {0: GENESIS}
    lines = 0
    for lines, (value, problem) in enumerate(read_lines(path), start=1):
        found = problem or _wrong(value, lines, last)
        if found:
            problems.append(f"line {lines}: {found}")
        last = Head(int(value.get("number") or lines), str(value.get("digest")))
        digests[last.number] = last.digest
    if last != signed:
        problems.append(_end(last, signed))
    if kept is not None and digests.get(kept.number) != kept.digest:
        problems.append(f"line {kept.number} is not the line that was written down ({kept.digest[:16]}…).")
    return LogState(lines, last, signature.key_id, tuple(problems))


def read_lines(path: Path) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Every line as a value, with what is wrong with its form."""
    with path.open("rb") as stream:
        for line in stream:
            try:
                value = json.loads(line)
            except ValueError:
                value = None
            if not isinstance(value, dict):
                yield {}, "not an entry"
            else:
                yield value, None if line.endswith(b"\n") else "the line has no end"


def _wrong(value: dict[str, Any], number: int, last: Head) -> str | None:
    if line_digest(value) != value.get("digest"):
        return "was changed after it was written"
    if value.get("previous") != last.digest:
        return f"does not follow the line before it (it is numbered {value.get('number')})"
    return None if value.get("number") == number else f"is numbered {value.get('number')}"


def _end(last: Head, signed: Head) -> str:
    if last.number < signed.number:
        return f"the end was cut off: the last line is {last.number}, line {signed.number} was signed."
    if last.number > signed.number:
        return f"{last.number - signed.number} lines stand after line {signed.number}, the signed end."
    return f"line {last.number} is not the line that was signed."
