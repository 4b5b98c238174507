"""A signed run, people with keys, and a governance folder that lists them."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from clinimm.core.bundle import files_of
from clinimm.core.keys import ECDSA, PUBLIC_SUFFIX, make_pair
from clinimm.core.record import RunRecord, digest_bytes, digest_file
from clinimm.gate import actions
from clinimm.gate.approval import APPROVAL_SUFFIX, Evidence, Terms, sign_approval
from clinimm.gate.evidence import gather
from clinimm.gate.rules import Governance, load_governance
from clinimm.register.artifact import write_artifact
from clinimm.register.manifest import write_manifest
from clinimm.register.registration import Registration
from clinimm.settings import write_settings
from clinimm.workspace import Workspace
from tests.register.conftest import empty_store, workspace

__all__ = ["empty_store", "workspace"]

NOW = datetime.now(UTC)
TODAY = NOW.date()
#: Who there is: name, role.
PEOPLE = (
    ("Ada Author", "author"),
    ("Otto Auditor", "auditor"),
    ("Cleo Safety", "clinical_safety_officer"),
    ("Rita Registrar", "registrar"),
)


@dataclass(frozen=True)
class Hospital:
    """The pieces that an attack plays with."""

    workspace: Workspace
    governance: Governance
    keys: Path

    @property
    def root(self) -> Path:
        return self.workspace.root

    def key(self, role: str) -> Path:
        return self.keys / f"{role}.key"

    def evidence(self) -> Evidence:
        return gather(self.root, self.governance)

    def sign(
        self, role: str, evidence: Evidence | None = None, key: Path | None = None, **terms: Any
    ) -> Path:
        """Put an approval into the run without any check, as somebody with write access could."""
        name = dict((two, one) for one, two in PEOPLE)[role]
        wanted = Terms(name, role, TODAY + timedelta(days=90), made=NOW)
        identifier, text = sign_approval(
            evidence or self.evidence(), replace(wanted, **terms), key or self.key(role)
        )
        path = self.root / "gate" / f"{identifier}{APPROVAL_SUFFIX}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def approve(self) -> None:
        for role in ("auditor", "clinical_safety_officer"):
            self.sign(role)

    def register(self) -> int:
        return actions.register(self.root, self.governance, self.key("registrar")).version

    def promote(self) -> int:
        return actions.promote(self.root, self.governance, self.key("registrar")).version

    def write_rules(self, change: Any) -> None:
        """Change ``gate.yaml``; the object that a test holds stays as it was."""
        path = self.governance.folder / "gate.yaml"
        rules = YAML(typ="safe").load(path.read_text())
        change(rules)
        with path.open("w") as stream:
            YAML(typ="safe").dump(rules, stream)

    def again(self) -> "Hospital":
        """With the governance folder read anew."""
        return replace(self, governance=load_governance(self.governance.folder))


def write_governance(folder: Path, keys: Path) -> Governance:
    folder.mkdir()
    (folder / "policy.yaml").write_text("schema: clinimm.policy/1\n")
    (folder / "intended-use.md").write_text("For chest pain.\n")
    people = []
    for name, role in PEOPLE:
        make_pair(keys / f"{role}.key", ECDSA)
        key = {
            "public": (keys / f"{role}{PUBLIC_SUFFIX}").read_text(),
            "valid_from": TODAY - timedelta(days=400),
            "valid_until": TODAY + timedelta(days=400),
        }
        people.append({"name": name, "roles": [role], "keys": [key]})
    rules = {
        "schema": "clinimm.gate/1",
        "intended_use": "intended-use.md",
        "acts": {
            "register": ["auditor"],
            "promote": ["auditor", "clinical_safety_officer"],
            "serve": ["auditor", "clinical_safety_officer"],
        },
        "people": people,
    }
    with (folder / "gate.yaml").open("w") as stream:
        YAML(typ="safe").dump(rules, stream)
    return load_governance(folder)


def sign_run(workspace: Workspace, governance: Governance, author: Path, **audit: Any) -> None:
    """Audit, manifest and registration of a run, as its stages leave them."""
    root, policy = workspace.root, digest_file(governance.folder / "policy.yaml")
    content = {"exit_status": 0, "verdict": "pass", "findings": [], "waivers": [], **audit}
    (root / "audit" / "audit.json").write_text(json.dumps(content))
    record = RunRecord.read(root / "audit")
    assert record is not None
    replace(record, inputs={**record.inputs, "policy file": policy}).write(root / "audit")
    parts = [digest_file(root / "train" / "model" / name) for name in ("config.json", "model.safetensors")]
    manifest = write_manifest(workspace, digest_bytes("".join(parts).encode()), policy, author)
    write_artifact(root / "register", files_of(root / "train" / "model"), author)
    store = f"sqlite:///{(workspace.config.runs_dir / 'mlflow.db').absolute()}"
    name = workspace.config.register_.model_name or workspace.config.name
    Registration(
        name, "", store, (root / "train" / "model").as_uri(), None, True, "", "", manifest.model_digest,
        digest_file(root / "register" / "manifest.json"), manifest.key_id, "2026-01-01T00:00:00+00:00",
    ).write(root / "register")  # fmt: skip


def another_run(one: Hospital, name: str, weights: bytes, model_name: str | None = None) -> Hospital:
    """A second run beside the first, with other weights, signed by the same author."""
    shutil.copytree(one.root, one.root.parent / name)
    config = one.workspace.config
    named = config.register_.model_copy(update={"model_name": model_name})
    config = config.model_copy(update={"name": name, "register_": named})
    other = Workspace(config)
    write_settings(config, other.root)
    shutil.rmtree(other.root / "gate", ignore_errors=True)
    (other.root / "train" / "model" / "model.safetensors").write_bytes(weights)
    sign_run(other, one.governance, one.key("author"))
    return replace(one, workspace=other)


@pytest.fixture
def hospital(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hospital:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    governance = write_governance(tmp_path / "governance", tmp_path / "keys")
    monkeypatch.setenv("CLINIMM_GOVERNANCE", str(governance.folder))
    found = Hospital(workspace, governance, tmp_path / "keys")
    sign_run(workspace, governance, found.key("author"))
    return found


@pytest.fixture
def registry(hospital: Hospital, empty_store: Path) -> Hospital:
    """The same with a real MLflow database."""
    shutil.copy(empty_store, hospital.workspace.config.runs_dir / "mlflow.db")
    assert files_of(hospital.root / "train" / "model")
    return hospital
