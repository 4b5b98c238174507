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
from clinimm.serve.answers import framed, page_response
from clinimm.serve.catalogue import ServedRun
from clinimm.serve.decisions import Impression, Verdict, give_impression, give_verdict
from clinimm.serve.errors import Refused, bad_request
from clinimm.serve.feedback import LONGEST_COMMENT, REASONS, Feedback
from clinimm.serve.office import office_of, served_of, session_of
from clinimm.serve.render import render
from clinimm.serve.study import Study, visible_events
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
    served, question = served_of(request), asked(request)
    found = listed(request, question)
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
    office, session, served = office_of(request), session_of(request), served_of(request)
    said = office.feedback.rows(run, subject)
    hidden = subject in office.hidden(session.user, served)
    study, trouble = study_of(request, served, subject)
    return page_response(
        render(
            request,
            "patient_frame.html",
            run=served,
            answer=served.answer(subject),
            study=study,
            trouble=trouble,
            hidden=hidden,
            standing=None if hidden else office.explainer.standing(served, subject),
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
    served = served_of(request)
    answer = served.answer(subject)
    events = visible_events(served, subject, answer["index_time"])
    facts = events[events["uri"].isna() & (events["modality"] != "notes")].sort_values("time")
    notes = events[events["modality"] == "notes"].sort_values("time")
    page = render(
        request,
        "record.html",
        run=served,
        answer=answer,
        notes=_rows(notes),
        facts=_rows(facts.tail(_LONGEST_RECORD)),
        left_out=max(0, len(facts) - _LONGEST_RECORD),
    )
    office_of(request).catalogue.confirm(served)
    return page_response(page)


@router.get("/runs/{run}/patients/{subject}/report")
def report(request: Request, run: str, subject: str) -> Response:
    """The self-contained report, written now from the tables that were signed.

    It never lists training patients: who may see this patient may not be one who may see those. In our
    frame the banner is ours; a browser that does not say where a page goes gets both.
    """
    office, served = office_of(request), served_of(request)
    office.explainer.require_own(served, subject)
    in_frame = request.headers.get("sec-fetch-dest") == "iframe"
    page = framed(patient_page(served.facts, subject, beside_card=False, framed=in_frame))
    office.explainer.require_own(served, subject)  # nor was one put there while it was read
    office.catalogue.confirm(served)
    return page


@router.post("/runs/{run}/patients/{subject}/impression")
def impression(request: Request, run: str, subject: str) -> Response:
    """What the clinician thinks before the answer is seen."""
    form = request.state.form
    try:
        given = Impression.model_validate(
            {
                "estimate": _share(form.get("estimate")),
                "class_name": form.get("class_name") or None,
                "comment": form.get("comment", ""),
            }
        )
    except ValidationError as error:
        raise bad_request("not-an-impression", "Give a probability from 0 to 100.") from error
    give_impression(request, subject, given)
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
    give_verdict(request, subject, given)
    return RedirectResponse(f"/runs/{run}/patients/{subject}#said", HTTPStatus.SEE_OTHER)


@router.post("/runs/{run}/patients/{subject}/explanation")
def explanation(request: Request, run: str, subject: str) -> Response:
    """Explain an answer that the run did not explain."""
    office_of(request).explainer.explain(served_of(request), subject)
    return RedirectResponse(f"/runs/{run}/patients/{subject}", HTTPStatus.SEE_OTHER)


def asked(request: Request) -> Question:
    """The question in an address.

    Raises:
        Refused: it is no question, or a part stands twice.
    """
    pairs = request.query_params.multi_items()
    if len(dict(pairs)) < len(pairs):
        twice = sorted({name for name, _ in pairs if len(request.query_params.getlist(name)) > 1})
        raise bad_request("not-a-question", f"This stands twice: {', '.join(twice)[:200]}.")
    try:
        question = Question.model_validate(dict(pairs))
    except ValidationError as error:
        names = ", ".join(sorted({str(item["loc"][0]) for item in error.errors() if item["loc"]}))
        raise bad_request(
            "not-a-question", f"This cannot be looked for: {names or 'see the form'}."
        ) from error
    return question


def listed(request: Request, question: Question) -> Worklist:
    """The page of the list that was asked for; who is on it stands in the log, patient by patient."""
    office, user, run = office_of(request), session_of(request).user, served_of(request)
    found = worklist(run, question, office.feedback.rows(run.name), office.hidden(user, run), user.sites)
    subjects = [str(row["subject_id"]) for row in found.rows]
    office.record(user, "view-worklist", run=run.name, detail={"page": found.page, "subjects": subjects})
    return found


def study_of(request: Request, run: ServedRun, subject: str) -> tuple[Study, str | None]:
    """A patient's pictures, or why they cannot be opened here: none is not the same as unknown."""
    try:
        return office_of(request).pictures.study(run, subject), None
    except Refused as error:
        return Study((), ()), error.reason
    except (CliniMMError, OSError):
        return Study((), ()), "The files of this patient cannot be opened here."


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
