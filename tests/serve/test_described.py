"""The description of the interface, against the rules and against what is answered."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator

from clinimm.serve.identity import Role
from clinimm.serve.office import Office
from clinimm.serve.rules import RULES
from tests.serve.hospital import SUBJECT, sign_in

PATIENT = f"/runs/mock/patients/{SUBJECT}"


@pytest.fixture
def described(client: TestClient, office: Office) -> dict[str, Any]:
    sign_in(client, office, *Role)
    return dict(client.get("/api/openapi.json").json())


def operation(described: dict[str, Any], method: str, address: str) -> dict[str, Any]:
    return dict(described["paths"][address][method.lower()])


@pytest.mark.parametrize(
    ("method", "address"),
    [
        pytest.param(*one, id=" ".join(one))
        for one in sorted(one for one in RULES if one[1].startswith("/api/") and "openapi" not in one[1])
    ],
)
def test_each_operation_says_who_may_and_how_it_refuses(
    described: dict[str, Any], method: str, address: str
) -> None:
    found = operation(described, method, address)
    for role in RULES[method, address].roles:
        assert role.value in found["description"].rpartition("Roles:")[2]
    refusals = {status for status in found["responses"] if int(status) >= 400}
    assert {"401", "403", "429", "503"} <= refusals
    assert "{run}" not in address or {"404", "409"} <= refusals
    for status in refusals:
        (kind,) = found["responses"][status]["content"]
        assert kind == "application/problem+json"
    if method == "POST":
        assert {"413", "415", "422"} <= refusals
        assert "X-CSRF-Token" in {one["name"] for one in found["parameters"] if one.get("required")}


def test_it_is_the_same_the_second_time(client: TestClient, described: dict[str, Any]) -> None:
    assert client.get("/api/openapi.json").json() == described


def test_every_reference_leads_somewhere_and_the_session_is_named(
    described: dict[str, Any], office: Office
) -> None:
    assert described["components"]["securitySchemes"]["session"]["name"] == office.cookie
    assert described["security"] == [{"session": []}]

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                place: Any = described
                for part in value["$ref"].removeprefix("#/").split("/"):
                    place = place[part]
            for one in value.values():
                walk(one)
        elif isinstance(value, list):
            for one in value:
                walk(one)

    walk(described)


@pytest.mark.parametrize(
    ("method", "address", "sent", "status"),
    [
        ("GET", "/api/session", None, 200),
        ("GET", "/api/runs", None, 200),
        ("GET", "/api/runs/{run}", None, 200),
        ("GET", "/api/runs/{run}/predictions", None, 200),
        ("GET", "/api/runs/{run}/patients/{subject}/prediction", None, 200),
        ("GET", "/api/runs/{run}/patients/{subject}/explanation", None, 200),
        ("POST", "/api/runs/{run}/patients/{subject}/feedback", {"verdict": "agree"}, 201),
        ("POST", "/api/runs/{run}/patients/{subject}/feedback", {"verdict": "maybe"}, 422),
        ("POST", "/api/runs/{run}/patients/{subject}/impression", {"estimate": 0.5}, 409),
        ("GET", "/api/feedback", None, 200),
        ("GET", "/api/access-log/state", None, 200),
    ],
)
def test_what_is_answered_is_what_is_described(
    client: TestClient,
    office: Office,
    described: dict[str, Any],
    method: str,
    address: str,
    sent: dict[str, Any] | None,
    status: int,
) -> None:
    headers = sign_in(client, office, *Role)
    path = address.format(run="mock", subject=SUBJECT)
    answer = client.request(method, path, json=sent, headers=headers)
    assert answer.status_code == status
    found = operation(described, method, address)["responses"][str(status)]["content"]
    kind = answer.headers["content-type"]
    schema = {**found[kind]["schema"], "components": described["components"]}
    Draft202012Validator(schema).validate(answer.json())


def test_the_body_that_is_described_is_the_body_that_is_taken(described: dict[str, Any]) -> None:
    body = operation(described, "POST", "/api/runs/{run}/patients/{subject}/feedback")["requestBody"]
    schema = Draft202012Validator(body["content"]["application/json"]["schema"])
    assert schema.is_valid({"verdict": "agree", "comment": "x"})
    assert not schema.is_valid({"verdict": "maybe"}) and not schema.is_valid({"verdict": "agree", "x": 1})
