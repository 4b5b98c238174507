"""What a stage leaves behind: ``record.json``, with the digests that decide whether it is stale."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RECORD_NAME = "record.json"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class RunRecord:
    """The evidence of one stage.

    Attributes:
        stage: the stage's name.
        inputs: path relative to the run -> SHA-256 of what was read.
        outputs: path relative to the stage -> SHA-256 of what was written.
        config: the part of the pipeline file that the stage depends on.
        code_version: package version and digest of the package's source.
        seed: the run's seed.
        started, finished: UTC, ISO 8601.
        cost: wall seconds, processor seconds and peak memory in MiB.
        notes: counts and sentences that a reader should see, such as how many were refused.
    """

    stage: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    config: dict[str, Any]
    code_version: str
    seed: int
    started: str
    finished: str
    cost: dict[str, float]
    notes: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write ``record.json`` into ``folder``, whole or not at all."""
        write_text(folder / RECORD_NAME, json.dumps(asdict(self), indent=1, sort_keys=True) + "\n")

    @classmethod
    def read(cls, folder: Path) -> RunRecord | None:
        """The record in ``folder``; None where the stage did not finish."""
        try:
            return cls(**json.loads((folder / RECORD_NAME).read_text(encoding="utf-8")))
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            return None


def write_text(path: Path, text: str) -> None:
    """Write a file so that a crash leaves either the old content or the new, never half."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """``write_text`` for bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)


def digest_bytes(content: bytes) -> str:
    """SHA-256 as hex."""
    return hashlib.sha256(content).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file's content as hex."""
    state = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            state.update(chunk)
    return state.hexdigest()


def digest_tree(folder: Path, pattern: str = "*") -> dict[str, str]:
    """Path relative to ``folder`` -> SHA-256, for every file below it, in order of the path.

    The stage's own record, hidden and partial files are left out.
    """
    return {
        str(path.relative_to(folder)): digest_file(path)
        for path in sorted(folder.rglob(pattern))
        if path.is_file()
        and path.name != RECORD_NAME
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def digest_json(value: Any) -> str:
    """SHA-256 of a JSON value, independent of key order."""
    return digest_bytes(json.dumps(value, sort_keys=True, default=str).encode("utf-8"))
