"""How a log lies on the disk: lines that are chained, and a signed end.

A line holds its number, the SHA-256 of the line before (``previous``) and its own (``digest``), so a
changed, removed, inserted or reordered line breaks the chain. What a chain cannot tell is that its
end was cut off: for that the last line's number and digest are signed after each line, in a file of
their own (``core/sign.py``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from clinimm.core.errors import IntegrityError
from clinimm.core.record import digest_bytes
from clinimm.core.sign import Signature, canonical

#: ``previous`` of the first line.
GENESIS = "0" * 64
_TAIL_BYTES = 1 << 16


@dataclass(frozen=True)
class LogForm:
    """What one kind of log is called.

    Attributes:
        title: in messages, such as ``access log``.
        log_name, head_name: files in the log's folder.
        schema: form of the signed head.
    """

    title: str
    log_name: str
    head_name: str
    schema: str


@dataclass(frozen=True)
class Head:
    """The end of the chain: number and digest of the last line."""

    number: int
    digest: str


def line_digest(body: Mapping[str, Any]) -> str:
    """SHA-256 of a line without its own digest.

    Raises:
        ValueError: it holds text that is no text (a lone surrogate).
    """
    return digest_bytes(canonical({key: value for key, value in body.items() if key != "digest"}))


def read_head(folder: Path, form: LogForm) -> tuple[Head, bytes, Signature]:
    """The signed end of the chain: what was signed, as bytes, and the signature over it, unchecked.

    Raises:
        IntegrityError: the file is absent or is no head.
    """
    path = folder / form.head_name
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        signed, signature = dict(value["head"]), Signature(**value["signature"])
        if signed["schema"] != form.schema:
            raise IntegrityError(f"{path}: written in form {signed['schema']}, expected {form.schema}.")
        return Head(int(signed["number"]), str(signed["digest"])), canonical(signed), signature
    except FileNotFoundError as error:
        raise IntegrityError(f"{path} is missing: nobody can tell whether the log's end was cut.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{path}: not the signed head of the {form.title}.") from error


def last_line(stream: BinaryIO) -> dict[str, Any]:
    """The last whole line; of an empty log what stands before its first line.

    Raises:
        IntegrityError: the last line is no entry.
    """
    text = _last_bytes(stream)
    if not text:
        return {"number": 0, "digest": GENESIS}
    try:
        value = json.loads(text)
        return {**value, "number": int(value["number"]), "digest": str(value["digest"])}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError("the log's last line is not an entry.") from error


def cut_torn(stream: BinaryIO) -> bytes:
    """Remove a last line that has no end, and give its text."""
    size = os.fstat(stream.fileno()).st_size
    tail = b""
    start = size
    while start and b"\n" not in tail:
        start = max(0, start - _TAIL_BYTES)
        stream.seek(start)
        tail = stream.read(size - start)
    keep = tail.rfind(b"\n") + 1
    if keep < len(tail):
        stream.truncate(start + keep)
    return tail[keep:]


def cut_last(stream: BinaryIO) -> bytes:
    """Remove the last whole line, and give its text; nothing torn may follow it."""
    text = _last_bytes(stream)
    stream.truncate(os.fstat(stream.fileno()).st_size - len(text) - 1)
    return text


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
