"""The register stage: bill of materials, signed manifest, tracking; the gate registers later."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clinimm.core.record import RunRecord, digest_file
from clinimm.progress import Progress
from clinimm.register.artifact import write_artifact
from clinimm.register.gate import Decision, decide
from clinimm.register.manifest import MANIFEST_NAME, Manifest, write_manifest
from clinimm.register.mlflow import Tracked, track, tracked_files
from clinimm.register.registration import Registration, sentence
from clinimm.register.sbom import SBOM_NAME, write_sbom
from clinimm.workspace import Workspace

_JUDGED = ("predict/predictions.parquet", "cohort/cohort.parquet")


def run(workspace: Workspace, progress: Progress) -> dict[str, Any]:
    """Sign and track the model of this run, so that it can be approved and registered.

    Raises:
        AuditGateError: the audit is missing or judged other predictions.
        MissingStageError: there is no model or no evaluation yet.
    """
    workspace.need("train", "model")
    workspace.need("evaluate", "metrics.json")
    decision = decide(_audit(workspace), _audited(workspace), _now(workspace))
    model_digest = _model_digest(workspace.root / "train" / "model")
    write_sbom(workspace.stage("register") / SBOM_NAME, workspace.config.name, model_digest)
    manifest = write_manifest(
        workspace,
        model_digest,
        _audited(workspace).get("policy file"),
        workspace.config.register_.signing_key_file,
    )
    tracked = track(workspace)
    write_artifact(
        workspace.stage("register"),
        tracked_files(workspace, tracked),
        workspace.config.register_.signing_key_file,
    )
    registration = _registration(workspace, tracked, decision, manifest)
    registration.write(workspace.stage("register"))
    progress.say(f"  {registration.sentence}")
    return {"candidate": "yes" if registration.candidate else "no"}


def _registration(
    workspace: Workspace, tracked: Tracked, decision: Decision, manifest: Manifest
) -> Registration:
    return Registration(
        **asdict(tracked),
        candidate=decision.candidate,
        reason=decision.reason,
        sentence=sentence(workspace.config.name, decision),
        model_digest=manifest.model_digest,
        manifest_digest=digest_file(workspace.root / "register" / MANIFEST_NAME),
        key_id=manifest.key_id,
        registered=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _model_digest(folder: Path) -> str:
    from clinimm.model import model_digest  # brings torch

    return model_digest(folder)


def _audit(workspace: Workspace) -> dict[str, Any] | None:
    path = workspace.root / "audit" / "audit.json"
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _audited(workspace: Workspace) -> dict[str, str]:
    """What the audit read, by the record that it left."""
    record = RunRecord.read(workspace.root / "audit")
    return {} if record is None else record.inputs


def _now(workspace: Workspace) -> dict[str, str]:
    return {name: digest_file(workspace.need(*name.split("/"))) for name in _JUDGED}
