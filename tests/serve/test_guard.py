"""Writes come from our own pages, and what cannot be entered in the log is not shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from clinimm.core.chained_log import ChainedLog
from clinimm.serve.access_log import LOG_NAME
from clinimm.serve.errors import LogUnavailable
from clinimm.serve.identity import Role
from clinimm.serve.office import Office
from clinimm.serve.rules import RULES
from tests.serve.hospital import SUBJECT, form, sign_in

REPORT = f"/runs/mock/patients/{SUBJECT}/report"
FEEDBACK = f"/runs/mock/patients/{SUBJECT}/feedback"


@pytest.mark.parametrize(
    "spoil",
    [
        {"X-CSRF-Token": "wrong"},
        {"X-CSRF-Token": ""},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize("address", sorted(address for method, address in RULES if method == "POST"))
def test_a_write_that_another_page_sends_is_refused(
    client: TestClient, office: Office, address: str, spoil: dict[str, str]
) -> None:
    headers = sign_in(client, office, *Role) | spoil
    path = address.format(run="mock", subject=SUBJECT)
    sent = (
        {"json": {"verdict": "agree"}, "headers": headers}
        if "/api/" in path
        else form(headers, verdict="agree")
    )
    answer = client.post(path, **sent)
    assert answer.status_code == 403 and "csrf" in answer.text
    assert office.feedback.rows() == []


def test_the_token_of_another_session_does_not_help(client: TestClient, office: Office) -> None:
    other = sign_in(client, office, Role.CLINICIAN, subject="p2")
    sign_in(client, office, Role.CLINICIAN, subject="p1")
    assert client.post(FEEDBACK, **form(other, verdict="agree")).status_code == 403


def test_the_token_may_stand_in_the_form(client: TestClient, office: Office) -> None:
    headers = sign_in(client, office, Role.CLINICIAN)
    token = headers.pop("X-CSRF-Token")
    assert client.post(FEEDBACK, **form(headers, verdict="agree", csrf=token)).status_code == 303


def test_a_session_name_that_was_never_given_is_nobody(client: TestClient, office: Office) -> None:
    client.cookies.set(office.cookie, "A" * 43)
    assert client.get("/api/runs").status_code == 401
    assert client.get(REPORT).headers["location"] == f"/sign-in?to={REPORT}"


@pytest.mark.parametrize(
    "path",
    [
        "/runs/mock",
        f"/runs/mock/patients/{SUBJECT}",
        REPORT,
        f"/runs/mock/patients/{SUBJECT}/record",
        "/api/runs/mock/predictions",
        f"/api/runs/mock/patients/{SUBJECT}/prediction",
        f"/api/runs/mock/patients/{SUBJECT}/explanation",
    ],
)
def test_what_cannot_be_entered_is_not_shown(
    client: TestClient, office: Office, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(client, office, Role.CLINICIAN)

    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ChainedLog, "_sign", full)
    answer = client.get(path)
    assert answer.status_code == 503 and "access-log-unavailable" in answer.text
    assert "No space" not in answer.text and SUBJECT not in answer.text.replace(path, "")


def test_a_log_that_somebody_shortened_closes_the_application(
    client: TestClient, office: Office, tmp_path: Path
) -> None:
    sign_in(client, office, Role.CLINICIAN)
    assert client.get(REPORT).status_code == 200
    path = tmp_path / "records" / LOG_NAME
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert client.get(REPORT).status_code == 503


def test_a_verdict_that_cannot_be_entered_is_not_kept(
    client: TestClient, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = sign_in(client, office, Role.CLINICIAN)

    def refuse(*given: object) -> None:
        raise LogUnavailable()

    monkeypatch.setattr(type(office.log), "append", refuse)
    assert client.post(FEEDBACK, **form(headers, verdict="agree")).status_code == 503
    assert office.feedback.rows() == []
