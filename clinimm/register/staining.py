"""The register stage of a staining run: signed manifest, tracking, and files without a flavour.

A stainer is tracked as files (safetensors and JSON): it is run by ``clinimm stain``, which writes
provenance, and by nothing that would not.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clinimm.core.record import RunRecord, digest_file
from clinimm.progress import Progress
from clinimm.register.artifact import write_artifact
from clinimm.register.gate import decide
from clinimm.register.manifest import MANIFEST_NAME, write_manifest
from clinimm.register.mlflow import track_files, tracked_files
from clinimm.register.registration import Registration, sentence
from clinimm.register.sbom import SBOM_NAME, write_sbom
from clinimm.report.staining import write_figures
from clinimm.workspace import Workspace

_JUDGED = ("predict/tiles.parquet", "cohort/cohort.parquet")


def run(workspace: Workspace, progress: Progress) -> dict[str, Any]:
    """Sign and track the stainer of this run, so that it can be approved and registered.

    Raises:
        AuditGateError: the audit is missing or judged other predictions.
        MissingStageError: there is no stainer or no evaluation yet.
    """
    model = workspace.need("train", "model")
    workspace.need("evaluate", "metrics.json")
    audited = _audited(workspace)
    decision = decide(
        _audit(workspace), audited, {name: digest_file(workspace.need(*name.split("/"))) for name in _JUDGED}
    )
    write_sbom(workspace.stage("register") / SBOM_NAME, workspace.config.name, _digest(model))
    manifest = write_manifest(
        workspace, _digest(model), audited.get("policy file"), workspace.config.register_.signing_key_file
    )
    with tempfile.TemporaryDirectory(prefix="clinimm-figures-") as folder:
        figures = Path(folder) / "figures"
        figures.mkdir()
        write_figures(workspace, figures)
        tracked = track_files(workspace, model, figures)
    write_artifact(
        workspace.stage("register"),
        tracked_files(workspace, tracked),
        workspace.config.register_.signing_key_file,
    )
    registration = Registration(
        **asdict(tracked),
        candidate=decision.candidate,
        reason=decision.reason,
        sentence=sentence(workspace.config.name, decision),
        model_digest=manifest.model_digest,
        manifest_digest=digest_file(workspace.root / "register" / MANIFEST_NAME),
        key_id=manifest.key_id,
        registered=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    registration.write(workspace.stage("register"))
    progress.say(f"  {registration.sentence}")
    return {"candidate": "yes" if registration.candidate else "no"}


def _digest(model: Path) -> str:
    from clinimm.staining.stainer import stainer_digest  # brings torch

    return stainer_digest(model)


def _audit(workspace: Workspace) -> dict[str, Any] | None:
    path = workspace.root / "audit" / "audit.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _audited(workspace: Workspace) -> dict[str, str]:
    record = RunRecord.read(workspace.root / "audit")
    return {} if record is None else record.inputs
