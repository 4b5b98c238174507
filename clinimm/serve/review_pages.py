"""Pages for whoever judges the model or its use: model card, audit, feedback, access log."""

from __future__ import annotations

import json
from collections import deque
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from clinimm.audit.table.page import audit_page
from clinimm.core.check_log import LogState, read_lines
from clinimm.core.errors import IntegrityError
from clinimm.report.model_card import model_card
from clinimm.serve.access_check import verify_log
from clinimm.serve.answers import framed, page_response
from clinimm.serve.errors import not_found
from clinimm.serve.feedback import REASONS, Feedback
from clinimm.serve.feedback_check import check_feedback
from clinimm.serve.identity import Role
from clinimm.serve.office import Office, office_of, served_of, session_of
from clinimm.serve.render import render
from clinimm.workspace import Workspace

router = APIRouter(include_in_schema=False)
_LINES = 200
_JUDGES = frozenset({Role.DATA_SCIENTIST, Role.AUDITOR})


@router.get("/runs/{run}/model-card")
def card(request: Request, run: str) -> Response:
    """The model card, in a frame."""
    return _document(request, "Model card", "model-card")


@router.get("/runs/{run}/model-card/page")
def card_page(request: Request, run: str) -> Response:
    """The model card itself."""
    page = framed(model_card(served_of(request).facts))
    office_of(request).catalogue.confirm(served_of(request))
    return page


@router.get("/runs/{run}/audit")
def audit(request: Request, run: str) -> Response:
    """The audit, in a frame."""
    return _document(request, "Audit", "audit")


@router.get("/runs/{run}/audit/page")
def audit_itself(request: Request, run: str) -> Response:
    """The audit itself, written from the file that was signed.

    Who judges models (data scientists, auditors) reads small groups with their intervals; clinicians read
    what may be published, as a small count can tell them who somebody is.
    """
    served, roles = served_of(request), session_of(request).user.roles
    content = served.facts.audit if roles & _JUDGES else _published_audit(served.workspace)
    if content is None:
        raise not_found("audit")
    page = framed(audit_page(content))
    office_of(request).catalogue.confirm(served)
    return page


def _published_audit(workspace: Workspace) -> dict[str, Any] | None:
    """The published view, which the audit stage's record covers; None where the run has none."""
    path = workspace.root / "audit" / "published" / "audit.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


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
            problems=check_feedback(office.feedback.path.parent).problems,
        )
    )


@router.get("/access-log")
def access_log(request: Request, search: str = "") -> Response:
    """Who saw and decided what, newest first, and whether the log is whole."""
    office = office_of(request)
    wanted = search[:80].strip().casefold()
    newest: deque[dict[str, Any]] = deque(maxlen=_LINES)  # a log of years fits no memory
    total = found = 0
    for line, _ in read_lines(office.log.path):
        total += 1
        if not wanted or wanted in _words(line):
            newest.append(line)
            found += 1
    return page_response(
        render(
            request,
            "access_log.html",
            lines=list(newest)[::-1],
            found=found,
            total=total,
            search=search[:80],
            state=log_state(office),
        )
    )


def heard(request: Request, run: str | None = None) -> list[Feedback]:
    """What was said, as far as this person may read it; about whom, stands in the log."""
    office, user = office_of(request), session_of(request).user
    rows = office.said(user, run)
    subjects = sorted({f"{row.run}/{row.subject_id}" for row in rows})
    office.record(user, "view-feedback", run=None if run is None else run[:80], detail={"subjects": subjects})
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


def _document(request: Request, title: str, place: str) -> Response:
    served = served_of(request)
    return page_response(
        render(request, "document.html", run=served, title=title, address=f"/runs/{served.name}/{place}/page")
    )
