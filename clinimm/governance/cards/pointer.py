"""``audit.json`` as something to point into (JSON Pointer, RFC 6901)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clinimm.core.errors import ConfigError, DataError
from clinimm.core.record import digest_bytes

SCHEMA = "clinimm.audit/2"


@dataclass(frozen=True)
class AuditDocument:
    """An audit and its digest.

    Attributes:
        content: what ``audit.json`` holds.
        sha256: of its bytes; every document names it.
    """

    content: dict[str, Any]
    sha256: str

    def resolve(self, pointer: str) -> Any:
        """What a pointer points at.

        Raises:
            ConfigError: there is nothing.
        """
        at: Any = self.content
        for part in parts(pointer):
            if isinstance(at, list) and part.isdigit() and int(part) < len(at):
                at = at[int(part)]
            elif isinstance(at, dict) and part in at:
                at = at[part]
            else:
                raise ConfigError(f"audit.json has nothing at {pointer}.")
        return at


def read_audit(path: Path) -> AuditDocument:
    """Read an audit.

    Raises:
        DataError: it is no audit of the form that the documents are made from.
    """
    try:
        raw = path.read_bytes()
        content = json.loads(raw)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}).") from error
    found = content.get("schema") if isinstance(content, dict) else None
    if found != SCHEMA:
        raise DataError(f"{path}: expected an audit of form {SCHEMA}, got {found}; audit again.")
    return AuditDocument(content, digest_bytes(raw))


def parts(pointer: str) -> list[str]:
    """The parts of a pointer, unescaped.

    >>> parts("/groups/0/a~1b")
    ['groups', '0', 'a/b']

    Raises:
        ConfigError: it does not start with a slash.
    """
    if not pointer.startswith("/"):
        raise ConfigError(f"{pointer}: a pointer into audit.json starts with a slash.")
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/")]
