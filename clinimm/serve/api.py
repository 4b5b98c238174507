"""The JSON interface: predictions and explanations of signed runs, and what people said about them."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import APIRouter
from pydantic import BaseModel, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from clinimm.core.check_log import LogState
from clinimm.report.facts import split_key
from clinimm.serve.answers import json_response
from clinimm.serve.catalogue import ServedRun
from clinimm.serve.decisions import Impression, Verdict, give_impression, give_verdict
from clinimm.serve.described import body_of, describe
from clinimm.serve.errors import Refused, bad_request
from clinimm.serve.feedback import Feedback
from clinimm.serve.identity import Role
from clinimm.serve.office import office_of, served_of, session_of
from clinimm.serve.patient_pages import asked, listed
from clinimm.serve.review_pages import heard, log_state
from clinimm.serve.worklist import Question

_Sent = TypeVar("_Sent", Impression, Verdict)
router = APIRouter(prefix="/api", tags=["clinimm"])
_PATIENT = "/runs/{run}/patients/{subject}"


class SessionOut(BaseModel):
    """Who is signed in."""

    user: str
    name: str
    fhir_user: str | None
    roles: list[Role]
    csrf: str = Field(description="Send it back as `X-CSRF-Token` with every write.")


class RunOut(BaseModel):
    """A run that is served."""

    name: str
    question: str
    model_digest: str = Field(description="SHA-256 of the model that was signed.")
    signed_by: str = Field(description="Short name of the key that signed the run.")
    audit: str = Field(description="The audit's verdict.")
    blocked: bool = Field(description="Whether the audit keeps the model from being a candidate.")
    patients: int = Field(description="How many patients have an answer.")


class PredictionOut(BaseModel):
    """The answer for one patient. Research use only."""

    run: str
    subject_id: str
    index_time: datetime = Field(description="Only what was on record by then was used, UTC.")
    class_name: str | None = Field(description="The answer; null where it must not be seen yet.")
    probability: float | None = Field(description="Calibrated; null where it must not be seen yet.")
    modalities_present: list[str]
    model_digest: str = Field(description="SHA-256 of the model that answered.")
    answered_by: str = Field(
        description="`registered model`, or `held-out fit` of the same signed run, which did not train on "
        "this patient."
    )


class PredictionsOut(BaseModel):
    """A page of answers."""

    predictions: list[PredictionOut]
    found: int
    page: int
    pages: int


class ExplanationOut(BaseModel):
    """What moved the answer for one patient, in logits."""

    summary: dict[str, Any] = Field(description="Columns of explain/summary.parquet.")
    contributions: dict[str, float] = Field(description="Modality -> Shapley value.")
    attributions: list[dict[str, Any]] = Field(description="Rows of explain/attributions.parquet.")


class LogOut(BaseModel):
    """Whether the access log is whole."""

    whole: bool
    lines: int
    head: str | None = Field(description="`NUMBER:SHA-256` of the last line; write it down elsewhere.")
    problems: list[str]


def question_parameters() -> list[dict[str, Any]]:
    """The worklist's question as OpenAPI parameters; it is read as a whole, so that unknown names fail."""
    schema = Question.model_json_schema()
    return [
        {"name": name, "in": "query", "required": False, "schema": value}
        for name, value in schema["properties"].items()
    ]


@router.get("/openapi.json", include_in_schema=False)
def description(request: Request) -> Response:
    """The description of this interface (OpenAPI 3.1)."""
    return json_response(describe(request.app, office_of(request).cookie))


@router.get("/session")
def session(request: Request) -> SessionOut:
    """Who you are here, and the token that every write must repeat."""
    found = session_of(request)
    return SessionOut(
        user=found.user.identifier,
        name=found.user.name,
        fhir_user=found.user.fhir_user,
        roles=sorted(found.user.roles),
        csrf=found.csrf,
    )


@router.get("/runs")
def runs(request: Request) -> list[RunOut]:
    """The runs that are served."""
    return [_run_out(run) for run in office_of(request).catalogue.runs()]


@router.get("/runs/{run}")
def one_run(request: Request, run: str) -> RunOut:
    """One run."""
    return _run_out(served_of(request))


