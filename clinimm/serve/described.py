"""The description of the JSON interface (OpenAPI 3.1), with what the gate around it asks and answers."""

from __future__ import annotations

from copy import deepcopy
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from clinimm.serve.rules import RULES

_PROBLEM = "Problem"
_SCHEME = "session"
#: What the gate may answer instead, whatever is asked.
_ALWAYS = {
    HTTPStatus.UNAUTHORIZED: "Nobody is signed in.",
    HTTPStatus.FORBIDDEN: "The role, the site, the token or the order of steps does not allow it.",
    HTTPStatus.TOO_MANY_REQUESTS: "Too many requests; `Retry-After` says when to come again.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The access log cannot be written, or the server is busy.",
}
_OF_A_RUN = {
    HTTPStatus.NOT_FOUND: "There is no such run or patient, or no explanation.",
    HTTPStatus.CONFLICT: "The run is not as it was signed, or this was said before.",
    HTTPStatus.UNPROCESSABLE_ENTITY: "What was sent does not fit, or it cannot be answered.",
}
_OF_A_BODY = {
    HTTPStatus.REQUEST_TIMEOUT: "The body took too long to arrive.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too large.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "JSON was expected.",
    HTTPStatus.UNPROCESSABLE_ENTITY: "What was sent does not fit, or it cannot be answered.",
}


class Problem(BaseModel):
    """Why something is refused (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """A body for a route that reads it itself, after the gate."""
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": model.model_json_schema()}},
        }
    }


def describe(app: FastAPI, cookie: str) -> dict[str, Any]:
    """The whole description.

    Args:
        app: the application.
        cookie: name of the session's cookie.
    """
    found = deepcopy(app.openapi())  # FastAPI keeps its own
    parts = found.setdefault("components", {})
    parts.setdefault("schemas", {})[_PROBLEM] = Problem.model_json_schema()
    parts["securitySchemes"] = {
        _SCHEME: {
            "type": "apiKey",
            "in": "cookie",
            "name": cookie,
            "description": "Sign in with a browser; there is no account for machines.",
        }
    }
    found["security"] = [{_SCHEME: []}]
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            _complete(operation, method.upper(), path)
    return found


def _complete(operation: dict[str, Any], method: str, path: str) -> None:
    roles = ", ".join(sorted(RULES[method, path].roles))
    operation["description"] = f"{operation.get('description', '')}\n\nRoles: {roles}.".strip()
    answers = _ALWAYS | (_OF_A_RUN if "{run}" in path else {})
    if "parameters" in operation:
        answers |= {HTTPStatus.UNPROCESSABLE_ENTITY: _OF_A_RUN[HTTPStatus.UNPROCESSABLE_ENTITY]}
    if method == "POST":
        answers |= _OF_A_BODY
        operation.setdefault("parameters", []).append(
            {"name": "X-CSRF-Token", "in": "header", "required": True, "schema": {"type": "string"},
             "description": "The token that `/api/session` gives."}
        )  # fmt: skip
    schema = {"$ref": f"#/components/schemas/{_PROBLEM}"}
    for status, words in sorted(answers.items()):
        operation["responses"][str(status.value)] = {
            "description": words,
            "content": {"application/problem+json": {"schema": schema}},
        }
