"""Pages for whoever judges the model or its use: model card, audit, feedback, access log."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from clinimm.audit.page import audit_page
from clinimm.core.errors import IntegrityError
from clinimm.report.model_card import model_card
from clinimm.serve.access_check import LogState, read_lines, verify_log
from clinimm.serve.answers import framed, page_response
from clinimm.serve.errors import not_found
from clinimm.serve.feedback import REASONS, Feedback
from clinimm.serve.office import Office, office_of, session_of
from clinimm.serve.render import render

router = APIRouter(include_in_schema=False)
_LINES = 200


@router.get("/runs/{run}/model-card")
def card(request: Request, run: str) -> Response:
    """The model card, in a frame."""
    return _document(request, run, "Model card", "model-card")


@router.get("/runs/{run}/model-card/page")
def card_page(request: Request, run: str) -> Response:
    """The model card itself."""
    return framed(model_card(office_of(request).catalogue.run(run).facts))


@router.get("/runs/{run}/audit")
def audit(request: Request, run: str) -> Response:
    """The audit, in a frame."""
    return _document(request, run, "Audit", "audit")


@router.get("/runs/{run}/audit/page")
def audit_itself(request: Request, run: str) -> Response:
    """The audit itself, written from the file that was signed."""
    content = office_of(request).catalogue.run(run).facts.audit
    if content is None:
        raise not_found("audit")
    return framed(audit_page(content))


@router.get("/feedback")
def feedback(request: Request) -> Response:
    """What clinicians said, newest first."""
    office = office_of(request)
    rows = heard(request)[::-1]
    return page_response(
        render(
            request,
            "feedback.html",
            rows=rows[:_LINES],
            total=len(rows),
            reasons=REASONS,
            altered=office.feedback.altered(),
        )
    )


@router.get("/access-log")
def access_log(request: Request, search: str = "") -> Response:
    """Who saw and decided what, newest first, and whether the log is whole."""
    office = office_of(request)
    lines = [value for value, _ in read_lines(office.log.path)][::-1]
    wanted = search[:80].strip().casefold()
    found = [line for line in lines if not wanted or wanted in _words(line)]
    return page_response(
        render(
            request,
            "access_log.html",
            lines=found[:_LINES],
            found=len(found),
            total=len(lines),
            search=search[:80],
            state=log_state(office),
        )
    )


def heard(request: Request, run: str | None = None) -> list[Feedback]:
    """What was said, as far as this person may read it; about whom, stands in the log."""
    office, user = office_of(request), session_of(request).user
    rows = office.said(user, run)
    subjects = sorted({f"{row.run}/{row.subject_id}" for row in rows})
    office.record(user, "view-feedback", run=run, detail={"subjects": subjects})
    return rows


def log_state(office: Office) -> LogState | str:
    """Whether the log is whole, or why nobody can tell."""
    key = office.settings.signing_public_key
    try:
        return verify_log(office.log.path.parent, key)
    except IntegrityError as error:
        return str(error).replace(str(office.log.path.parent), "")


def _words(line: dict[str, Any]) -> str:
    names = ("action", "user", "name", "run", "subject", "outcome", "time")
    return " ".join(str(line.get(name) or "") for name in names).casefold()


def _document(request: Request, run: str, title: str, place: str) -> Response:
    served = office_of(request).catalogue.run(run)
    return page_response(
        render(request, "document.html", run=served, title=title, address=f"/runs/{served.name}/{place}/page")
    )