@router.get("/runs/{run}/predictions", openapi_extra={"parameters": question_parameters()})
def predictions(request: Request, run: str) -> PredictionsOut:
    """A page of the answers; the query is the worklist's (search, least, most, site, since, ...)."""
    served, found = served_of(request), listed(request, asked(request))
    rows = [_prediction_out(served, str(row["subject_id"]), row["probability"]) for row in found.rows]
    return PredictionsOut(predictions=rows, found=found.found, page=found.page, pages=found.pages)


@router.get(_PATIENT + "/prediction")
def prediction(request: Request, run: str, subject: str) -> PredictionOut:
    """The answer for one patient."""
    served = served_of(request)
    return _prediction_out(served, subject, float(served.answer(subject)["probability"]))


@router.get(_PATIENT + "/explanation")
def explanation(request: Request, run: str, subject: str) -> ExplanationOut:
    """What moved the answer, as it was explained."""
    office, served = office_of(request), served_of(request)
    found = ExplanationOut(**office.explainer.read(served, subject))
    office.catalogue.confirm(served)
    return found


@router.post(_PATIENT + "/explanation", status_code=HTTPStatus.CREATED)
def explain(request: Request, run: str, subject: str) -> ExplanationOut:
    """Explain an answer now; takes seconds, one at a time."""
    return ExplanationOut(**office_of(request).explainer.explain(served_of(request), subject))


@router.post(_PATIENT + "/impression", status_code=HTTPStatus.CREATED, openapi_extra=body_of(Impression))
def impression(request: Request, run: str, subject: str) -> Feedback:
    """Record what a clinician thinks before seeing the answer."""
    return give_impression(request, subject, _sent(request, Impression))


@router.post(_PATIENT + "/feedback", status_code=HTTPStatus.CREATED, openapi_extra=body_of(Verdict))
def verdict(request: Request, run: str, subject: str) -> Feedback:
    """Agree or object."""
    return give_verdict(request, subject, _sent(request, Verdict))


@router.get("/feedback")
def feedback(request: Request, run: str | None = None) -> list[Feedback]:
    """What clinicians said, oldest first."""
    return heard(request, run)


@router.get("/access-log/state")
def access_log_state(request: Request) -> LogOut:
    """Whether the access log is whole."""
    state = log_state(office_of(request))
    if isinstance(state, LogState):
        head = f"{state.head.number}:{state.head.digest}"
        return LogOut(whole=state.whole, lines=state.lines, head=head, problems=list(state.problems))
    return LogOut(whole=False, lines=0, head=None, problems=[state])


def _sent(request: Request, model: type[_Sent]) -> _Sent:
    """What a program sent, read here and not before the gate; a mistake is named and no value repeated."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "not-json", "JSON was expected.")
    try:
        return model.model_validate_json(request.state.body)
    except ValidationError as error:
        names = {".".join(str(part) for part in item["loc"]) for item in error.errors()} - {""}
        known = sorted(name for name in names if name in model.model_fields)
        raise bad_request(
            "invalid", f"What was sent does not fit: {', '.join(known) or 'see /api/openapi.json'}."
        ) from error


def _run_out(run: ServedRun) -> RunOut:
    return RunOut(
        name=run.name,
        question=run.facts.question,
        model_digest=run.manifest.model_digest,
        signed_by=run.manifest.key_id,
        audit=str((run.facts.audit or {}).get("verdict", "none")),
        blocked=run.blocked,
        patients=len(run.answers),
    )


def _prediction_out(run: ServedRun, subject: str, probability: float | None) -> PredictionOut:
    answer = run.answer(subject)
    registered = answer["model_digest"] == run.manifest.model_digest
    return PredictionOut(
        run=run.name,
        subject_id=subject,
        index_time=answer["index_time"].to_pydatetime(),
        # Of several classes, the likeliest one is the answer too.
        class_name=None if probability is None else str(answer["class_name"]),
        probability=probability,
        modalities_present=split_key(str(answer["modalities_present"])),
        model_digest=str(answer["model_digest"]),
        answered_by="registered model" if registered else "held-out fit",
    )
