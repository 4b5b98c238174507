"""What the application answers instead of a page: a status, a stable code and a sentence.

CliniMMError
|- Refused              a request is refused; carries the HTTP status
|- LogUnavailable       the access log cannot be written, so nothing is shown (503)
"""

from __future__ import annotations

from http import HTTPStatus

from clinimm.core.errors import CliniMMError


class Refused(CliniMMError):
    """A request that is not answered.

    Args:
        status: HTTP status (RFC 9110).
        code: stable short name of the reason, such as ``wrong-role``.
        reason: a sentence for the person who asked; holds no patient data and no path.
        retry_after_s: when it may be tried again, seconds; sent as ``Retry-After``.
    """

    def __init__(self, status: HTTPStatus, code: str, reason: str, retry_after_s: int | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.code = code
        self.reason = reason
        self.retry_after_s = retry_after_s


class LogUnavailable(Refused):
    """The access log cannot be written: what cannot be recorded is not shown."""

    def __init__(self) -> None:
        super().__init__(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "access-log-unavailable",
            "The access log cannot be written, so nothing about patients is shown. Tell whoever runs "
            "this server.",
        )


def not_found(what: str) -> Refused:
    """There is no such thing, or none that may be shown."""
    return Refused(HTTPStatus.NOT_FOUND, "not-found", f"There is no such {what} here.")


def bad_request(code: str, reason: str) -> Refused:
    """What was sent cannot be used."""
    return Refused(HTTPStatus.UNPROCESSABLE_ENTITY, code, reason)
