"""Every address as every role: what has no rule is closed, and what has one is open to nobody else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from clinimm.serve import app as application
from clinimm.serve.access_log import LOG_NAME
from clinimm.serve.app import create_app
from clinimm.serve.identity import Role
from clinimm.serve.office import Office
from clinimm.serve.rules import RULES
from tests.serve.hospital import ORIGIN, SUBJECT, form, sign_in

C, D, A = Role.CLINICIAN, Role.DATA_SCIENTIST, Role.AUDITOR
#: Said here a second time, by hand: who may, address by address.
EXPECTED: dict[tuple[str, str], set[Role] | None] = {
    ("GET", "/alive"): None,
    ("GET", "/static/{name}"): None,
    ("GET", "/sign-in"): None,
    ("GET", "/signed-in"): None,
    ("POST", "/sign-out"): {C, D, A},
    ("GET", "/"): {C, D, A},
    ("GET", "/runs/{run}"): {C, D},
    ("GET", "/runs/{run}/model-card"): {C, D, A},
    ("GET", "/runs/{run}/model-card/page"): {C, D, A},
    ("GET", "/runs/{run}/audit"): {C, D, A},
    ("GET", "/runs/{run}/audit/page"): {C, D, A},
    ("GET", "/runs/{run}/patients/{subject}"): {C, D},
    ("GET", "/runs/{run}/patients/{subject}/record"): {C, D},
    ("GET", "/runs/{run}/patients/{subject}/report"): {C, D},
    ("GET", "/runs/{run}/patients/{subject}/series/{name}"): {C, D},
    ("GET", "/runs/{run}/patients/{subject}/series/{name}/{index}.png"): {C, D},
    ("GET", "/runs/{run}/patients/{subject}/slides/{name}"): {C, D},
    ("GET", "/runs/{run}/patients/{subject}/slides/{name}.dzi"): {C, D},
    ("GET", "/runs/{run}/patients/{subject}/slides/{name}_files/{level}/{tile}.jpeg"): {C, D},
    ("POST", "/runs/{run}/patients/{subject}/impression"): {C},
    ("POST", "/runs/{run}/patients/{subject}/feedback"): {C},
    ("POST", "/runs/{run}/patients/{subject}/explanation"): {C, D},
    ("GET", "/feedback"): {D, A},
    ("GET", "/access-log"): {A},
    ("GET", "/api/openapi.json"): {C, D, A},
    ("GET", "/api/session"): {C, D, A},
    ("GET", "/api/runs"): {C, D, A},
    ("GET", "/api/runs/{run}"): {C, D, A},
    ("GET", "/api/runs/{run}/predictions"): {C, D},
    ("GET", "/api/runs/{run}/patients/{subject}/prediction"): {C, D},
    ("GET", "/api/runs/{run}/patients/{subject}/explanation"): {C, D},
    ("POST", "/api/runs/{run}/patients/{subject}/explanation"): {C, D},
    ("POST", "/api/runs/{run}/patients/{subject}/impression"): {C},
    ("POST", "/api/runs/{run}/patients/{subject}/feedback"): {C},
    ("GET", "/api/feedback"): {D, A},
    ("GET", "/api/access-log/state"): {A},
}
#: Addresses that tell of no patient.
OF_NO_PATIENT = {
    address for address in EXPECTED if "{subject}" not in address[1] and "predictions" not in address[1]
} - {("GET", "/runs/{run}")}


def addresses() -> list[tuple[str, str]]:
    """Every (method, address) that the application answers, from its own routes."""
    routers = (
        application.signing_in, application.patient_pages, application.picture_pages,
        application.review_pages, application.api,
    )  # fmt: skip
    return [
        (method, route.path)
        for part in routers
        for route in part.router.routes
        if isinstance(route, APIRoute)
        for method in sorted(route.methods)
    ]


def ask(client: TestClient, method: str, address: str, headers: dict[str, str]) -> int:
    path = address.format(
        run="mock", subject=SUBJECT, name="0" * 16, index=0, level=0, tile="0_0"
    )  # fmt: skip
    if method == "GET":
        return client.get(path).status_code
    if address.startswith("/api"):
        body = {"estimate": 0.5} if address.endswith("impression") else {"verdict": "agree"}
        return client.post(path, json=body, headers=headers).status_code
    return client.post(path, **form(headers, verdict="agree", estimate=50)).status_code


@pytest.fixture
def _explained_at_once(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may ask is looked at here, not what the answer is."""
    nothing: dict[str, object] = {"summary": {}, "contributions": {}, "attributions": []}
    monkeypatch.setattr(type(office.explainer), "explain", lambda *given: nothing)


