"""What ``clinimm audit`` audits: a run, or its model on another hospital's export."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clinimm.cli.common import load_target
from clinimm.core.errors import ConfigError
from clinimm.progress import Progress
from clinimm.workspace import Workspace


def audit_target(
    target: Path, data: Path | None, check: bool, settings: list[str] | None
) -> tuple[Mapping[str, Any], Path]:
    """The content of ``audit.json``, and where its page is.

    Args:
        target: pipeline file, run's folder or run's name.
        data: another export, scored by the run's model first; None for the run's own held-out subjects.
        check: compare with the evidence that is there, and write nothing.
        settings: ``key.sub=value`` as given by the user.

    Raises:
        IntegrityError: the evidence is not what the predictions, the policy and the code give.
    """
    config = load_target(target, settings)
    workspace = Workspace(config)
    if data is not None:
        return _export(workspace, data, check, settings)
    if check:
        return _again(workspace)
    from clinimm.pipeline import run_stage

    run_stage(config, "audit", Progress(quiet=True))
    path = workspace.need("audit", "audit.json")
    return json.loads(path.read_text(encoding="utf-8")), path.with_suffix(".html")


def _again(workspace: Workspace) -> tuple[Mapping[str, Any], Path]:
    from clinimm.audit.stage import evidence_of_run, policy_of
    from clinimm.audit.table.write import check_evidence

    workspace.config.require_diagnosis("`clinimm audit --check`")
    page = workspace.need("audit", "audit.html")
    audit, files = evidence_of_run(workspace, policy_of(workspace))
    check_evidence(page.parent, files)
    return audit.content, page


def _export(
    workspace: Workspace, data: Path, check: bool, settings: list[str] | None
) -> tuple[Mapping[str, Any], Path]:
    from clinimm.audit.stage import audit_export, policy_of
    from clinimm.audit.table.write import check_evidence, evidence, write_evidence
    from clinimm.validate import validate_run

    if not data.is_dir():
        raise ConfigError(f"--data {data}: there is no such folder.")
    policy = policy_of(workspace)
    asked = [one for one in settings or () if not one.startswith(("runs_dir=", "audit."))]
    scored = validate_run(workspace.config, data, Progress(quiet=True), asked)
    place = scored.predictions.parent.parent
    audit = audit_export(workspace, place, policy)
    (check_evidence if check else write_evidence)(place / "audit", evidence(audit, policy))
    return audit.content, place / "audit" / "audit.html"
