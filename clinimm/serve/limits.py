"""Limits around every request: how large a body may be, how long it may take, how often one may ask."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clinimm.serve.answers import problem
from clinimm.serve.errors import Refused

_MOST_CLIENTS = 20_000


class BodyLimit:
    """ASGI middleware: reads a body whole, within its limits, before anything looks at it.

    Args:
        app: what is protected.
        largest: bytes.
        seconds: longest time that the body may take to arrive.
    """

    def __init__(self, app: ASGIApp, largest: int, seconds: float) -> None:
        self._app, self._largest, self._seconds = app, largest, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 413 or 408, or pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._seconds):
                body = await self._body(scope, receive)
        except TimeoutError:
            refused = Refused(HTTPStatus.REQUEST_TIMEOUT, "too-slow", "The request took too long to arrive.")
            await problem(scope, refused)(scope, receive, send)
            return
        except Refused as error:
            await problem(scope, error)(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        stated = dict(scope["headers"]).get(b"content-length", b"0")
        if not stated.isdigit() or int(stated) > self._largest:
            raise self._too_large()
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > self._largest:
                raise self._too_large()
            if message["type"] != "http.request" or not message.get("more_body"):
                return body

    def _too_large(self) -> Refused:
        return Refused(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "body-too-large",
            f"The request is larger than {self._largest:,} bytes.",
        )


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body as one message; after it, whatever comes (the end of the connection)."""
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


class RateLimit:
    """Token buckets, one a client: a minute's worth may come at once, and refills evenly.

    Args:
        a_minute: how many requests a minute.
        clock: monotonic seconds.
    """

    def __init__(self, a_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._a_minute, self._clock = float(a_minute), clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[Any, tuple[float, float]] = OrderedDict()

    def take(self, client: Any) -> None:
        """Count one request.

        Raises:
            Refused: the client asked for too much; says when to come again.
        """
        now = self._clock()
        with self._lock:
            left, then = self._buckets.pop(client, (self._a_minute, now))
            left = min(self._a_minute, left + (now - then) * self._a_minute / 60)
            self._buckets[client] = (max(left - 1, 0.0) if left >= 1 else left, now)
            if len(self._buckets) > _MOST_CLIENTS:
                self._buckets.popitem(last=False)
        if left < 1:
            wait = int((1 - left) * 60 / self._a_minute) + 1
            raise Refused(
                HTTPStatus.TOO_MANY_REQUESTS,
                "too-many-requests",
                f"Too many requests. Try again in {wait} s.",
                wait,
            )
