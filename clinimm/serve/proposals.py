"""Feedback as proposals for training: a table of events that nothing reads by itself.

The columns are those of ``events.parquet``. The code says that it is feedback, the time is when it was
given, so by law 1 it can never explain an answer that was given before. Whoever wants to learn from it
decides so, in a pipeline of their own.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd

from clinimm.core.errors import DataError
from clinimm.core.event import EVENT_COLUMNS
from clinimm.core.record import digest_bytes, write_bytes
from clinimm.serve.feedback import TABLE_NAME, Feedback, FeedbackTable

MODALITY = "feedback"
_REVIEWER_DIGITS = 16


def export(records: Path, out: Path, run: str | None = None, with_comments: bool = False) -> int:
    """Write the proposals; how many there are.

    Args:
        records: folder of the feedback.
        out: the Parquet file.
        run: of this run only; None takes all.
        with_comments: whether free text goes along; it may name people.

    Raises:
        DataError: there is no feedback, or a row is not as it was written.
    """
    if not (records / TABLE_NAME).is_file():
        raise DataError(f"{records / TABLE_NAME} is missing: nobody gave feedback there.")
    table = FeedbackTable(records)
    if altered := table.altered():
        raise DataError(
            f"{table.path}: changed after they were written: rows {', '.join(map(str, altered))}."
        )
    events = proposals(table.rows(run), with_comments)
    buffer = io.BytesIO()
    events.to_parquet(buffer, index=False)
    write_bytes(out, buffer.getvalue())
    return len(events)


def proposals(rows: list[Feedback], with_comments: bool = False) -> pd.DataFrame:
    """The rows as events; ``numeric_value`` is an impression's own probability."""
    events = [_event(row, with_comments) for row in rows]
    table = pd.DataFrame(events, columns=list(EVENT_COLUMNS))
    for name in ("time", "until"):
        table[name] = pd.to_datetime(table[name], utc=True).astype("datetime64[us, UTC]")
    return table.astype({"numeric_value": "float64"})


def _event(row: Feedback, with_comments: bool) -> dict[str, Any]:
    about = {
        "run": row.run,
        "class_name": row.class_name,
        "model_digest": row.model_digest,
        "probability": row.probability,
        "reason": row.reason,
        "reviewer": digest_bytes(row.user.encode("utf-8"))[:_REVIEWER_DIGITS],
        "row": row.digest,
    }
    return {
        "subject_id": row.subject_id,
        "time": row.time,
        "code": f"FEEDBACK//{row.kind}",
        "numeric_value": row.estimate,
        "text_value": row.comment if with_comments and row.comment else None,
        "modality": MODALITY,
        "category": MODALITY,
        "attributes": json.dumps(about, sort_keys=True),
    }
