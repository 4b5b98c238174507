"""Headers, host names, sizes, paces, and what a person hears when something goes wrong."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi.testclient import TestClient

from clinimm.serve.answers import PAGE_POLICY, framed, is_strict
from clinimm.serve.app import open_office
from clinimm.serve.errors import Refused
from clinimm.serve.identity import Role
from clinimm.serve.limits import BodyLimit, RateLimit
from clinimm.serve.office import Office
from clinimm.serve.rules import RULES
from clinimm.serve.settings import ServeSettings
from tests.serve.hospital import RESEARCH, SUBJECT, Hospital, form, make_client, sign_in

FEEDBACK = f"/runs/mock/patients/{SUBJECT}/feedback"


@pytest.mark.parametrize(
    "path", ["/alive", "/", "/nowhere", "/static/app.css", "/api/runs", "/runs/mock", "/api/x"]
)
def test_every_answer_has_the_headers(client: TestClient, office: Office, path: str) -> None:
    sign_in(client, office, *Role)
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert "server" not in headers
    if not path.startswith("/static"):
        assert headers["cache-control"] == "no-store"


def test_our_pages_may_run_our_files_and_nothing_else(client: TestClient, office: Office) -> None:
    sign_in(client, office, *Role)
    answer = client.get("/runs/mock")
    assert answer.headers["content-security-policy"] == PAGE_POLICY
    assert "<script>" not in answer.text and "style=" not in answer.text and " onclick" not in answer.text


def test_the_report_is_framed_in_an_origin_of_its_own(client: TestClient, office: Office) -> None:
    sign_in(client, office, Role.CLINICIAN)
    policy = client.get(f"/runs/mock/patients/{SUBJECT}/report").headers["content-security-policy"]
    assert policy.startswith("default-src 'none'") and "sandbox allow-scripts" in policy
    assert "allow-same-origin" not in policy and "frame-ancestors 'self'" in policy and "sha256-" in policy


def test_a_page_without_a_policy_is_not_framed() -> None:
    for page in (
        "<html><body>x",
        '<meta http-equiv="Content-Security-Policy" content="default-src *">',
        "x" * 5000 + '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'">',
    ):
        with pytest.raises(ValueError, match="strict content security policy"):
            framed(page)


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:9", "localhost:8000.evil.example", ""]
)
def test_another_name_for_this_machine_is_no_way_in(client: TestClient, host: str) -> None:
    answer = client.get("/alive", headers={"Host": host})
    assert answer.status_code == 421 and answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000"])
def test_this_machine_has_three_names(client: TestClient, host: str) -> None:
    assert client.get("/alive", headers={"Host": host}).text == "ok\n"


def test_a_body_that_is_too_large_is_not_read(client: TestClient, office: Office) -> None:
    headers = sign_in(client, office, Role.CLINICIAN)
    answer = client.post(FEEDBACK, **form(headers, verdict="agree", comment="x" * 70_000))
    assert answer.status_code == 413 and office.feedback.rows() == []


def test_a_body_that_grows_is_cut_off_without_a_length(client: TestClient, office: Office) -> None:
    headers = sign_in(client, office, Role.CLINICIAN)
    answer = client.post(FEEDBACK, content=iter([b"x" * 40_000, b"x" * 40_000]), headers=headers)
    assert answer.status_code == 413


def test_a_body_that_never_comes_is_given_up() -> None:
    sent: list[Any] = []

    async def never() -> Any:
        await asyncio.sleep(60)

    async def keep(message: Any) -> None:
        sent.append(message)

    async def inner(*given: Any) -> None:
        raise AssertionError("not reached")

    scope = {"type": "http", "path": "/api/x", "headers": [], "method": "POST"}
    asyncio.run(BodyLimit(inner, 100, 0.05)(scope, never, keep))
    assert sent[0]["status"] == 408 and b"urn:clinimm:error:too-slow" in sent[1]["body"]


def test_who_asks_too_often_waits() -> None:
    now = [0.0]
    pace = RateLimit(60, clock=lambda: now[0])
    for _ in range(60):
        pace.take("one")
    with pytest.raises(Refused) as refused:
        pace.take("one")
    assert refused.value.status == 429 and refused.value.retry_after_s in (1, 2)
    pace.take("another")
    now[0] = 2.0
    pace.take("one")
    pace.take("one")
    with pytest.raises(Refused):
        pace.take("one")


def test_the_limit_holds_for_a_person_whatever_the_session(hospital: Hospital, tmp_path: Any) -> None:
    from clinimm.serve.app import open_office
    from clinimm.serve.settings import ServeSettings
    from tests.serve.hospital import SHOW

    settings = ServeSettings.model_validate(
        SHOW | {"limits": {"writes_per_minute": 3, "sign_ins_per_minute": 2}}
    )
    office = open_office(hospital.runs, settings, tmp_path)
    client = make_client(office)
    for _ in range(3):
        headers = sign_in(client, office, Role.CLINICIAN)
        assert client.post(FEEDBACK, **form(headers, verdict="agree")).status_code == 303
    headers = sign_in(client, office, Role.CLINICIAN)
    answer = client.post(FEEDBACK, **form(headers, verdict="agree"))
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1
    assert len(office.feedback.rows()) == 3
    client.cookies.clear()
    assert [client.get("/sign-in?key=wrong").status_code for _ in range(3)] == [403, 403, 429]


def test_a_defect_shows_no_traceback(
    client: TestClient, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(client, office, Role.CLINICIAN)

    def broken(*given: object) -> None:
        raise RuntimeError("secret /srv/patients/Doe^Jane")

    monkeypatch.setattr(type(office.explainer), "read", broken)
    answer = client.get(f"/api/runs/mock/patients/{SUBJECT}/explanation")
    assert answer.status_code == 500 and answer.json()["type"] == "urn:clinimm:error:defect"
    assert "secret" not in answer.text and "Traceback" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "body", ["{", "[]", '{"verdict": "maybe"}', '{"verdict": "agree", "x": "<script>"}', "\xff"]
)
def test_what_does_not_fit_is_named_and_not_repeated(client: TestClient, office: Office, body: str) -> None:
    headers = sign_in(client, office, Role.CLINICIAN) | {"Content-Type": "application/json"}
    answer = client.post(f"/api{FEEDBACK}", content=body.encode("latin-1"), headers=headers)
    assert answer.status_code in (400, 422) and answer.headers["content-type"] == "application/problem+json"
    assert "maybe" not in answer.text and "script" not in answer.text
    assert office.feedback.rows() == []


def test_another_kind_of_form_is_refused(client: TestClient, office: Office) -> None:
    headers = sign_in(client, office, Role.CLINICIAN)
    answer = client.post(FEEDBACK, json={"verdict": "agree"}, headers=headers)
    assert answer.status_code == 415


def test_the_description_names_every_address_of_the_interface(client: TestClient, office: Office) -> None:
    sign_in(client, office, Role.AUDITOR)
    described = client.get("/api/openapi.json").json()
    assert described["openapi"].startswith("3.1")
    known = {address for _, address in RULES if address.startswith("/api/")} - {"/api/openapi.json"}
    assert set(described["paths"]) == known
    names = {one["name"] for one in described["paths"]["/api/runs/{run}/predictions"]["get"]["parameters"]}
    assert {"run", "search", "least", "feedback"} <= names


def test_the_single_user_s_link_is_needed(client: TestClient, office: Office) -> None:
    assert client.get("/sign-in?key=").status_code == 403
    answer = client.get(f"/sign-in?key={office.entry_key}")
    assert answer.status_code == 303 and "HttpOnly" in answer.headers["set-cookie"]
    assert client.get("/").status_code == 200
    token = client.get("/api/session").json()["csrf"]
    done = client.post("/sign-out", **form({}, csrf=token))
    assert done.status_code == 200 and client.get("/api/session").status_code == 401


PROVIDER = {"issuer": "https://id.example", "client_id": "c", "roles": {"x": "clinician"}}


def deployed(hospital: Hospital, folder: Any, address: str, **settings: Any) -> TestClient:
    given = {"public_url": "https://here.example", "oidc": PROVIDER, **RESEARCH, **settings}
    office = open_office(hospital.runs, ServeSettings.model_validate(given), folder)
    return TestClient(make_client(office).app, base_url=address)


@pytest.mark.parametrize(
    ("host", "status"), [("here.example", 200), ("", 421), ("evil.example", 421), ("here.example.", 421)]
)
def test_a_deployed_server_has_one_name(hospital: Hospital, tmp_path: Any, host: str, status: int) -> None:
    client = deployed(hospital, tmp_path, "https://here.example")
    assert client.get("/alive", headers={"Host": host}).status_code == status


def test_what_comes_past_the_proxy_is_refused(hospital: Hospital, tmp_path: Any) -> None:
    """The port behind a proxy is plain: a patient's page must not cross the network so."""
    past = deployed(hospital, tmp_path, "http://here.example", proxies=["192.0.2.1"])
    answer = past.get("/alive")
    assert answer.status_code == 403 and "https" in answer.text
    through = deployed(hospital, tmp_path, "https://here.example", proxies=["192.0.2.1"])
    assert through.get("/alive").status_code == 200


