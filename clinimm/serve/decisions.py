"""What a clinician says: checked, entered in the access log and the table, together or not at all."""

from __future__ import annotations

import sqlite3
from http import HTTPStatus
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from starlette.requests import Request

from clinimm.serve.catalogue import ServedRun
from clinimm.serve.errors import Refused, bad_request
from clinimm.serve.feedback import LONGEST_COMMENT, REASONS, Feedback, Kind, now
from clinimm.serve.office import office_of, served_of, session_of

_KEPT_CONTROLS = "\n\t"


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    comment: str = Field("", max_length=LONGEST_COMMENT, description="Free text; name nobody in it.")

    @field_validator("comment")
    @classmethod
    def _is_plain(cls, value: str) -> str:
        """Line ends as everywhere, and no character that draws nothing or turns the text round."""
        text = value.replace("\r\n", "\n").replace("\r", "\n")
        return "".join(one for one in text if one.isprintable() or one in _KEPT_CONTROLS).strip()


class Impression(_Said):
    """What a clinician thinks before seeing the answer."""

    estimate: float = Field(ge=0, le=1, description="Own probability of the outcome, or of `class_name`.")
    class_name: str | None = Field(
        None, description="Which outcome is meant; needed where the run knows several."
    )


class Verdict(_Said):
    """What a clinician thinks of the answer."""

    verdict: Literal["agree", "object"] = Field(description="Agree or object.")
    reason: str | None = Field(None, description="Why, if somebody objects: " + ", ".join(REASONS))

    @model_validator(mode="after")
    def _has_a_reason(self) -> Verdict:
        if self.verdict == "object" and self.reason not in REASONS:
            raise ValueError(f"reason must be one of {', '.join(REASONS)}")
        if self.verdict == "agree" and self.reason is not None:
            raise ValueError("reason belongs to an objection")
        return self


def give_impression(request: Request, subject: str, given: Impression) -> Feedback:
    """Keep an impression.

    Raises:
        Refused: the answers are not hidden here, so nothing would tell that it came first; it does
            not say of which outcome; or this person has given one already for this answer.
    """
    if not office_of(request).settings.impression_first:
        raise Refused(
            HTTPStatus.CONFLICT, "no-impressions", "Answers are not hidden here, so no impression is first."
        )
    return _keep(request, subject, "impression", given, about=_meant(served_of(request), given.class_name))


def give_verdict(request: Request, subject: str, given: Verdict) -> Feedback:
    """Keep a verdict; a later one does not remove an earlier one."""
    about = str(served_of(request).answer(subject)["class_name"])
    return _keep(request, subject, given.verdict, given, about)


def _meant(run: ServedRun, class_name: str | None) -> str:
    """The outcome that an impression is about: the likeliest one would tell the model's answer."""
    classes = run.classes
    if len(classes) == 1 and class_name in (None, *classes):
        return classes[0]
    if class_name is None or class_name not in classes:
        raise bad_request("which-outcome", f"Say which outcome you mean: {', '.join(classes)[:500]}.")
    return class_name


def _keep(request: Request, subject: str, kind: Kind, given: Impression | Verdict, about: str) -> Feedback:
    office, user, served = office_of(request), session_of(request).user, served_of(request)
    reason = given.reason if isinstance(given, Verdict) else None
    run = served.name
    row = Feedback(
        kind=kind,
        run=run,
        subject_id=subject,
        class_name=about,
        model_digest=str(served.answer(subject)["model_digest"]),
        probability=served.probability(subject, about),
        user=user.identifier,
        fhir_user=user.fhir_user,
        reason=reason,
        comment=given.comment,
        estimate=given.estimate if isinstance(given, Impression) else None,
        time=now(),
    )

    def enter(digest: str) -> None:
        office.record(
            user,
            f"give-{kind}",
            run=run,
            subject=subject,
            model_digest=row.model_digest,
            detail={"reason": reason, "row": digest},
        )

    try:
        office.feedback.add(row, enter)
    except sqlite3.IntegrityError as error:  # of everything that one person can say, this alone is unique
        raise Refused(
            HTTPStatus.CONFLICT, "impression-given", "You have recorded your first impression already."
        ) from error
    except sqlite3.Error as error:
        raise Refused(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "feedback-unavailable",
            "This cannot be kept now. Try again, or tell whoever runs this server.",
            5,
        ) from error
    return row
