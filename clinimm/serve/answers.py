"""What every answer looks like: headers, refusals in words, and never a traceback."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clinimm.serve.errors import Refused

API = "/api/"
#: Of our own pages: our own files and nothing else; no inline script or style.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
#: Of what is not a page.
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
_META_POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)">')
_HEAD_CHARACTERS = 4096
#: What a page in a frame may do: run its own script, in an origin of its own, and nothing else.
_FRAME = "frame-ancestors 'self'; sandbox allow-scripts"

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # without a referrer, browsers send `Origin: null` with forms
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "X-Robots-Tag": "noindex, nofollow",
    "Cache-Control": "no-store",
    "Content-Security-Policy": DATA_POLICY,
}


class SecurityHeaders:
    """ASGI middleware: headers that every answer has, unless it says something stricter itself.

    Also checks the ``Host`` header: another name that leads to this machine (DNS rebinding) is no
    way in.

    Args:
        app: what is protected.
        hosts: ``host[:port]`` under which the application may be asked for.
        secure: whether the browser comes by https.
        behind: whether a proxy speaks https with the browsers; what did not come through it is refused.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str], secure: bool, behind: bool = False) -> None:
        self._app, self._hosts, self._scheme = app, hosts, "https" if secure and behind else None
        more = {"Strict-Transport-Security": "max-age=31536000"} if secure else {}
        self._headers = _HEADERS | more

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and the answer back with its headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                del headers["server"]
            await send(message)

        given = [value for name, value in scope["headers"] if name == b"host"]
        if len(given) != 1 or given[0].decode("latin-1").lower() not in self._hosts:
            refused = Refused(
                HTTPStatus.MISDIRECTED_REQUEST, "wrong-host", "This server has another name than you used."
            )
            await problem(scope, refused)(scope, receive, send_with)
            return
        # Only a proxy of ours is believed (uvicorn), so a request past it is still plain here.
        if self._scheme is not None and scope["scheme"] != self._scheme:
            refused = Refused(HTTPStatus.FORBIDDEN, "not-encrypted", "Come by https.")
            await problem(scope, refused)(scope, receive, send_with)
            return
        await self._app(scope, receive, send_with)


def problem(scope: Scope, refused: Refused, page: str | None = None) -> Response:
    """A refusal: RFC 9457 for programs, a page for people.

    Args:
        scope: of the request.
        refused: why.
        page: the refusal as a page; None is a plain one.
    """
    headers = {"Retry-After": str(refused.retry_after_s)} if refused.retry_after_s else {}
    if wants_json(scope):
        content = {
            "type": f"urn:clinimm:error:{refused.code}",
            "title": refused.status.phrase,
            "status": refused.status.value,
            "detail": refused.reason,
        }
        return JSONResponse(content, refused.status, headers, media_type="application/problem+json")
    if page is None:
        return Response(refused.reason + "\n", refused.status, headers, media_type="text/plain")
    return HTMLResponse(page, refused.status, {**headers, "Content-Security-Policy": PAGE_POLICY})


def wants_json(scope: Scope) -> bool:
    """Whether a request came from a program."""
    return str(scope["path"]).startswith(API)


def page_response(html: str, status: int = HTTPStatus.OK) -> HTMLResponse:
    """One of our own pages."""
    return HTMLResponse(html, status, {"Content-Security-Policy": PAGE_POLICY})


def framed(html: str) -> HTMLResponse:
    """A self-contained page of the run, for a frame of ours: its own policy, and an origin of its own.

    The policy stands in the page before anything that comes from data; it is sent as a header too,
    and the page's script runs in a sandbox, without cookies and without this application.

    Raises:
        ValueError: the page states no policy, or one that lets anything in from elsewhere.
    """
    stated = _META_POLICY.search(html, 0, _HEAD_CHARACTERS)
    policy = _without_quotes(stated[1]) if stated else ""
    if not is_strict(policy):
        raise ValueError("a page without a strict content security policy is not framed")
    return HTMLResponse(
        html, headers={"Content-Security-Policy": f"{policy}; {_FRAME}", "X-Frame-Options": "SAMEORIGIN"}
    )


def is_strict(policy: str) -> bool:
    """Whether a policy allows nothing but what the page itself holds: no host, and scripts by digest.

    >>> is_strict("default-src 'none'; script-src 'sha256-x'; img-src data:")
    True
    >>> is_strict("default-src 'none'; script-src 'unsafe-inline'")
    False
    """
    parts = [part.split() for part in policy.split(";") if part.strip()]
    if ["default-src", "'none'"] not in parts or len({part[0] for part in parts}) < len(parts):
        return False
    return all(_may_allow(part[0], source) for part in parts for source in part[1:])


def _may_allow(directive: str, source: str) -> bool:
    if source == "'none'" or source.startswith(("'sha256-", "'sha384-", "'sha512-")):
        return True
    if directive.startswith("style-src") and source == "'unsafe-inline'":
        return True
    return directive in ("img-src", "font-src") and source in ("data:", "blob:")


def _without_quotes(policy: str) -> str:
    return policy.replace("&#39;", "'").replace("&amp;", "&")


def json_response(content: Any, status: int = HTTPStatus.OK) -> JSONResponse:
    """A value for a program."""
    return JSONResponse(content, status)
