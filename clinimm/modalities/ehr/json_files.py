"""JSON and NDJSON files as FHIR resources: bounded depth, bounded memory, one bad line at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from clinimm.core.errors import InputRejected

if TYPE_CHECKING:
    from clinimm.sources.base import Source, SourceFile

MAX_DEPTH = 32
_STREAM_ABOVE_BYTES = 64 << 20
_BLOCK_BYTES = 16 << 20
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"{}[]")
_STEP = np.zeros(256, np.int32)
_STEP[list(b"{[")], _STEP[list(b"}]")] = 1, -1

#: A parsed line: its number, and the value or the refusal of that line alone.
Line = tuple[int, Any | InputRejected]


def is_ndjson(path: str, head: bytes) -> bool:
    """Whether a file is to be read line by line: by its name, or by a first line that ends in ``}``."""
    if path.lower().endswith((".ndjson", ".jsonl")):
        return True
    first, newline, rest = head.partition(b"\n")
    return bool(newline) and first.rstrip().endswith(b"}") and rest.lstrip().startswith(b"{")


def read_document(content: bytes) -> Any:
    """A whole JSON file.

    Raises:
        InputRejected: ``empty-file``, ``not-json`` or ``nested-too-deep``.
    """
    text = content.removeprefix(b"\xef\xbb\xbf")
    if not text.strip():
        raise InputRejected("empty-file", "the file holds nothing", "export it again")
    check_depth(text)
    return _loads(text)


def read_lines(source: Source, file: SourceFile) -> Iterator[Line]:
    """The values of an NDJSON file, without holding a large file in memory."""
    number = 0
    for block in _blocks(source, file):
        shallow = _depth(block) <= MAX_DEPTH
        for line in block.split(b"\n"):
            number += 1
            if not line or line.isspace():
                continue
            try:
                if not shallow:
                    check_depth(line)
                yield number, _loads(line)
            except InputRejected as refusal:
                yield number, refusal


def check_depth(text: bytes) -> None:
    """Refuse brackets nested deeper than any FHIR resource that is read here.

    Raises:
        InputRejected: ``nested-too-deep``.
    """
    if _depth(text) > MAX_DEPTH and _exact_depth(text) > MAX_DEPTH:
        raise InputRejected(
            "nested-too-deep",
            f"brackets are nested more than {MAX_DEPTH} deep",
            "export plain FHIR resources",
        )


def _depth(text: bytes) -> int:
    """Depth as if no bracket stood inside a string: quick, and seldom too high."""
    brackets = np.frombuffer(text.translate(None, _NOT_BRACKETS), np.uint8)
    return int(np.cumsum(_STEP[brackets]).max(initial=0))


def _exact_depth(text: bytes) -> int:
    import re

    return _depth(re.sub(rb'"(?:[^"\\]|\\.)*"', b"", text))


def _loads(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InputRejected(
            "not-json", f"not valid JSON (line {error.lineno}, column {error.colno})", "export the file again"
        ) from None


def _blocks(source: Source, file: SourceFile) -> Iterator[bytes]:
    """The file in pieces that end with a line."""
    if file.size <= _STREAM_ABOVE_BYTES:
        yield source.read(file.path).removeprefix(b"\xef\xbb\xbf")
        return
    with source.local_path(file.path).open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            block += stream.readline()
            yield block.removesuffix(b"\n")
