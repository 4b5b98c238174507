"""Loose notes: text files whose name says whose they are and when they became available."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from clinimm.core.errors import InputRejected
from clinimm.core.fact import Fact
from clinimm.modality import Identity, Scan

if TYPE_CHECKING:
    from clinimm.sources.base import Source, SourceFile

PROGRESS_NOTE = "LOINC//11506-3"
LARGEST_BYTES = 16 << 20
_NAME = re.compile(r"(?P<patient>.+)__(?P<time>\d{8}T\d{6}Z)(?:__[^.]*)?")


def accepts(path: str, head: bytes) -> bool:
    """Whether a file is a text file by its name."""
    return path.lower().endswith(".txt")


def scan(source: Source, file: SourceFile) -> Scan:
    """Read ``<patient id>__<YYYYMMDDTHHMMSSZ>.txt`` (a further ``__PART`` may tell files apart).

    Raises:
        InputRejected: ``note-name``, ``note-too-large`` or ``empty-note``.
    """
    match = _NAME.fullmatch(PurePosixPath(file.path).stem)
    if match is None:
        raise InputRejected(
            "note-name",
            "the name of a text file does not say whose note it is, and when",
            "name it PATIENT-ID__YYYYMMDDTHHMMSSZ.txt, or move it out of the export",
        )
    if file.size > LARGEST_BYTES:
        raise InputRejected("note-too-large", f"a note of {file.size} bytes is no note", "split the file")
    text, flags = _decode(source.read(file.path))
    if not text.strip():
        raise InputRejected("empty-note", "the note has no words", "export the note again")
    who = (None, match["patient"].strip())
    fact = Fact(
        patient=who,
        time=_time(match["time"]),
        code=PROGRESS_NOTE,
        modality="notes",
        category="note",
        text_value=text,
        flags=flags,
        instance="note/" + match["time"] + "/" + hashlib.sha256(text.encode("utf-8")).hexdigest(),
    )
    return Scan(identities=(Identity(keys=(who,)),), facts=(fact,))


def _time(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise InputRejected(
            "note-name",
            "the time in the file's name is none",
            "name it PATIENT-ID__YYYYMMDDTHHMMSSZ.txt",
        ) from None


def _decode(content: bytes) -> tuple[str, tuple[str, ...]]:
    flags: tuple[str, ...] = ()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text, flags = content.decode("cp1252", errors="replace"), ("charset_guessed",)
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", ""), flags