@pytest.mark.parametrize(
    "policy",
    [
        "default-src 'none'; script-src *",
        "default-src 'none'; script-src 'unsafe-inline'",
        "default-src 'none'; script-src 'self'",
        "default-src 'none'; script-src data:",
        "default-src 'none'; img-src https:",
        "default-src 'none'; connect-src https://evil.example",
        "default-src 'none'; script-src 'sha256-x'; script-src *",
        "default-src 'none' https://evil.example",
        "script-src 'sha256-x'",
        "",
    ],
)
def test_a_policy_with_a_hole_is_not_strict(policy: str) -> None:
    assert not is_strict(policy)


def test_a_stranger_is_told_nothing_about_what_was_sent(client: TestClient) -> None:
    """Nothing is read for somebody who did not sign in: not even to say that it cannot be read."""
    for sent in ({"content": b"{", "headers": {"Content-Type": "application/json"}}, {"json": {}}):
        assert client.post(f"/api{FEEDBACK}", **sent).status_code == 401
    for sent in ({"content": b"x"}, {"data": {"verdict": "agree"}}):
        assert client.post(FEEDBACK, **sent).status_code == 401


def test_a_stranger_s_writes_are_counted(hospital: Hospital, tmp_path: Any) -> None:
    from tests.serve.hospital import SHOW

    given = ServeSettings.model_validate(SHOW | {"limits": {"writes_per_minute": 2}})
    client = make_client(open_office(hospital.runs, given, tmp_path))
    sent = {"content": b"{", "headers": {"Content-Type": "application/json"}}
    assert [client.post(f"/api{FEEDBACK}", **sent).status_code for _ in range(3)] == [401, 401, 429]


def test_json_is_said_to_be_json(client: TestClient, office: Office) -> None:
    headers = sign_in(client, office, Role.CLINICIAN)
    sent = {"content": b'{"verdict": "agree"}', "headers": headers | {"Content-Type": "text/plain"}}
    assert client.post(f"/api{FEEDBACK}", **sent).status_code == 415


def test_two_applications_on_this_machine_do_not_share_a_session(hospital: Hospital, tmp_path: Any) -> None:
    names = {
        open_office(hospital.runs, ServeSettings(public_url=f"http://127.0.0.1:{port}"), tmp_path).cookie
        for port in (8000, 8001)
    }
    assert len(names) == 2
