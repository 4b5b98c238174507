"""Pages about patients: the worklist, one patient, its report, and what the clinician says about it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from clinimm.core.errors import CliniMMError
from clinimm.report.patient_report import patient_page
from clinimm.report.subject import is_explained
from clinimm.serve.answers import framed, page_response
from clinimm.serve.catalogue import ServedRun
from clinimm.serve.decisions import Impression, Verdict, give_impression, give_verdict
from clinimm.serve.errors import bad_request
from clinimm.serve.feedback import LONGEST_COMMENT, REASONS, Feedback
from clinimm.serve.office import office_of, session_of
from clinimm.serve.pictures import Study, visible_events
from clinimm.serve.render import render
from clinimm.serve.worklist import Question, Worklist, refusals_of, worklist

router = APIRouter(include_in_schema=False)
_LONGEST_RECORD = 2000


@router.get("/")
def home(request: Request) -> Response:
    """The runs, and those that are not served, with the reason."""
    catalogue = office_of(request).catalogue
    return page_response(render(request, "home.html", runs=catalogue.runs(), refused=catalogue.refused()))


@router.get("/runs/{run}")
def patients(request: Request, run: str) -> Response:
    """The worklist of a run."""
    office, session = office_of(request), session_of(request)
    served = office.catalogue.run(run)
    question = asked(request)
    found = worklist(served, question, office.feedback.rows(run), office.hidden(session.user, served))
    enter_list(request, served, found)
    return page_response(
        render(
            request,
            "worklist.html",
            run=served,
            list=found,
            question=question,
            narrowed=bool(question.model_dump(exclude={"page", "search"}, exclude_defaults=True)),
            link=_page_link(question),
        )
    )


@router.get("/runs/{run}/patients/{subject}")
def patient(request: Request, run: str, subject: str) -> Response:
    """One patient: the report in a frame where it may be seen, pictures, and what people said."""
    office, session = office_of(request), session_of(request)
    served = office.catalogue.run(run)
    said = office.feedback.rows(run, subject)
    hidden = subject in office.hidden(session.user, served)
    return page_response(
        render(
            request,
            "patient_frame.html",
            run=served,
            answer=served.answer(subject),
            study=study_of(request, served, subject),
            hidden=hidden,
            explained=not hidden and is_explained(served.workspace, subject),
            said=[] if hidden else said,
            own=_own_impression(said, session.user.identifier, served.answer(subject)),
            reasons=REASONS,
            longest=LONGEST_COMMENT,
            refusals=refusals_of(served).get(subject, 0),
        )
    )


@router.get("/runs/{run}/patients/{subject}/record")
def record(request: Request, run: str, subject: str) -> Response:
    """The record and the notes as they stood at the index time, without any answer."""
    served = office_of(request).catalogue.run(run)
    answer = served.answer(subject)
    events = visible_events(served, subject, answer["index_time"])
    facts = events[events["uri"].isna() & (events["modality"] != "notes")].sort_values("time")
    notes = events[events["modality"] == "notes"].sort_values("time")
    return page_response(
        render(
            request,
            "record.html",
            run=served,
            answer=answer,
            notes=_rows(notes),
            facts=_rows(facts.tail(_LONGEST_RECORD)),
            left_out=max(0, len(facts) - _LONGEST_RECORD),
        )
    )


@router.get("/runs/{run}/patients/{subject}/report")
def report(request: Request, run: str, subject: str) -> Response:
    """The self-contained report, written now from the tables that were signed."""
    served = office_of(request).catalogue.run(run)
    return framed(patient_page(served.facts, subject, beside_card=False))


@router.post("/runs/{run}/patients/{subject}/impression")
def impression(request: Request, run: str, subject: str) -> Response:
    """What the clinician thinks before the answer is seen."""
    form = request.state.form
    try:
        given = Impression.model_validate(
            {"estimate": _share(form.get("estimate")), "comment": form.get("comment", "")}
        )
    except ValidationError as error:
        raise bad_request("not-an-impression", "Give a probability from 0 to 100.") from error
    give_impression(request, run, subject, given)
    return RedirectResponse(f"/runs/{run}/patients/{subject}", HTTPStatus.SEE_OTHER)


@router.post("/runs/{run}/patients/{subject}/feedback")
def feedback(request: Request, run: str, subject: str) -> Response:
    """Agree or object."""
    form = request.state.form
    try:
        given = Verdict.model_validate(
            {
                "verdict": form.get("verdict"),
                "reason": form.get("reason") or None,
                "comment": form.get("comment", ""),
            }
        )
    except ValidationError as error:
        raise bad_request(
            "not-a-verdict",
            f"Agree, or object with one of the reasons; comments have at most {LONGEST_COMMENT:,} signs.",
        ) from error
    give_verdict(request, run, subject, given)
    return RedirectResponse(f"/runs/{run}/patients/{subject}#said", HTTPStatus.SEE_OTHER)


@router.post("/runs/{run}/patients/{subject}/explanation")
def explanation(request: Request, run: str, subject: str) -> Response:
    """Explain an answer that the run did not explain."""
    office = office_of(request)
    office.explainer.explain(office.catalogue.run(run), subject)
    return RedirectResponse(f"/runs/{run}/patients/{subject}", HTTPStatus.SEE_OTHER)


def asked(request: Request) -> Question:
    """The question in an address.

    Raises:
        Refused: it is no question, or a part stands twice.
    """
    pairs = request.query_params.multi_items()
    try:
        question = Question.model_validate(dict(pairs))
    except ValidationError as error:
        names = ", ".join(sorted({str(item["loc"][0]) for item in error.errors() if item["loc"]}))
        raise bad_request(
            "not-a-question", f"This cannot be looked for: {names or 'see the form'}."
        ) from error
    return question


def enter_list(request: Request, run: ServedRun, found: Worklist) -> None:
    """Who was listed stands in the log, patient by patient."""
    session = session_of(request)
    listed = [str(row["subject_id"]) for row in found.rows]
    office_of(request).record(
        session.user, "view-worklist", run=run.name, detail={"page": found.page, "subjects": listed}
    )


def study_of(request: Request, run: ServedRun, subject: str) -> Study:
    """A patient's pictures; none where the files cannot be opened on this machine."""
    try:
        return office_of(request).pictures.study(run, subject)
    except (CliniMMError, OSError):
        return Study((), ())


def _own_impression(said: list[Feedback], user: str, answer: Any) -> Feedback | None:
    own = [
        row
        for row in said
        if row.kind == "impression" and row.user == user and row.model_digest == answer["model_digest"]
    ]
    return own[0] if own else None


def _share(percent: str | None) -> float | None:
    try:
        return float(percent or "") / 100
    except ValueError:
        return None


def _rows(events: Any) -> list[dict[str, Any]]:
    kept = events[["time", "code", "numeric_value", "unit", "text_value", "modality"]].astype(object)
    return [dict(row) for row in kept.where(kept.notna(), None).to_dict("records")]


def _page_link(question: Question) -> Any:
    from urllib.parse import urlencode

    fixed = {
        key: value
        for key, value in question.model_dump(mode="json", exclude={"page"}).items()
        if value not in (None, "")
    }
    return lambda page, **other: "?" + urlencode({**fixed, **other, "page": page})
