"""Explanations on request: one at a time, by the very model that gave the answer."""

from __future__ import annotations

import threading
from http import HTTPStatus
from typing import Any

from clinimm.core.errors import CliniMMError
from clinimm.progress import QUIET
from clinimm.report.subject import read_subject
from clinimm.serve.catalogue import ServedRun
from clinimm.serve.errors import Refused


class Explainer:
    """Explains patients that the run did not, and reads what it did."""

    def __init__(self) -> None:
        self._busy = threading.Lock()

    def explain(self, run: ServedRun, subject_id: str) -> dict[str, Any]:
        """Explain one patient's answer; takes seconds, and one runs at a time.

        Raises:
            Refused: another one is being made, or this one cannot be.
        """
        if not self._busy.acquire(blocking=False):
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE, "busy", "Another explanation is being made. Try again.", 15
            )
        try:
            from clinimm.explain.stage import explain_subjects

            _require_registered(run)
            explain_subjects(run.workspace, [subject_id], QUIET)
        except Refused:
            raise
        except CliniMMError as error:
            raise Refused(
                HTTPStatus.UNPROCESSABLE_ENTITY, "cannot-explain", "This answer cannot be explained here."
            ) from error
        finally:
            self._busy.release()
        return self.read(run, subject_id)

    def read(self, run: ServedRun, subject_id: str) -> dict[str, Any]:
        """The explanation of a patient's answer as the run's tables have it.

        Raises:
            Refused: there is none; it can be made.
        """
        found = read_subject(run.facts, subject_id)
        if found.summary is None or found.summary["model_digest"] != found.prediction["model_digest"]:
            raise Refused(
                HTTPStatus.NOT_FOUND, "not-explained", "This answer was not explained; it can be (POST)."
            )
        columns = ("modality", "score", "kind", "digest", "box", "text", "time_hours")
        present = [name for name in columns if name in found.attributions]
        rows = found.attributions[present].astype(object)
        return {
            "summary": dict(found.summary),
            "contributions": dict(found.contributions),
            "attributions": rows.where(rows.notna(), None).to_dict("records"),
        }


def _require_registered(run: ServedRun) -> None:
    """The model that lies there must be the one that was signed."""
    if run.facts.model_digest != run.manifest.model_digest:
        raise Refused(
            HTTPStatus.CONFLICT,
            "wrong-model",
            "The model of this run is not the one that was signed; it is not used.",
        )
