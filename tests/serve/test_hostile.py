"""Text that wants to be script stays text, on every page of ours and in every frame."""

from __future__ import annotations

import html
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from clinimm.serve.app import open_office
from clinimm.serve.identity import Role, User
from clinimm.serve.settings import ServeSettings
from tests.report.conftest import XSS
from tests.serve.hospital import SHOW, SUBJECT, Hospital, build_hospital, form, make_client, sign_in

#: What becomes markup wherever it is written without escaping.
MARKS = [text for text in XSS if "<" in text]
PATIENT = f"/runs/mock/patients/{SUBJECT}"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, _configuration: None) -> Hospital:
    """Notes, FHIR values, DICOM strings, sites and questions that are all hostile."""
    return build_hospital(tmp_path_factory.mktemp("hostile"), " ".join(XSS))


@pytest.fixture
def visitor(hostile: Hospital, tmp_path: Path) -> TestClient:
    office = open_office(hostile.runs, ServeSettings.model_validate(SHOW), tmp_path)
    client = make_client(office)
    headers = sign_in(client, office, *Role)
    for text in XSS:
        sent = form(headers, verdict="object", reason="other", comment=text)
        assert client.post(f"{PATIENT}/feedback", **sent).status_code == 303
    name, _ = office.sessions.open(User("i", XSS[0], XSS[1], None, frozenset(Role)))
    client.cookies.set(office.cookie, name)
    return client


@pytest.mark.parametrize(
    "path",
    ["/", "/runs/mock", PATIENT, f"{PATIENT}/record", f"{PATIENT}/report", "/runs/mock/model-card/page",
     "/runs/mock/audit/page", "/feedback", "/access-log", "/runs/mock/patients/%3Cscript%3E", "/%3Cscript%3E",
     "/runs/mock?search=%3Cscript%3Ealert(1)%3C/script%3E", "/access-log?search=%22%3E%3Cscript%3E"],
)  # fmt: skip
def test_nothing_hostile_becomes_markup(visitor: TestClient, path: str) -> None:
    page = visitor.get(path).text
    assert not [text for text in MARKS if text in page]
    assert "alert(1)" not in page or html.escape("<script>alert(1)") in page
    assert "49" not in page.split("{{ 7 * 7 }}")[0][-8:]  # no template in a template
    for text in ('onmouseover="alert', "onfocus='alert", "onload=alert(6)>"):
        assert text not in page


def test_the_record_shows_what_was_written_escaped(visitor: TestClient) -> None:
    page = visitor.get(f"{PATIENT}/record").text
    assert html.escape("<script>alert(1)</script>") in page and "needs oxygen" in page


def test_comments_come_back_as_they_were_written(visitor: TestClient) -> None:
    kept = {row["comment"] for row in visitor.get("/api/feedback").json()}
    assert XSS[0] in kept and visitor.get("/api/feedback").headers["content-type"] == "application/json"


def test_a_hostile_name_in_the_address_is_entered_as_text(visitor: TestClient) -> None:
    visitor.get("/runs/mock/patients/%0A%7B%22forged%22%3A1%7D")
    state = visitor.get("/api/access-log/state").json()
    assert state["whole"] and "forged" in visitor.get("/access-log").text
