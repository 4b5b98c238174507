"""The audit stage: the evidence on the groups of one run, in ``audit/``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from clinimm.audit.modalities import by_modality
from clinimm.audit.policy import Policy, find_policy, load_policy
from clinimm.audit.run_mitigation import (
    MITIGATION_PAGE,
    mitigation_page,
    try_mitigations,
    with_mitigations,
)
from clinimm.audit.run_signals import Kept, signals_of_run
from clinimm.audit.run_studies import Judged, coalitions_of, held_out, studies_of
from clinimm.audit.table.assemble import Audit, Part, assemble
from clinimm.audit.table.signals import signal_files, with_signals
from clinimm.audit.table.write import evidence, write_evidence
from clinimm.audit.waiver import Waiver, load_waivers
from clinimm.core.record import digest_file
from clinimm.evaluate.operating import OperatingPoint
from clinimm.evaluate.stage import read_task
from clinimm.progress import Progress
from clinimm.workspace import Workspace

_MOST_SAID = 3


def run(workspace: Workspace, progress: Progress) -> dict[str, Any]:
    """Audit the run's held-out predictions against its policy.

    Reads the tables of ``predict``, ``cohort/cohort.parquet``, ``cohort/task.json`` and
    ``evaluate/metrics.json`` (for the operating point). A broken rule is a result, not an error: whoever
    gates on it reads ``exit_status`` in ``audit.json``.

    Raises:
        ConfigError: the policy is wrong (exit status 3).
        DataError: the predictions do not fit the cohort (exit status 3).
        MissingStageError: an earlier stage did not run.
    """
    audit, files = evidence_of_run(workspace, policy_of(workspace))
    write_evidence(workspace.stage("audit"), files)
    for line in audit_lines(audit.content):
        progress.say(line)
    return {key: audit.content[key] for key in ("verdict", "exit_status", "sentence")}


def policy_of(workspace: Workspace) -> Policy:
    """The policy that a run is judged by.

    Raises:
        ConfigError: one line a mistake, with ``file:line``.
    """
    return load_policy(find_policy(workspace.config.audit.policy))


def evidence_of_run(workspace: Workspace, policy: Policy) -> tuple[Audit, dict[str, bytes]]:
    """Audit a run, let the detectors look at it and try its mitigations, without writing anything.

    Returns:
        the audit, and path relative to ``audit/`` -> content.
    """
    audit, settings = audit_run(workspace, policy), workspace.config.audit
    path = workspace.need("predict", "predictions.parquet")
    judged, predictions = _judged(workspace.root, policy, _points(workspace)), held_out(path)
    files: dict[str, bytes] = {}
    if settings.detectors:
        signals = signals_of_run(audit.studies, predictions, judged, Kept.read(path.parent), settings)
        audit, files = with_signals(audit, signals), signal_files(signals, f"predict/{path.name}")
    if settings.mitigation is not None:
        trials = try_mitigations(audit.studies, predictions, judged, settings.mitigation)
        audit = with_mitigations(audit, trials)
        files[MITIGATION_PAGE] = mitigation_page(audit.content).encode()
    return audit, evidence(audit, policy) | files


def audit_run(workspace: Workspace, policy: Policy) -> Audit:
    """Audit a run by the rules alone, without writing anything."""
    path = workspace.need("predict", "predictions.parquet")
    judged = _judged(workspace.root, policy, _points(workspace))
    predictions = held_out(path)
    tested = {"kind": "run", "file": "predict/predictions.parquet", "sha256": digest_file(path)}
    audit = audit_predictions(predictions, judged, tested, *_waivers(workspace))
    coalitions = coalitions_of(path.parent, predictions, judged)
    part = None if coalitions is None else by_modality(coalitions, policy)
    return _named(audit, workspace, {"modalities": part})


def audit_export(workspace: Workspace, place: Path, policy: Policy) -> Audit:
    """Audit a run's model on another export that it was validated on; nothing is written.

    The threshold is the one that ships with the model. Subjects whom the model was fitted to are left out.

    Args:
        workspace: the run.
        place: where ``clinimm validate`` left the export's cohort and predictions.
        policy: the rules.
    """
    path = place / "predict" / "predictions.parquet"
    shipped = {name: replace(point, fits={}) for name, point in _points(workspace).items()}
    tested = {"kind": "export", "file": f"{place.name}/predict/{path.name}", "sha256": digest_file(path)}
    judged = _judged(place, policy, shipped)
    audit = audit_predictions(held_out(path), judged, tested, *_waivers(workspace))
    return _named(audit, workspace, {})


def audit_predictions(
    predictions: pd.DataFrame,
    judged: Judged,
    tested: Mapping[str, Any],
    waivers: tuple[Waiver, ...] = (),
    day: date | None = None,
) -> Audit:
    """Audit held-out predictions, class by class.

    Args:
        predictions: columns of ``core.prediction``, the fused model's held-out rows.
        judged: what they are judged by.
        tested: ``kind``, ``file`` and ``sha256`` of what is audited.
        waivers: what may stand although it is broken or undecided.
        day: on which the waivers are looked at.

    Raises:
        DataError: no row has a label, a class has one outcome only, or a predicted subject is not in the
            cohort.
    """
    studies = studies_of(predictions, judged)
    parts = [Part(name, study, judged.points[name].how) for name, study in studies.items()]
    digests = predictions["model_digest"].unique()
    about = dict(tested) | {
        "subjects": int(predictions.loc[predictions["label"].notna(), "subject_id"].nunique()),
        "subject_known": True,
        "model_digest": str(digests[0]) if len(digests) == 1 else None,
    }
    return assemble(parts, judged.policy, about, waivers, day)


def audit_lines(content: Mapping[str, Any]) -> list[str]:
    """The audit for a terminal: one line a finding, the first that each detector found, the sentence last."""
    lines = []
    for row in content["findings"]:
        word = "waived" if row["waived"] else row["verdict"] + ("" if row["gates"] else " (not deciding)")
        lines.append(f"{word:<13} {row['rule']:<14} {row['sentence']}")
    for row in (content["signals"] or {"found": ()})["found"]:
        if row["raised"]:
            lines += [
                f"{'signal':<13} {row['detector']:<14} {text}" for text in row["sentences"][:_MOST_SAID]
            ]
    for trial in content["mitigation"] or ():
        word = "worse" if trial["fails"] else "mitigation"
        lines += [f"{word:<13} {trial['title']}: {text}" for text in trial["sentences"][: 1 + _MOST_SAID]]
    return [*lines, str(content["sentence"])]


def _named(audit: Audit, workspace: Workspace, more: Mapping[str, Any]) -> Audit:
    source = find_policy(workspace.config.audit.policy)
    # Its name and not its place, so that the evidence reads the same wherever it is made again.
    policy = audit.content["policy"] | {"path": source.name, "sha256": digest_file(source)}
    return replace(
        audit, content=audit.content | {"run": workspace.config.name, "policy": policy} | dict(more)
    )


def _judged(root: Path, policy: Policy, points: Mapping[str, OperatingPoint]) -> Judged:
    task = read_task(root / "cohort" / "task.json")
    cohort = pd.read_parquet(root / "cohort" / "cohort.parquet")
    return Judged(cohort, policy, points, task.classes, task.kind)


def _points(workspace: Workspace) -> dict[str, OperatingPoint]:
    metrics = json.loads(workspace.need("evaluate", "metrics.json").read_text(encoding="utf-8"))
    return {row["class_name"]: OperatingPoint.from_json(row["operating_point"]) for row in metrics["classes"]}


def _waivers(workspace: Workspace) -> tuple[tuple[Waiver, ...], date | None]:
    path = workspace.config.audit.waivers
    return ((), None) if path is None else (load_waivers(path), date.today())
