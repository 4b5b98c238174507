"""The access log: who saw or decided what, one JSON line each, every line chained to the one before.

``clinimm/core/chained_log.py`` writes it; a line is on the disk before the page that it tells about is
shown. ``clinimm access-log verify --head`` compares with a head that was kept elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from clinimm.core.chain import Head, LogForm
from clinimm.core.chained_log import ChainedLog
from clinimm.core.errors import IntegrityError
from clinimm.serve.errors import LogUnavailable

LOG_NAME = "access.jsonl"
HEAD_NAME = "access.head.json"
FORM = LogForm("access log", LOG_NAME, HEAD_NAME, "clinimm-access-log/1")


@dataclass(frozen=True)
class Entry:
    """What happened.

    Attributes:
        action: what was done or asked for, such as ``view-report``.
        user: ``issuer|subject`` of the person; ``-`` before sign-in.
        name: what the person is called by the provider.
        fhir_user: the person's FHIR resource, or None.
        roles: the roles that the person had.
        outcome: ``done`` or ``refused``.
        run, subject, model_digest: what it was about; None where it was about no patient.
        detail: further facts; never a comment's text.
    """

    action: str
    user: str = "-"
    name: str = ""
    fhir_user: str | None = None
    roles: tuple[str, ...] = ()
    outcome: str = "done"
    run: str | None = None
    subject: str | None = None
    model_digest: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


class AccessLog:
    """The log in one folder. Several threads and processes may write to it.

    Args:
        folder: where ``access.jsonl`` and ``access.head.json`` lie; made where it is absent.
        key_file: private key that signs the head; None is this user's own.

    Raises:
        IntegrityError: what lies there does not end as this server's key signed it.
        LogUnavailable: it cannot be read or written.
    """

    def __init__(self, folder: Path, key_file: Path | None = None) -> None:
        with _as_unavailable():
            self._log = ChainedLog(folder, FORM, key_file, recovered=asdict(Entry("")))
        self.path, self.head_path = self._log.path, self._log.head_path

    def append(self, entry: Entry) -> Head:
        """Write one line, with everything on the disk before this returns.

        Raises:
            LogUnavailable: it cannot be written, or somebody else changed it; nothing may be shown.
        """
        try:
            with _as_unavailable():
                return self._log.append(asdict(entry))
        except IntegrityError as error:
            raise LogUnavailable() from error

    def head(self) -> Head:
        """The end of the chain as this server signed it last.

        Raises:
            IntegrityError: it is missing, or another key signed it.
        """
        return self._log.head()


@contextmanager
def _as_unavailable() -> Iterator[None]:
    """A full or read-only disk, in the application's words."""
    try:
        yield
    except OSError as error:
        raise LogUnavailable() from error
