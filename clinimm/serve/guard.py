"""The one gate that every request passes, in the order in which it asks: deny by default.

Is there a rule? Does the person ask too often? Who is it, and has the person a role that may? Does a
write come from our own page? May the answer be seen yet? And, last: is it in the access log?
"""

from __future__ import annotations

import secrets
import time
from http import HTTPStatus
from typing import cast
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.routing import Route

from clinimm.serve.answers import wants_json
from clinimm.serve.errors import Refused
from clinimm.serve.impressions import impression_needed
from clinimm.serve.office import Office, office_of, served_of
from clinimm.serve.rules import RULES, Rule
from clinimm.serve.sessions import Session

CSRF_FIELD, CSRF_HEADER = "csrf", "x-csrf-token"
_SAFE_METHODS = frozenset({"GET", "HEAD"})


class SignInNeeded(Refused):
    """Nobody is signed in; a person is led to the sign-in, a program is told."""

    def __init__(self) -> None:
        super().__init__(HTTPStatus.UNAUTHORIZED, "sign-in-needed", "Sign in first.")


async def guard(request: Request) -> None:
    """Let a request through, or refuse it; every route of the application depends on this.

    Raises:
        Refused: with the reason.
    """
    from starlette.concurrency import run_in_threadpool

    office, rule = office_of(request), rule_of(request)
    session = office.sessions.find(request.cookies.get(office.cookie))
    request.state.session, request.state.run = session, None
    office.paces[rule.pace].take(_client(request, session))
    if rule.public:
        return
    if session is None:
        raise SignInNeeded()
    # Nothing that a stranger sends is read.
    request.state.body = await request.body()
    request.state.form = _form(request)
    await run_in_threadpool(_check, request, rule, session, office)


def _check(request: Request, rule: Rule, session: Session, office: Office) -> None:
    try:
        _check_person(request, rule, session, office)
    except Refused as error:
        _enter(request, office, session, "refused", {"code": error.code})
        raise
    if rule.action is not None:
        _enter(request, office, session, "done", {})


def rule_of(request: Request) -> Rule:
    """The rule of the route that was found.

    Raises:
        Refused: it has none: what nobody thought about is closed.
    """
    address = getattr(request.scope.get("route"), "path", None)
    rule = RULES.get((request.method, str(address)))
    if rule is None:
        raise Refused(HTTPStatus.FORBIDDEN, "no-rule", "Nobody may ask for this.")
    return rule


def _check_person(request: Request, rule: Rule, session: Session, office: Office) -> None:
    if not rule.roles & session.user.roles:
        raise Refused(HTTPStatus.FORBIDDEN, "wrong-role", "Your role does not allow this.")
    if request.method not in _SAFE_METHODS:
        _check_origin(request, session, office)
    run, subject = request.path_params.get("run"), request.path_params.get("subject")
    if run is not None:
        served = request.state.run = office.catalogue.run(run)
        if subject is not None:
            served.answer(subject)
            if subject not in served.subjects(session.user.sites):
                raise Refused(HTTPStatus.FORBIDDEN, "another-site", "This patient is of a site of others.")
            if rule.reveals and subject in office.hidden(session.user, served):
                raise impression_needed()
    if rule.granted:
        _check_grant(request, session, office)


def _check_origin(request: Request, session: Session, office: Office) -> None:
    """A write must come from a page of ours (CSRF): by its token, and by what the browser says."""
    given = request.headers.get(CSRF_HEADER) or request.state.form.get(CSRF_FIELD, "")
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site")
    right = secrets.compare_digest(given.encode(), session.csrf.encode())
    if not right or origin not in (None, office.settings.origin) or site not in (None, "same-origin"):
        raise Refused(
            HTTPStatus.FORBIDDEN, "csrf", "This did not come from a page of this application. Load it again."
        )


def picture_key(request: Request) -> str:
    """Which picture of which patient a request is about."""
    path = request.path_params
    kind = "slide" if "/slides/" in str(cast(Route, request.scope["route"]).path) else "series"
    return "/".join((kind, path["run"], path["subject"], path["name"]))


def _check_grant(request: Request, session: Session, office: Office) -> None:
    """Slices and tiles are not entered one by one: the page before them was, a short time ago."""
    opened = session.opened.get(picture_key(request))
    if opened is None or time.monotonic() - opened > 60 * office.settings.limits.patient_view_minutes:
        raise Refused(HTTPStatus.FORBIDDEN, "open-it-first", "Open the page of this picture again.")


def _enter(
    request: Request, office: Office, session: Session, outcome: str, detail: dict[str, object]
) -> None:
    path, rule = request.path_params, rule_of(request)
    rest = {key: str(value)[:80] for key, value in path.items() if key not in ("run", "subject")}
    run, subject = path.get("run"), path.get("subject")
    digest = None
    if outcome == "done" and run is not None and subject is not None:
        digest = str(served_of(request).answer(subject)["model_digest"])
    office.record(
        session.user,
        rule.action or f"{request.method} {getattr(request.scope['route'], 'path', '')}",
        outcome=outcome,
        run=_short(run),
        subject=_short(subject),
        model_digest=digest,
        detail={**rest, **detail},
    )


def _short(value: str | None) -> str | None:
    return None if value is None else value[:80]


def _client(request: Request, session: Session | None) -> str:
    if session is not None:
        return session.user.identifier
    return request.client.host if request.client else "unknown"


def _form(request: Request) -> dict[str, str]:
    """The fields of a form; of a JSON body nothing."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.method in _SAFE_METHODS or wants_json(request.scope):
        return {}
    try:
        text = request.state.body.decode("utf-8")
        if text and kind != "application/x-www-form-urlencoded":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "not-a-form", "A form was expected.")
        return dict(parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=50))
    except ValueError as error:
        raise Refused(HTTPStatus.BAD_REQUEST, "not-a-form", "The form cannot be read.") from error
