"""The application, put together: its parts, its routes, and what becomes of every error."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clinimm import __version__
from clinimm.core.errors import CliniMMError, ConfigError, MissingStageError
from clinimm.serve import api, patient_pages, picture_pages, review_pages, signing_in
from clinimm.serve.access_log import AccessLog
from clinimm.serve.answers import SecurityHeaders, problem, wants_json
from clinimm.serve.catalogue import Catalogue
from clinimm.serve.errors import Refused
from clinimm.serve.explaining import Explainer
from clinimm.serve.feedback import FeedbackTable
from clinimm.serve.guard import SignInNeeded, guard
from clinimm.serve.limits import BodyLimit, RateLimit
from clinimm.serve.office import Office, records_folder
from clinimm.serve.oidc import HttpWeb, Provider, Web
from clinimm.serve.pictures import Pictures
from clinimm.serve.records import EXPLANATIONS
from clinimm.serve.render import render
from clinimm.serve.sessions import Sessions
from clinimm.serve.settings import ServeSettings, client_secret, is_loopback
from clinimm.serve.vouchers import Vouchers

_log = logging.getLogger("clinimm.serve")


def open_office(
    folder: Path, settings: ServeSettings, records: Path | None = None, web: Web | None = None
) -> Office:
    """Everything that the application works with.

    Args:
        folder: of the runs, or of one run.
        settings: what the hospital says; without ``oidc`` it is for one person on this machine.
        records: folder of feedback and access log; None lies beside the runs.
        web: how the provider is reached.

    Raises:
        ConfigError: there is no run, or there is no sign-in and the address is not this machine.
        IntegrityError: the access log that lies there is not whole at its end.
        LogUnavailable: the access log cannot be written.
    """
    if settings.oidc is None and not is_loopback(urlsplit(settings.public_url).hostname):
        raise ConfigError(f"public_url {settings.public_url}: without sign-in it must be this machine.")
    catalogue = Catalogue(folder, settings)
    place, limits = records_folder(records, catalogue), settings.limits
    provider = None
    if settings.oidc is not None:
        provider = Provider(settings.oidc, settings.origin, client_secret(), web or HttpWeb())
    return Office(
        settings=settings,
        catalogue=catalogue,
        log=AccessLog(place, settings.signing_key),
        feedback=FeedbackTable(place),
        sessions=Sessions(60 * limits.session_idle_minutes, 3600 * limits.session_hours),
        pictures=Pictures(),
        explainer=Explainer(Vouchers(place / EXPLANATIONS, settings.signing_key)),
        provider=provider,
        entry_key=None if provider else secrets.token_urlsafe(24),
        paces={
            "pages": RateLimit(limits.pages_per_minute),
            "pictures": RateLimit(limits.pictures_per_minute),
            "writes": RateLimit(limits.writes_per_minute),
            "sign_ins": RateLimit(limits.sign_ins_per_minute),
        },
    )


def create_app(office: Office) -> FastAPI:
    """The application over its parts."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        office.pictures.close()

    limits = office.settings.limits
    app = FastAPI(
        title="CliniMM",
        version=__version__,
        summary="Predictions and explanations of signed runs. Research use only.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        dependencies=[Depends(guard)],
        middleware=[
            Middleware(
                SecurityHeaders,
                hosts=_hosts(office.settings),
                secure=office.settings.secure,
                behind=bool(office.settings.proxies),
            ),
            Middleware(BodyLimit, largest=1024 * limits.body_kib, seconds=limits.body_seconds),
            Middleware(DefectsInWords),
        ],
        redirect_slashes=False,
    )
    app.state.office = office
    for part in (signing_in, patient_pages, picture_pages, review_pages, api):
        app.include_router(part.router)
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    return app


def entry_link(office: Office) -> str:
    """What a person opens first; in single-user mode it holds the key."""
    if office.entry_key is None:
        return office.settings.origin + "/"
    return f"{office.settings.origin}/sign-in?{urlencode({'key': office.entry_key})}"


def _hosts(settings: ServeSettings) -> frozenset[str]:
    """The names under which the application may be asked for."""
    _, _, port = settings.host.rpartition(":")
    if settings.oidc is None and port.isdigit():
        return frozenset(f"{one}:{port}" for one in ("127.0.0.1", "localhost", "[::1]")) | {settings.host}
    return frozenset({settings.host})


def _answer(request: Request, refused: Refused) -> Response:
    """A refusal as a page for people, where a page can be made."""
    if wants_json(request.scope):
        return problem(request.scope, refused)
    if not hasattr(request.state, "session"):
        request.state.session = None
    return problem(request.scope, refused, render(request, "refused.html", refused=refused))


async def _on_refused(request: Request, error: Exception) -> Response:
    if isinstance(error, SignInNeeded) and request.method == "GET" and not wants_json(request.scope):
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"/sign-in?to={quote(request.url.path + query)}", HTTPStatus.SEE_OTHER)
    return _answer(request, error if isinstance(error, Refused) else _defect(error))


async def _on_invalid(request: Request, error: Exception) -> Response:
    """What was sent does not fit; the answer names the fields and repeats no value."""
    names: set[str] = set()
    if isinstance(error, RequestValidationError):
        names = {".".join(str(part) for part in item["loc"][1:]) for item in error.errors()} - {""}
    reason = f"What was sent does not fit: {', '.join(sorted(names))[:200] or 'it cannot be read'}."
    return _answer(request, Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", reason))


async def _on_http(request: Request, error: Exception) -> Response:
    status = HTTPStatus(error.status_code) if isinstance(error, HTTPException) else HTTPStatus.BAD_REQUEST
    code = {404: "not-found", 405: "method-not-allowed"}.get(status, "http-error")
    return _answer(request, Refused(status, code, f"{status.phrase}."))


async def _on_known(request: Request, error: Exception) -> Response:
    """An error of CliniMM itself: it is told in the server's log, because it may name a path."""
    number = secrets.token_hex(4)
    _log.error("%s %s: %s", number, type(error).__name__, error)
    status = HTTPStatus.CONFLICT if isinstance(error, MissingStageError) else HTTPStatus.UNPROCESSABLE_ENTITY
    name = type(error).__name__
    return _answer(request, Refused(status, "cannot", f"This run cannot answer that ({name}, {number})."))


class DefectsInWords:
    """ASGI middleware: whatever else goes wrong is answered here, inside the security headers.

    Args:
        app: what may go wrong.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; a defect becomes an answer if none has begun."""
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:  # noqa: BLE001  # the outermost frame: a person gets a sentence, the log the rest
            answer = _answer(Request(scope, receive), _defect(error))
            if not begun:
                await answer(scope, receive, send)


def _defect(error: Exception) -> Refused:
    """A defect: the traceback stays here, under a number that the person can tell."""
    number = secrets.token_hex(4)
    _log.error("%s defect", number, exc_info=error)
    return Refused(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "defect",
        f"Something went wrong here. Tell whoever runs it: {number}.",
    )


_HANDLERS = {
    Refused: _on_refused,
    RequestValidationError: _on_invalid,
    HTTPException: _on_http,
    CliniMMError: _on_known,
}
