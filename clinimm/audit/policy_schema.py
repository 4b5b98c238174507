"""The JSON Schema of a policy file, for editors that check while somebody writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clinimm.audit.policy import Policy

SCHEMA_FILE = Path(__file__).with_name("policy.schema.json")
SCHEMA_ID = "clinimm.policy/1"


def policy_schema() -> dict[str, Any]:
    """The JSON Schema of a policy file, made from the very types that read it.

    ``clinimm/audit/policy.schema.json`` holds it for editors; a test keeps the two the same.
    """
    schema = Policy.model_json_schema(by_alias=True)
    rule = schema["$defs"]["Rule"]
    attribute = rule["properties"]["attribute"]
    many = {name: attribute.pop(name) for name in ("type", "items")}
    attribute["anyOf"] = [{"type": "string"}, many]  # one attribute may stand without brackets
    one_end = [{"required": [end], "properties": {end: {"type": "number"}}} for end in ("above", "below")]
    rule["if"] = {"properties": {"stat": {"const": "value"}}}
    rule["then"] = {"oneOf": one_end, "properties": {"margin": {"type": "null"}}}
    rule["else"] = {"required": ["margin", "attribute"], "properties": {"margin": {"type": "number"}}}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID} | schema
