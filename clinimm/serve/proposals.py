"""Feedback as proposals for training: a table of events that nothing reads by itself.

The columns are those of ``events.parquet``. The code says that it is feedback, the time is when it was
given, so by law 1 it can never explain an answer that was given before. Whoever wants to learn from it
decides so, in a pipeline of their own.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from clinimm.core.errors import DataError, IntegrityError
from clinimm.core.event import EVENT_COLUMNS
from clinimm.core.pseudonym import load_pseudonymiser
from clinimm.core.record import write_bytes
from clinimm.serve.access_check import verify_log
from clinimm.serve.feedback import TABLE_NAME, Feedback, FeedbackTable
from clinimm.serve.feedback_check import check_feedback

MODALITY = "feedback"


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        count: how many proposals.
        problems: what is wrong with the table without touching these, one sentence each.
    """

    count: int
    problems: tuple[str, ...]


def export(
    records: Path,
    out: Path,
    run: str | None = None,
    with_comments: bool = False,
    trusted_key: Path | None = None,
) -> Exported:
    """Write the proposals.

    Args:
        records: folder of the feedback.
        out: the Parquet file.
        run: of this run only; None takes all.
        with_comments: whether free text goes along; it may name people.
        trusted_key: public key (PEM) of the server that kept the access log; None is your own.

    Raises:
        DataError: there is no feedback, or a row is not what somebody said.
        IntegrityError: the access log, which names every row, is missing or not whole.
    """
    if not (records / TABLE_NAME).is_file():
        raise DataError(f"{records / TABLE_NAME} is missing: nobody gave feedback there.")
    if problems := verify_log(records, trusted_key).problems:
        raise IntegrityError(f"the access log is not whole, so nobody can tell who said what: {problems[0]}")
    state, table = check_feedback(records), FeedbackTable(records)
    if not state.trusted:
        raise DataError(f"{table.path}: {' '.join(state.problems)}")
    events = proposals(table.rows(run), with_comments)
    buffer = io.BytesIO()
    events.to_parquet(buffer, index=False)
    write_bytes(out, buffer.getvalue())
    return Exported(len(events), state.problems)


def proposals(rows: list[Feedback], with_comments: bool = False) -> pd.DataFrame:
    """The rows as events; ``numeric_value`` is an impression's own probability.

    The reviewer is a keyed hash: a plain one of a staff number could be guessed.
    """
    key = load_pseudonymiser()
    events = [_event(row, with_comments, key.hash("reviewer", row.user)) for row in rows]
    table = pd.DataFrame(events, columns=list(EVENT_COLUMNS))
    for name in ("time", "until"):
        table[name] = pd.to_datetime(table[name], utc=True).astype("datetime64[us, UTC]")
    return table.astype({"numeric_value": "float64"})


def _event(row: Feedback, with_comments: bool, reviewer: str) -> dict[str, Any]:
    about = {
        "run": row.run,
        "class_name": row.class_name,
        "model_digest": row.model_digest,
        "probability": row.probability,
        "reason": row.reason,
        "reviewer": reviewer,
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
