"""Explanations on request: one at a time, by the very model that gave the answer."""

from __future__ import annotations

import math
import threading
from http import HTTPStatus
from typing import Any, Literal

import pandas as pd

from clinimm.core.errors import CliniMMError
from clinimm.lock import locked
from clinimm.progress import QUIET
from clinimm.report.subject import is_explained, read_subject
from clinimm.serve.catalogue import ServedRun, computed_from_signed
from clinimm.serve.errors import Refused
from clinimm.serve.vouchers import Vouchers, requested_folder

#: ``foreign``: something lies there that neither the run's signature nor this server vouches for.
Standing = Literal["explained", "not-explained", "foreign"]


class Explainer:
    """Explains patients that the run did not, and reads what it did.

    Args:
        vouchers: what this server made itself.
    """

    def __init__(self, vouchers: Vouchers) -> None:
        self._vouchers = vouchers
        self._busy = threading.Lock()

    def explain(self, run: ServedRun, subject_id: str) -> dict[str, Any]:
        """Explain one patient's answer; takes seconds, and one runs at a time.

        Raises:
            Refused: another one is being made, the run is being changed, or this one cannot be made.
        """
        if not self._busy.acquire(blocking=False):
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE, "busy", "Another explanation is being made. Try again.", 15
            )
        try:
            from clinimm.explain.stage import explain_subjects

            with locked(run.workspace.root):
                with computed_from_signed(run):
                    explain_subjects(run.workspace, [subject_id], QUIET)
                self._vouchers.vouch(run, subject_id)
        except CliniMMError as error:
            raise Refused(
                HTTPStatus.UNPROCESSABLE_ENTITY, "cannot-explain", "This answer cannot be explained here."
            ) from error
        finally:
            self._busy.release()
        return self.read(run, subject_id)

    def standing(self, run: ServedRun, subject_id: str) -> Standing:
        """Whether a page may show the explanation that lies there."""
        if _is_signed(run, subject_id):
            return "explained"
        if requested_folder(run, subject_id).exists() and not self._vouchers.holds(run, subject_id):
            return "foreign"
        return "explained" if is_explained(run.workspace, subject_id) else "not-explained"

    def require_own(self, run: ServedRun, subject_id: str) -> None:
        """No page is made from an explanation that nobody vouches for.

        Raises:
            Refused: one lies there.
        """
        if self.standing(run, subject_id) == "foreign":
            raise Refused(
                HTTPStatus.CONFLICT,
                "foreign-explanation",
                "An explanation of this answer lies there that this application did not make. Have it "
                "made again (POST).",
            )

    def read(self, run: ServedRun, subject_id: str) -> dict[str, Any]:
        """The explanation of a patient's answer as the run's tables have it.

        Raises:
            Refused: there is none, or none that may be shown; it can be made.
        """
        self.require_own(run, subject_id)
        found = read_subject(run.facts, subject_id)
        if found.summary is None or found.summary["model_digest"] != found.prediction["model_digest"]:
            raise Refused(
                HTTPStatus.NOT_FOUND, "not-explained", "This answer was not explained; it can be (POST)."
            )
        columns = ("modality", "score", "kind", "digest", "box", "text", "time_hours")
        present = [name for name in columns if name in found.attributions]
        rows = found.attributions[present].astype(object)
        return {
            "summary": {name: _finite(value) for name, value in found.summary.items()},
            "contributions": dict(found.contributions),
            "attributions": rows.where(rows.notna(), None).to_dict("records"),
        }


def _is_signed(run: ServedRun, subject_id: str) -> bool:
    """Whether the run itself explained this answer; its tables are covered by its signed records."""
    path = run.workspace.root / "explain" / "summary.parquet"
    if not path.is_file():
        return False
    answer = run.answer(subject_id)
    wanted = [(name, "==", str(answer[name])) for name in ("subject_id", "class_name", "model_digest")]
    return len(pd.read_parquet(path, columns=["subject_id"], filters=wanted)) > 0


def _finite(value: Any) -> Any:
    """JSON knows no number that is none."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
