from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

import clinimm.audit
from clinimm.core.errors import ConfigError, DataError
from clinimm.governance.cards.places import NAMES, SETS, pointer_of, show
from clinimm.governance.cards.pointer import AuditDocument, parts, read_audit


def test_pointers_are_those_of_rfc_6901():
    """The examples of RFC 6901, section 5, so far as they are no root."""
    content = {"foo": ["bar", "baz"], "a/b": 1, "m~n": 8, " ": 7}
    document = AuditDocument(content, "")
    for pointer, value in (
        ("/foo", ["bar", "baz"]),
        ("/foo/0", "bar"),
        ("/a~1b", 1),
        ("/m~0n", 8),
        ("/ ", 7),
    ):
        assert document.resolve(pointer) == value
    assert parts("/a~01") == ["a~1"]


@pytest.mark.parametrize("pointer", ["/foo/2", "/foo/-1", "/foo/x", "/none", "foo"])
def test_a_pointer_that_leads_nowhere_is_refused(pointer):
    with pytest.raises(ConfigError):
        AuditDocument({"foo": [1, 2]}, "").resolve(pointer)


def test_another_form_is_refused(tmp_path):
    path = tmp_path / "audit.json"
    path.write_text(json.dumps({"schema": "clinimm.audit/1"}))
    with pytest.raises(DataError, match=r"expected an audit of form clinimm\.audit/2, got clinimm\.audit/1"):
        read_audit(path)
    path.write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        read_audit(path)


def test_every_place_of_every_set_resolves(audit):
    document = AuditDocument(audit, "")
    for name, places in SETS.items():
        for place in places(document):
            assert show(document, place).label, name
    assert [document.resolve(pointer) for pointer in NAMES.values()]
    assert not SETS["amplification"](document)
    gap = {"class_name": "sepsis", "rule": "missed", "metric": "fnr", "attribute": "sex", "level": "female"}
    audit["modalities"] = {"amplification": [gap | {"index": [0.03, 0.01, 0.05]}]}
    (place,) = SETS["amplification"](document)
    assert (show(document, place).value, show(document, place).high) == (0.03, 0.05)


def test_a_hidden_group_shows_nothing(audit):
    document = AuditDocument(audit, "")
    for name in ("subgroups", "representation"):
        assert not [place for place in SETS[name](document) if "(missing)" in place.label]


def test_a_name_that_is_not_known_is_refused():
    with pytest.raises(ConfigError, match="known: code_version"):
        pointer_of("subject")


def test_the_audit_of_these_tests_follows_the_schema(audit):
    """The documents are made from what the audit writes, so both must mean the same form."""
    path = Path(clinimm.audit.__file__).parent / "audit.schema.json"
    jsonschema.validate(audit, json.loads(path.read_text(encoding="utf-8")))
