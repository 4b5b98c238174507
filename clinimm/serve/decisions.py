"""What a clinician says: checked, entered in the access log and the table, together or not at all."""

from __future__ import annotations

from http import HTTPStatus
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from starlette.requests import Request

from clinimm.serve.errors import Refused
from clinimm.serve.feedback import LONGEST_COMMENT, REASONS, Feedback, Kind, now
from clinimm.serve.office import office_of, session_of

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

    estimate: float = Field(ge=0, le=1, description="Own probability of the outcome.")


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


def give_impression(request: Request, run: str, subject: str, given: Impression) -> Feedback:
    """Keep an impression.

    Raises:
        Refused: the answers are not hidden here, so nothing would tell that it came first; or this
            person has given one already for this answer.
    """
    if not office_of(request).settings.impression_first:
        raise Refused(
            HTTPStatus.CONFLICT, "no-impressions", "Answers are not hidden here, so no impression is first."
        )
    user = session_of(request).user.identifier
    answer = office_of(request).catalogue.run(run).answer(subject)
    for row in office_of(request).feedback.rows(run, subject):
        if (row.kind, row.user, row.model_digest) == ("impression", user, answer["model_digest"]):
            raise Refused(
                HTTPStatus.CONFLICT, "impression-given", "You have recorded your first impression already."
            )
    return _keep(request, run, subject, "impression", given.comment, None, given.estimate)


def give_verdict(request: Request, run: str, subject: str, given: Verdict) -> Feedback:
    """Keep a verdict; a later one does not remove an earlier one."""
    return _keep(request, run, subject, given.verdict, given.comment, given.reason, None)


def _keep(
    request: Request,
    run: str,
    subject: str,
    kind: Kind,
    comment: str,
    reason: str | None,
    estimate: float | None,
) -> Feedback:
    office, user = office_of(request), session_of(request).user
    answer = office.catalogue.run(run).answer(subject)
    row = Feedback(
        kind=kind,
        run=run,
        subject_id=subject,
        class_name=str(answer["class_name"]),
        model_digest=str(answer["model_digest"]),
        probability=float(answer["probability"]),
        user=user.identifier,
        fhir_user=user.fhir_user,
        reason=reason,
        comment=comment,
        estimate=estimate,
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

    office.feedback.add(row, enter)
    return row
