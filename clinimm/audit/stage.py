"""The audit stage: ``audit.json`` and ``audit.html``."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from clinimm.audit.audit import AuditResult, audit_predictions
from clinimm.audit.page import audit_page
from clinimm.audit.policy import Policy, find_policy, load_policy
from clinimm.core.record import digest_file, write_text
from clinimm.evaluate.assemble import HELD_OUT
from clinimm.evaluate.operating import OperatingPoint
from clinimm.evaluate.stage import read_task
from clinimm.progress import Progress
from clinimm.workspace import Workspace


def run(workspace: Workspace, progress: Progress) -> dict[str, Any]:
    """Audit the run's held-out predictions against its policy.

    Reads ``predict/predictions.parquet``, ``cohort/cohort.parquet``, ``cohort/task.json`` and
    ``evaluate/metrics.json`` (for the operating point). A broken rule is a result, not an error:
    whoever gates on it reads ``exit_status`` in ``audit.json``.

    Raises:
        ConfigError: the policy is wrong (exit status 3).
        DataError: the predictions do not fit the cohort (exit status 3).
        MissingStageError: an earlier stage did not run.
    """
    path = find_policy(workspace.config.audit.policy)
    policy = load_policy(path)
    result = audit_run(workspace, policy)
    content = result.as_json() | {
        "run": workspace.config.name,
        "policy": {"path": str(path), "sha256": digest_file(path), "rules": _rules(policy)},
    }
    folder = workspace.stage("audit")
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
    write_text(folder / "audit.json", text + "\n")
    write_text(folder / "audit.html", audit_page(content))
    for line in audit_lines(result):
        progress.say(line)
    return {"verdict": result.verdict, "exit_status": result.exit_status, "sentence": result.sentence}


def audit_run(workspace: Workspace, policy: Policy) -> AuditResult:
    """Audit a run without writing anything."""
    task = read_task(workspace.need("cohort", "task.json"))
    metrics = json.loads(workspace.need("evaluate", "metrics.json").read_text(encoding="utf-8"))
    predictions = pd.read_parquet(workspace.need("predict", "predictions.parquet"))
    cohort = pd.read_parquet(workspace.need("cohort", "cohort.parquet"))
    points = {
        row["class_name"]: OperatingPoint.from_json(row["operating_point"]) for row in metrics["classes"]
    }
    held_out = predictions[predictions["split"] == HELD_OUT]
    return audit_predictions(held_out, cohort, policy, points, task.classes, task.kind)


def audit_lines(result: AuditResult) -> list[str]:
    """The audit for a terminal: one line a finding, the sentence last."""
    return [f"{row.verdict:<13} {row.rule:<14} {row.sentence}" for row in result.findings] + [result.sentence]


def _rules(policy: Policy) -> list[dict[str, Any]]:
    return [rule.model_dump(mode="json") for rule in policy.rules]
