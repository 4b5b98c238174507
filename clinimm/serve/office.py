"""Everything that the application works with, made once and handed to every request."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request

from clinimm.serve.access_log import AccessLog, Entry
from clinimm.serve.catalogue import Catalogue, ServedRun
from clinimm.serve.explaining import Explainer
from clinimm.serve.feedback import Feedback, FeedbackTable
from clinimm.serve.identity import Role, User
from clinimm.serve.impressions import hidden_subjects
from clinimm.serve.limits import RateLimit
from clinimm.serve.oidc import Provider
from clinimm.serve.pictures import Pictures
from clinimm.serve.records import RECORDS
from clinimm.serve.sessions import Session, Sessions
from clinimm.serve.settings import ServeSettings


@dataclass(frozen=True)
class Office:
    """The application's parts.

    Attributes:
        settings: what the hospital says.
        catalogue: the runs.
        log: who saw and decided what.
        feedback: what clinicians think.
        sessions: who is signed in.
        pictures: films and slides.
        explainer: explains on request.
        provider: the sign-in; None in single-user mode.
        entry_key: what the link of single-user mode holds; None with a provider.
        paces: name of a limit -> its buckets.
    """

    settings: ServeSettings
    catalogue: Catalogue
    log: AccessLog
    feedback: FeedbackTable
    sessions: Sessions
    pictures: Pictures
    explainer: Explainer
    provider: Provider | None
    entry_key: str | None
    paces: dict[str, RateLimit]

    @property
    def cookie(self) -> str:
        """Name of the session's cookie; the prefix makes browsers insist on https and this host.

        Without https it is this machine, whose ports share their cookies: the name tells them apart.
        """
        port = self.settings.host.rpartition(":")[2]
        return "__Host-clinimm" if self.settings.secure else f"clinimm-{port if port.isdigit() else 80}"

    def hidden(self, user: User, run: ServedRun) -> frozenset[str]:
        """The subjects whose answer somebody must not see yet."""
        rows = self.feedback.rows(run.name) if self.settings.impression_first else ()
        return hidden_subjects(user, run, rows, self.settings.impression_first)

    def said(self, user: User, run: str | None = None) -> list[Feedback]:
        """The feedback that somebody may read.

        Nothing about an answer that is hidden from them, and, of somebody who sees the patients of
        some sites only, about no others; an auditor reads what was said about everybody.
        """
        rows = self.feedback.rows(run)
        everywhere = user.sites is None or user.has(Role.AUDITOR)
        if everywhere and not (self.settings.impression_first and user.has(Role.CLINICIAN)):
            return rows
        open_to = {
            (served.name, subject)
            for served in self.catalogue.runs()
            for subject in served.subjects(None if everywhere else user.sites) - self.hidden(user, served)
        }
        return [row for row in rows if (row.run, row.subject_id) in open_to]

    def record(self, user: User | None, action: str, **more: object) -> None:
        """Enter something in the log.

        Raises:
            LogUnavailable: it cannot be written; nothing may be shown.
        """
        self.log.append(entry_of(user, action, **more))


def entry_of(user: User | None, action: str, **more: object) -> Entry:
    """An entry about a person; nobody in particular before sign-in."""
    if user is None:
        return Entry(action, **more)  # type: ignore[arg-type]  # the keywords are Entry's own
    return Entry(
        action,
        user=user.identifier,
        name=user.name,
        fhir_user=user.fhir_user,
        roles=tuple(sorted(user.roles)),
        **more,  # type: ignore[arg-type]
    )


def office_of(request: Request) -> Office:
    """The application's parts."""
    found: Office = request.app.state.office
    return found


def session_of(request: Request) -> Session:
    """Who asks; the guard has let this person in.

    Raises:
        RuntimeError: the guard did not run, which is a defect.
    """
    session: Session | None = request.state.session
    if session is None:
        raise RuntimeError("a page that needs a person was reached without one")
    return session


def served_of(request: Request) -> ServedRun:
    """The run that is asked about: the very one that the guard looked at and the log names.

    Raises:
        RuntimeError: the address names no run, which is a defect.
    """
    found: ServedRun | None = request.state.run
    if found is None:
        raise RuntimeError("a page of a run was reached without one")
    return found


def records_folder(given: Path | None, catalogue: Catalogue) -> Path:
    """Where feedback and access log lie."""
    return given if given is not None else catalogue.home / RECORDS