def test_every_route_has_a_rule_and_every_rule_a_route() -> None:
    assert set(addresses()) == set(RULES) == set(EXPECTED)
    assert len(addresses()) == len(set(addresses()))


def test_the_application_has_no_route_beside_those() -> None:
    """No documentation page, no mount, nothing that would pass the guard by."""

    class _Office:
        pass

    import inspect

    source = inspect.getsource(create_app)
    assert "mount" not in source and "openapi_url=None" in source and "Depends(guard)" in source


@pytest.mark.usefixtures("_explained_at_once")
@pytest.mark.parametrize(
    ("method", "address"), [pytest.param(*one, id=" ".join(one)) for one in sorted(EXPECTED)]
)
@pytest.mark.parametrize("role", [None, *Role])
def test_each_role_gets_what_is_its_own(
    client: TestClient, office: Office, method: str, address: str, role: Role | None
) -> None:
    headers = sign_in(client, office, role) if role else {}
    status = ask(client, method, address, headers)
    allowed = EXPECTED[method, address]
    if allowed is None:
        assert status in (200, 303, 403, 404)  # a wrong key, an unknown file: but never for want of a role
    elif role is None:
        page = method == "GET" and not address.startswith("/api")
        assert status == (303 if page else 401)
    elif role in allowed:
        granted = "{index}" in address or ".dzi" in address or "_files" in address
        assert status in ((403,) if granted else (200, 201, 303, 404, 409, 422)), "the role may"
    else:
        assert status == 403


@pytest.mark.usefixtures("_explained_at_once")
@pytest.mark.parametrize(
    ("method", "address"),
    [pytest.param(*one, id=" ".join(one)) for one in sorted(set(EXPECTED) - OF_NO_PATIENT)],
)
def test_whatever_tells_of_a_patient_leaves_a_line(
    client: TestClient, office: Office, tmp_path: Path, method: str, address: str
) -> None:
    headers = sign_in(client, office, C)
    before = (tmp_path / "records" / LOG_NAME).read_text().count("\n")
    if ask(client, method, address, headers) == 409:
        assert address.endswith("impression") and office.feedback.rows() == []
        return
    lines = (tmp_path / "records" / LOG_NAME).read_text().splitlines()[before:]
    assert lines
    said = [json.loads(line) for line in lines]
    assert all(line["user"] == "https://id.example|p1" and line["run"] == "mock" for line in said)
    assert any(SUBJECT in (line["subject"], *line["detail"].get("subjects", ())) for line in said)


def test_what_nobody_thought_about_is_closed(office: Office) -> None:
    extra = APIRouter()

    @extra.get("/forgotten")
    def forgotten() -> str:
        return "secret"

    app = create_app(office)
    app.include_router(extra)
    with TestClient(app, base_url=ORIGIN) as client:
        sign_in(client, office, *Role)
        answer = client.get("/forgotten")
    assert answer.status_code == 403 and "no-rule" in answer.text and "secret" not in answer.text


def test_a_refusal_is_entered_with_the_person(client: TestClient, office: Office, tmp_path: Path) -> None:
    sign_in(client, office, A)
    assert client.get(f"/runs/mock/patients/{SUBJECT}/report").status_code == 403
    line = json.loads((tmp_path / "records" / LOG_NAME).read_text().splitlines()[-1])
    assert (line["outcome"], line["action"], line["subject"]) == ("refused", "view-report", SUBJECT)
    assert line["detail"]["code"] == "wrong-role" and line["roles"] == ["auditor"]
