"""A look at a deployed model: every check of the plan, as one plain value."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from clinimm.core.errors import ConfigError, DataError
from clinimm.core.record import digest_file
from clinimm.monitor.arrival import check_arrival, without_future
from clinimm.monitor.drift import check_drift, check_embeddings
from clinimm.monitor.estimate import check_estimate
from clinimm.monitor.false_alarms import promised
from clinimm.monitor.finding import BREACH, CANNOT_TELL, Finding, worst_first
from clinimm.monitor.gaps import check_gaps
from clinimm.monitor.incident import read_incidents, record_incident
from clinimm.monitor.objections import check_objections
from clinimm.monitor.performance import JUDGED, check_performance
from clinimm.monitor.plan import MonitoringPlan
from clinimm.monitor.predictions import check_predictions
from clinimm.monitor.quality import check_quality
from clinimm.monitor.rollback import propose
from clinimm.monitor.sequential import check_sequence
from clinimm.monitor.snapshot import Snapshot, labelled
from clinimm.provenance import code_version
from clinimm.report.words import plural

SCHEMA = "clinimm.monitor/1"
EXIT_QUIET, EXIT_BREACH, EXIT_CANNOT_TELL, EXIT_BAD_INPUT = 0, 1, 2, 3


@dataclass(frozen=True)
class Looked:
    """What a look found, and the tables behind it for the board.

    Attributes:
        findings: in the order of the parts.
        tables: ``fields``, ``performance``, ``estimates``, ``gaps``, ``paths``, ``objections``.
    """

    findings: tuple[Finding, ...]
    tables: Mapping[str, Any]

    @property
    def exit_status(self) -> int:
        """1 where a breach alarms, else 2 where something needed cannot be told, else 0."""
        if any(one.alarms for one in self.findings):
            return EXIT_BREACH
        return EXIT_CANNOT_TELL if any(one.open for one in self.findings) else EXIT_QUIET


def look(
    reference: Snapshot,
    now: Snapshot,
    plan: MonitoringPlan,
    feedback: pd.DataFrame | None = None,
    deployed: str | None = None,
    day: date | None = None,
) -> Looked:
    """Make every check that the data allow.

    Args:
        reference: how it was when the model was accepted.
        now: how it is.
        plan: limits.
        feedback: clinicians' verdicts; None where nobody collects them.
        deployed: digest of the model that should be in use.
        day: of the look; predictions dated after it are left out, and told. None leaves none out.

    Raises:
        ConfigError: no threshold is known for a class.
        DataError: the two predict nothing in common.
    """
    now, future = without_future(now, day)
    if now.rows.empty:
        raise DataError(f"{now.name}: every prediction is dated after {day}.")
    classes = [name for name in reference.classes if name in now.classes]
    if not classes:
        raise DataError(
            f"{reference.name} predicts {', '.join(reference.classes)} and {now.name} "
            f"{', '.join(now.classes)}: nothing in common."
        )
    drift, fields = check_drift(reference, now, plan)
    findings = [
        *check_quality(reference, now, plan, deployed),
        *check_arrival(reference, now, plan, future),
        *drift,
        *check_embeddings(reference, now, plan),
    ]
    tables: dict[str, list[Any]] = {"performance": [], "estimates": [], "gaps": [], "paths": []}
    for name in classes:
        found, more = _of_class(name, reference, now, plan, len(classes))
        findings += found
        for key, rows in more.items():
            tables[key] += rows
    board: dict[str, Any] | None = None
    if feedback is not None:
        said, board = check_objections(feedback, now.models, plan)
        findings += said
    return Looked(tuple(findings), {**tables, "fields": fields, "objections": board})


def _of_class(
    name: str, reference: Snapshot, now: Snapshot, plan: MonitoringPlan, classes: int
) -> tuple[list[Finding], dict[str, list[Any]]]:
    threshold = _threshold(name, reference, plan)
    before, after = reference.of_class(name), now.of_class(name)
    found = check_predictions(name, before, after, threshold, plan, 2 * classes)
    judged, performance = check_performance(name, before, after, threshold, plan, JUDGED * classes)
    expected, estimates = check_estimate(name, before, after, threshold, plan, 2 * classes)
    gaps, groups = check_gaps(
        name, before, after, (reference.attributes, now.attributes), threshold, plan, classes
    )
    sequence, paths = check_sequence(name, before, after, threshold, plan, classes)
    tables = {"performance": performance, "estimates": estimates, "gaps": groups, "paths": paths}
    return [*found, *judged, *expected, *gaps, *sequence], tables


def _threshold(name: str, reference: Snapshot, plan: MonitoringPlan) -> float:
    found = plan.threshold if plan.threshold is not None else reference.threshold.get(name)
    if found is None:
        raise ConfigError(
            f"no threshold for {name}: give --threshold, or `threshold:` in the plan; {reference.name} has "
            "no operating point of its own."
        )
    return found


def content_of(  # noqa: PLR0913, PLR0917  # what a record of a look tells of
    looked: Looked,
    reference: Snapshot,
    now: Snapshot,
    plan: MonitoringPlan,
    plan_file: Path,
    incidents: Path | None,
    runs_dir: Path | None,
    day: date,
    trusted: Collection[str] = (),
) -> dict[str, Any]:
    """Everything that ``monitor.json`` holds; writes an incident record where the plan asks for one.

    Args:
        looked: of ``look``.
        reference, now, plan: as given to ``look``.
        plan_file: where the plan was read.
        incidents: folder of the records; None writes none.
        runs_dir: folder of the runs, for the proposal.
        day: of the look, on which an incident is seen.
        trusted: public keys of others who record incidents in that folder.

    Raises:
        IntegrityError: an earlier incident record was changed or is gone.
    """
    now, _ = without_future(now, day)
    alarming = [one for one in looked.findings if one.alarms]
    evidence = {"data": now.digest, "reference": reference.digest, "plan": digest_file(plan_file)}
    earlier = [] if incidents is None else read_incidents(incidents, trusted)
    asks = any(one.act == "roll_back" for one in alarming)
    proposal = propose(runs_dir, now.models, earlier).as_json() if asks else None
    incident = None
    if alarming and incidents is not None:
        one = record_incident(incidents, alarming, evidence, now.models, proposal, day, trusted)
        proposal = one.body["proposal"]
        incident = {
            "number": one.number,
            "seen": one.body["seen"],
            "file": one.path.name,
            "digest": one.digest,
        }
    return {
        "schema": SCHEMA,
        "exit_status": looked.exit_status,
        "sentence": _sentence(looked),
        "reference": _described(reference, reference.rows["label"].notna().sum()),
        "now": _described(now, len(labelled(now.rows, plan))),
        "plan": {
            "sha256": evidence["plan"],
            "false_alarms": round(plan.false_alarms, 6),
            **plan.model_dump(by_alias=True, mode="json"),
        },
        "false_alarms": promised(plan, len(labelled(now.rows, plan)), len(now.classes)).as_json(),
        "findings": [one.as_json() | {"alarms": one.alarms, "open": one.open} for one in looked.findings],
        **looked.tables,
        "incident": incident,
        "proposal": proposal,
        "code_version": code_version(),
    }


def _described(snapshot: Snapshot, labels: int) -> dict[str, Any]:
    times = snapshot.times
    return {
        "name": snapshot.name,
        "sha256": snapshot.digest,
        "subjects": int(snapshot.rows["subject_id"].nunique()),
        "predictions": len(snapshot.rows),
        "labels": int(labels),
        "models": snapshot.models,
        "from": None if times is None else times[0].date().isoformat(),
        "to": None if times is None else times[1].date().isoformat(),
    }


def _sentence(looked: Looked) -> str:
    alarming = worst_first([one for one in looked.findings if one.alarms])
    shown = sum(one.verdict == BREACH and not one.alarms for one in looked.findings)
    cannot = sum(one.verdict == CANNOT_TELL for one in looked.findings)
    rest = f" {plural(shown, 'breach', 'breaches')} only to be observed." if shown else ""
    rest += f" {plural(cannot, 'question')} could not be told." if cannot else ""
    if alarming:
        parts = ", ".join(dict.fromkeys(one.part for one in alarming))
        return f"{plural(len(alarming), 'breach', 'breaches')}: {parts}.{rest}"
    if looked.exit_status == EXIT_CANNOT_TELL:
        needed = sum(one.open for one in looked.findings)
        return f"Cannot tell: {plural(needed, 'question')} that the plan needs had too few.{rest}"
    looks = plural(len(looked.findings), "look")
    return f"Nothing was found in {looks}, which is no proof that nothing is there.{rest}"


def summary_lines(content: Mapping[str, Any]) -> Sequence[str]:
    """What the terminal shows: each breach and each open question, then the sentence."""
    lines = [
        f"{'breach' if one['alarms'] else 'observed' if one['verdict'] == BREACH else 'cannot tell':<12} "
        f"{one['part']:<12} {one['sentence']}"
        for one in content["findings"]
        if one["verdict"] == BREACH or one["open"]
    ]
    if content["incident"]:
        lines.append(f"incident {content['incident']['number']}: {content['incident']['file']}")
    if content["proposal"]:
        lines.append(content["proposal"]["sentence"])
    return [*lines, content["sentence"]]
