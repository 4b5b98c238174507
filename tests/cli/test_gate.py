"""The verbs of the gate, as a reviewer and a registrar type them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clinimm.cli.app import run
from clinimm.gate.rules import Person, load_governance
from clinimm.yaml_lines import read_yaml
from tests.gate.conftest import Hospital, empty_store, hospital, registry, workspace

__all__ = ["empty_store", "hospital", "registry", "workspace"]


def test_from_approval_to_champion_and_back(registry: Hospital, capsys: pytest.CaptureFixture[str]) -> None:
    root, key = str(registry.root), str(registry.key("registrar"))
    assert run(["gate", "status", root]) == 1
    assert "no-approval" in capsys.readouterr().out
    assert run(["gate", "register", root, "--key", key]) == 2  # the log tells of it, without a version
    for role in ("auditor", "clinical_safety_officer"):
        assert run(["approve", root, "--role", role, "--key", str(registry.key(role))]) == 0
    assert run(["gate", "register", root, "--key", key]) == 0
    assert run(["gate", "promote", root, "--key", key]) == 0
    head = capsys.readouterr().out.splitlines()[-1].partition("log: ")[2]
    assert run(["gate", "status", root]) == 0
    assert run(["gate", "champion", root]) == 0
    assert run(["gate", "log", str(registry.root.parent), "--head", head]) == 0
    told = capsys.readouterr().out
    assert "promoted      hand version 1 by Rita Registrar" in told
    assert "None" not in told
    identifier = next((registry.root / "gate").glob("*.sigstore.json")).name.split(".")[0]
    assert run(["gate", "revoke", root, identifier, "--reason", "drift", "--key", key]) == 0
    capsys.readouterr()
    assert run(["gate", "status", root, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["serve"]["code"] == "revoked-approval"


def test_approval_is_signed_where_the_run_is_not(hospital: Hospital, tmp_path: Path) -> None:
    asked, signed = tmp_path / "asked.json", tmp_path / "signed.json"
    assert run(["gate", "request", str(hospital.root), "--out", str(asked)]) == 0
    away = ["--governance", str(hospital.governance.folder), "--out", str(signed)]
    key = ["--role", "auditor", "--key", str(hospital.key("auditor"))]
    assert run(["approve", str(asked), *key, *away]) == 0
    assert run(["gate", "add", str(hospital.root), str(signed)]) == 0
    assert len(list((hospital.root / "gate").glob("*.sigstore.json"))) == 1


def test_approval_that_would_not_count_is_not_written(
    hospital: Hospital, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = ["--key", str(hospital.key("auditor")), "--out", str(tmp_path / "x.json")]
    root = str(hospital.root)
    assert run(["approve", root, "--role", "clinical_safety_officer", *key]) == 2
    assert "wrong-role" in capsys.readouterr().err
    assert run(["approve", root, "--role", "auditor", "--days", "9999", *key]) == 2
    assert "too-long" in capsys.readouterr().err
    assert not (tmp_path / "x.json").exists()


def test_new_key_prints_an_entry_that_the_rules_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    private = tmp_path / "anna.key"
    command = ["gate", "keygen", "Anna", "--role", "clinical_lead", "--out", str(private)]
    assert run(command) == 0
    (tmp_path / "entry.yaml").write_text("people:\n" + capsys.readouterr().out)
    (entry,) = read_yaml(tmp_path / "entry.yaml").value["people"]
    found = Person.model_validate(entry)
    assert (found.name, found.roles) == ("Anna", ("clinical_lead",))
    assert found.keys[0].public.strip() == (tmp_path / "anna.pub").read_text().strip()
    assert run(command) == 2 and "never overwritten" in capsys.readouterr().err


def test_each_verb_in_the_wrong_order_tells_the_step_that_comes_first(
    registry: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    root, key = str(registry.root), ["--key", str(registry.key("registrar"))]
    runs = str(registry.root.parent)

    def said(code: int, *command: str) -> str:
        assert run(list(command)) == code
        found = capsys.readouterr()
        return f"{found.out} {found.err}"

    assert "begins with clinimm gate register" in said(2, "gate", "log", runs)
    assert "clinimm gate log" in said(2, "gate", "countersign", runs, *key)
    assert "clinimm approve RUN --role auditor" in said(2, "gate", "register", root, *key)
    for role in ("auditor", "clinical_safety_officer"):
        mine = ["--role", role, "--key", str(registry.key(role))]
        told = said(0, "approve", root, *mine)
    assert f"next: a registrar runs: clinimm gate register {root}" in told
    assert f"clinimm gate register {root}" in said(2, "gate", "promote", root, *key)
    assert "clinimm gate promote" in said(2, "gate", "champion", root)
    assert f"next: a registrar runs: clinimm gate promote {root}" in said(0, "gate", "register", root, *key)
    assert "clinimm gate promote" in said(2, "gate", "champion", root)
    said(0, "gate", "promote", root, *key)
    assert "next      nothing; it is served" in said(0, "gate", "status", root)


def test_signer_without_a_key_or_with_another_role_is_told_what_to_do(
    hospital: Hospital, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, key = str(hospital.root), str(tmp_path / "none.key")
    assert run(["approve", root, "--role", "auditor", "--key", key]) == 2
    assert "clinimm gate keygen NAME --role auditor" in capsys.readouterr().err
    assert run(["approve", root, "--role", "physician", "--key", str(hospital.key("auditor"))]) == 2
    assert "may not approve as physician, but as auditor" in capsys.readouterr().err
    assert run(["gate", "keygen", "A", "--role", "physician", "--out", key]) == 2
    assert "expected author, auditor" in capsys.readouterr().err
    assert run(["gate", "keygen", "A", "--out", str(tmp_path / "a.pub")]) == 2
    assert "another ending" in capsys.readouterr().err
    assert run(["gate", "keygen", "A", "--out", key]) == 0
    assert "keep it to yourself" in capsys.readouterr().err
    assert run(["approve", root, "--role", "auditor", "--key", key]) == 2
    assert "clinimm gate keygen` printed" in capsys.readouterr().err


def test_governance_is_the_folder_that_is_given(hospital: Hospital, tmp_path: Path) -> None:
    assert run(["gate", "status", str(hospital.root), "--governance", str(tmp_path)]) == 2
    assert load_governance().folder == hospital.governance.folder
