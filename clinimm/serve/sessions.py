"""Sessions on the server's side: the browser holds a random name and nothing else."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http import HTTPStatus

from clinimm.serve.errors import Refused
from clinimm.serve.identity import User

#: Most sessions and sign-ins under way; the oldest go first.
_MOST = 10_000
#: A sign-in that is not finished by then starts again, seconds.
PENDING_S = 600


@dataclass(frozen=True)
class Pending:
    """A sign-in under way.

    Attributes:
        state, nonce, verifier: what the answer and the token must hold (RFC 6749, OIDC Core, RFC 7636).
        target: where the person wanted to go, a path on this server.
        started: monotonic seconds.
    """

    state: str
    nonce: str
    verifier: str
    target: str
    started: float


@dataclass(frozen=True)
class Session:
    """Somebody who signed in.

    Attributes:
        user: who.
        csrf: what every write must repeat.
        started, seen: monotonic seconds.
        opened: pictures that were entered in the log -> monotonic seconds; only these are sent.
    """

    user: User
    csrf: str
    started: float
    seen: float
    opened: dict[str, float] = field(default_factory=dict)


class Sessions:
    """All sessions of this process.

    Args:
        idle_s: a session ends after so long without use, seconds.
        longest_s: a session ends after so long in any case, seconds.
        clock: monotonic seconds.
    """

    def __init__(self, idle_s: float, longest_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._idle_s, self._longest_s, self._clock = idle_s, longest_s, clock
        self._lock = threading.Lock()
        self._sessions: dict[str, Session] = {}
        self._pending: dict[str, Pending] = {}

    def begin(self, target: str) -> tuple[str, Pending]:
        """Start a sign-in: its name for the cookie, and its secrets."""
        pending = Pending(
            state=secrets.token_urlsafe(32),
            nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(64),
            target=target,
            started=self._clock(),
        )
        name = secrets.token_urlsafe(32)
        with self._lock:
            self._pending[_hidden(name)] = pending
            _drop_oldest(self._pending)
        return name, pending

    def finish(self, name: str | None, state: str | None) -> Pending:
        """The sign-in that an answer belongs to; it can be finished once.

        Raises:
            Refused: the answer belongs to no sign-in of this browser, or comes too late.
        """
        with self._lock:
            pending = self._pending.pop(_hidden(name or ""), None)
        if pending is None or self._clock() - pending.started > PENDING_S:
            raise Refused(HTTPStatus.BAD_REQUEST, "sign-in-expired", "This sign-in has expired. Start again.")
        if state is None or not secrets.compare_digest(state.encode(), pending.state.encode()):
            raise Refused(
                HTTPStatus.BAD_REQUEST, "wrong-state", "This answer belongs to another sign-in. Start again."
            )
        return pending

    def open(self, user: User) -> tuple[str, Session]:
        """A new session, always under a new name."""
        now, name = self._clock(), secrets.token_urlsafe(32)
        session = Session(user, secrets.token_urlsafe(32), now, now)
        with self._lock:
            self._sessions[_hidden(name)] = session
            _drop_oldest(self._sessions)
        return name, session

    def find(self, name: str | None) -> Session | None:
        """The session behind a cookie, while it lasts."""
        if not name:
            return None
        now, key = self._clock(), _hidden(name)
        with self._lock:
            session = self._sessions.pop(key, None)
            if session is None:
                return None
            if now - session.seen > self._idle_s or now - session.started > self._longest_s:
                return None
            # Put back at the end: what was used last goes last.
            session = self._sessions[key] = replace(session, seen=now)
        return session

    def close(self, name: str | None) -> None:
        """End a session."""
        with self._lock:
            self._sessions.pop(_hidden(name or ""), None)


def _hidden(name: str) -> str:
    """What a session is kept under: who reads this process's memory table learns no cookie."""
    return hashlib.sha256(name.encode("utf-8")).hexdigest()


def _drop_oldest(table: dict[str, Session] | dict[str, Pending]) -> None:
    while len(table) > _MOST:
        table.pop(next(iter(table)))
