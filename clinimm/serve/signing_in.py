"""Pages around signing in and out."""

from __future__ import annotations

import secrets
from http import HTTPStatus

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from clinimm.serve.answers import page_response
from clinimm.serve.errors import Refused
from clinimm.serve.identity import LOCAL_USER, User
from clinimm.serve.office import Office, office_of, session_of
from clinimm.serve.render import render, static_files
from clinimm.serve.sessions import PENDING_S

router = APIRouter(include_in_schema=False)
_STATIC_HEADERS = {"Cache-Control": "public, max-age=3600"}


@router.get("/alive")
def alive() -> Response:
    """Whether the application runs; tells nothing else."""
    return Response("ok\n", media_type="text/plain")


@router.get("/static/{name}")
def static(name: str) -> Response:
    """One of our own files."""
    found = static_files().get(name)
    if found is None:
        raise Refused(HTTPStatus.NOT_FOUND, "not-found", "There is no such file here.")
    return Response(found[0], media_type=found[1], headers=_STATIC_HEADERS)


@router.get("/sign-in")
def sign_in(request: Request, key: str = "", to: str = "/") -> Response:
    """Go to the provider; in single-user mode, open the door to whoever has the link's key."""
    office = office_of(request)
    if office.provider is None:
        return _single_user(request, office, key)
    name, pending = office.sessions.begin(local_path(to))
    answer = RedirectResponse(office.provider.address(pending), HTTPStatus.SEE_OTHER)
    answer.set_cookie(
        _pending_cookie(office),
        name,
        max_age=PENDING_S,
        httponly=True,
        samesite="lax",  # the provider's answer is a navigation from another site
        secure=office.settings.secure,
    )
    return answer


@router.get("/signed-in")
def signed_in(request: Request) -> Response:
    """The provider's answer."""
    office = office_of(request)
    if office.provider is None:
        raise Refused(HTTPStatus.NOT_FOUND, "not-found", "There is no sign-in provider here.")
    given = dict(request.query_params)
    try:
        pending = office.sessions.finish(request.cookies.get(_pending_cookie(office)), given.get("state"))
        user = office.provider.user(given, pending)
    except Refused as error:
        office.record(None, "sign-in", outcome="refused", detail={"code": error.code})
        raise
    if not user.roles:
        office.record(user, "sign-in", outcome="refused", detail={"code": "no-role"})
        raise Refused(
            HTTPStatus.FORBIDDEN,
            "no-role",
            "You are known, but nobody gave you a role here. Ask whoever runs this server.",
        )
    answer = _entered(request, office, user, pending.target)
    answer.delete_cookie(_pending_cookie(office), secure=office.settings.secure, httponly=True)
    return answer


@router.post("/sign-out")
def sign_out(request: Request) -> Response:
    """End the session."""
    office = office_of(request)
    session_of(request)
    office.sessions.close(request.cookies.get(office.cookie))
    request.state.session = None
    way_out = office.provider.way_out() if office.provider else None
    answer = page_response(render(request, "signed_out.html", way_out=way_out))
    answer.delete_cookie(office.cookie, secure=office.settings.secure, httponly=True)
    return answer


def _single_user(request: Request, office: Office, key: str) -> Response:
    if request.state.session is not None:
        return RedirectResponse("/", HTTPStatus.SEE_OTHER)
    if not key or not secrets.compare_digest(key.encode(), (office.entry_key or "").encode()):
        office.record(None, "sign-in", outcome="refused", detail={"code": "wrong-key"})
        raise Refused(
            HTTPStatus.FORBIDDEN,
            "wrong-key",
            "Open the link that `clinimm serve` printed: it holds the key to this application.",
        )
    return _entered(request, office, LOCAL_USER, "/")


def _entered(request: Request, office: Office, user: User, target: str) -> Response:
    """A session for a person who proved who they are, entered in the log before it exists.

    Its name is new, and whatever session this browser had before ends.
    """
    office.record(user, "sign-in")
    office.sessions.close(request.cookies.get(office.cookie))
    name, _ = office.sessions.open(user)
    answer = RedirectResponse(target, HTTPStatus.SEE_OTHER)
    answer.set_cookie(
        office.cookie,
        name,
        max_age=3600 * office.settings.limits.session_hours,
        httponly=True,
        samesite="lax",
        secure=office.settings.secure,
    )
    return answer


def local_path(target: str) -> str:
    """A path on this server; anything else leads home (open redirects).

    >>> local_path("/runs/demo"), local_path("//evil.example"), local_path("https://evil.example")
    ('/runs/demo', '/', '/')
    """
    plain = target.startswith("/") and not target.startswith(("//", "/\\"))
    return target if plain and target.isprintable() and "\\" not in target else "/"


def _pending_cookie(office: Office) -> str:
    return f"{office.cookie}-sign-in"
