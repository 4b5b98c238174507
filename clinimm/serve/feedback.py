"""What clinicians think: impressions and verdicts, in a table to which rows are only ever added.

The database refuses to change or remove a row (triggers) and keeps one impression a person and answer.
Each row's digest stands in the access log, so a row that was changed, added or removed by other means
can be told (``feedback_check.py``).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from clinimm.core.record import digest_bytes
from clinimm.core.sign import canonical

TABLE_NAME = "feedback.sqlite"
#: Why a clinician may object; the code is kept, the words are shown.
REASONS: dict[str, str] = {
    "wrong-answer": "The answer is wrong",
    "wrong-evidence": "The answer may be right, its evidence is not",
    "missing-information": "Something important was not there at the time",
    "wrong-data": "The data are wrong, or another patient's",
    "poor-quality": "A picture or a slide is too poor to read",
    "wrong-question": "The question does not fit this patient",
    "other": "Something else",
}
LONGEST_COMMENT = 2000
_TIMEOUT_S = 10.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS feedback (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  time TEXT NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('impression', 'agree', 'object')),
  run TEXT NOT NULL,
  subject_id TEXT NOT NULL,
  class_name TEXT NOT NULL,
  model_digest TEXT NOT NULL,
  probability REAL NOT NULL,
  user TEXT NOT NULL,
  fhir_user TEXT,
  reason TEXT,
  comment TEXT NOT NULL,
  estimate REAL,
  digest TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS feedback_subject ON feedback (run, subject_id);
CREATE UNIQUE INDEX IF NOT EXISTS feedback_first_is_once
  ON feedback (run, subject_id, user, model_digest) WHERE kind = 'impression';
CREATE TRIGGER IF NOT EXISTS feedback_is_never_changed BEFORE UPDATE ON feedback
  BEGIN SELECT RAISE(ABORT, 'feedback is never changed'); END;
CREATE TRIGGER IF NOT EXISTS feedback_is_never_removed BEFORE DELETE ON feedback
  BEGIN SELECT RAISE(ABORT, 'feedback is never removed'); END;
"""
Kind = Literal["impression", "agree", "object"]


@dataclass(frozen=True)
class Feedback:
    """One row.

    Attributes:
        kind: ``impression`` before the answer was seen, ``agree`` or ``object`` after.
        run, subject_id, class_name, model_digest, probability: the answer that it is about.
        user, fhir_user: who.
        reason: a key of ``REASONS``; None unless somebody objects.
        comment: free text, possibly empty. It may name people: it is shown, and not exported unless
            asked for.
        estimate: of an impression, the clinician's own probability, 0 to 1.
        time: UTC, ISO 8601.
    """

    kind: Kind
    run: str
    subject_id: str
    class_name: str
    model_digest: str
    probability: float
    user: str
    fhir_user: str | None
    reason: str | None
    comment: str
    estimate: float | None
    time: str

    @property
    def digest(self) -> str:
        """SHA-256 over the row, which the access log repeats."""
        return digest_bytes(canonical(asdict(self)))


def now() -> str:
    """The time of a row."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class FeedbackTable:
    """The table in one folder.

    Args:
        folder: where ``feedback.sqlite`` lies; made where it is absent.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = folder / TABLE_NAME
        with self._open() as database:
            database.executescript(_SCHEMA)
        self.path.chmod(0o600)

    def add(self, row: Feedback, record: Callable[[str], object]) -> None:
        """Add a row, if ``record`` can write its digest into the log; else nothing is stored.

        Raises:
            sqlite3.IntegrityError: this person gave an impression of this answer before.
        """
        values = {**asdict(row), "digest": row.digest}
        names = ", ".join(values)
        marks = ", ".join(f":{name}" for name in values)
        with self._open() as database:
            database.execute(f"INSERT INTO feedback ({names}) VALUES ({marks})", values)  # noqa: S608  # own names
            record(row.digest)

    def rows(self, run: str | None = None, subject_id: str | None = None) -> list[Feedback]:
        """The rows of a run or a subject, oldest first."""
        wanted = {"run": run, "subject_id": subject_id}
        where = " AND ".join(f"{name} = :{name}" for name, value in wanted.items() if value is not None)
        names = ", ".join(field.name for field in fields(Feedback))
        query = f"SELECT {names} FROM feedback {'WHERE ' + where if where else ''} ORDER BY number"  # noqa: S608
        with self._open() as database:
            return [Feedback(**dict(row)) for row in database.execute(query, wanted)]

    def digests(self) -> dict[int, tuple[str, str]]:
        """Number of a row -> the digest of what it says, and the one that was written with it."""
        with self._open() as database:
            found = [dict(row) for row in database.execute("SELECT * FROM feedback ORDER BY number")]
        return {int(row["number"]): (_digest_of(row), str(row["digest"])) for row in found}

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody adds a row while the block runs; everybody may read."""
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            yield

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection whose changes are kept whole, on the disk, or not at all."""
        database = sqlite3.connect(self.path, timeout=_TIMEOUT_S)
        database.row_factory = sqlite3.Row
        try:
            database.execute("PRAGMA synchronous = FULL")
            with database:
                yield database
        finally:
            database.close()


def _digest_of(row: dict[str, Any]) -> str:
    return Feedback(**{field.name: row[field.name] for field in fields(Feedback)}).digest
