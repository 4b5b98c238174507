"""The check of the folder ``governance/``: every cell filled, every name real, nothing overdue."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TypeVar

from clinimm.audit.policy import load_policy
from clinimm.audit.waiver import load_waivers
from clinimm.config import PipelineConfig
from clinimm.core.errors import ConfigError
from clinimm.governance.cards.card import CARD_FILE, all_topics, load_card
from clinimm.governance.change import CHANGE_FILE, ChangeControl, read_change_control
from clinimm.governance.hazards import HAZARDS_FILE, Hazards, read_hazards
from clinimm.governance.incident import load_incident
from clinimm.governance.known_keys import known_keys
from clinimm.governance.nodes import missing_reason
from clinimm.governance.owners import OWNERS_FILE, Owners, load_owners
from clinimm.governance.trace import Row, Seen, trace

ReadT = TypeVar("ReadT")

#: Texts that have to be there, and the headings without which they say too little.
TEXTS = {
    "intended-use.md": ("What it may be used for", "What it must not be used for", "Who uses it"),
    "monitoring-plan.md": ("What is watched", "Alarms and what follows", "Rollback", "Who answers for it"),
    "decommissioning.md": ("When", "Steps", "What is kept", "Who is told"),
}
#: What stands before keys that are not the pipeline file's.
_OTHER_KEYS = ("cohort_file.", "policy", "code")


@dataclass(frozen=True)
class Checked:
    """What the check found.

    Attributes:
        rows: the traceability table.
        problems: one sentence each, with the file; empty where all is well.
        notes: what is no problem and worth knowing.
    """

    rows: tuple[Row, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def check_folder(folder: Path, seen: Seen, day: date) -> Checked:
    """Check a governance folder.

    Args:
        folder: ``governance/``.
        seen: what is known of tests and evidence.
        day: on which waivers and incidents are looked at.
    """
    problems: list[str] = []

    def read(load: Callable[[Path], ReadT], name: str) -> ReadT | None:
        try:
            return load(folder / name)
        except ConfigError as error:
            problems.extend(str(error).splitlines())
            return None

    policy = read(load_policy, "policy.yaml")
    owners = read(load_owners, OWNERS_FILE)
    hazards = read(lambda path: read_hazards(path)[0], HAZARDS_FILE)
    plan = read(lambda path: read_change_control(path)[0], CHANGE_FILE)
    card = read(lambda path: load_card([path]), CARD_FILE)
    rows: list[Row] = []
    if hazards is not None:
        rows, wrong = trace(hazards, seen)
        problems += [f"{HAZARDS_FILE}: {text}" for text in wrong]
    problems += _texts(folder)
    if plan is not None:
        problems += _plan(plan)
    if owners is not None:
        used = {topic.owner for topic in all_topics().values()}
        used |= {one.owner for one in (plan.modifications if plan else ())}
        used |= {text.owner for text in (card or {}).values() if text.owner}
        problems += [
            f"{OWNERS_FILE}: nobody has the role {role}" for role in sorted(used - set(owners.roles))
        ]
    known = {rule.id for rule in policy.rules} if policy else set()
    problems += _waivers(folder, known, day)
    problems += _incidents(folder, hazards, owners, seen.root, day)
    return Checked(tuple(rows), tuple(problems), tuple(_notes(owners, hazards)))


def _texts(folder: Path) -> Iterable[str]:
    for name, headings in TEXTS.items():
        path = folder / name
        if not path.is_file():
            yield f"{name}: there is no such text"
            continue
        sections = _sections(path.read_text(encoding="utf-8"))
        for heading in headings:
            if not sections.get(heading, "").strip():
                yield f"{name}: nothing stands under `## {heading}`"


def _sections(text: str) -> dict[str, str]:
    parts = re.split(r"^## +(.+?)\s*$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _plan(plan: ChangeControl) -> Iterable[str]:
    known = known_keys(PipelineConfig)
    for modification in plan.modifications:
        for allowed in modification.allows:
            if not allowed.key.startswith(_OTHER_KEYS) and not known.matches(allowed.key):
                yield f"{CHANGE_FILE}: {modification.id}: the pipeline file has no setting {allowed.key}"


def _waivers(folder: Path, rules: set[str], day: date) -> Iterable[str]:
    for path in sorted((folder / "waivers").glob("*.yaml")):
        try:
            waivers = load_waivers(path)
        except ConfigError as error:
            yield from str(error).splitlines()
            continue
        for waiver in waivers:
            name = f"waivers/{path.name}: {waiver.rule}"
            if waiver.rule not in rules:
                yield f"{name}: the policy has no such rule"
            if waiver.ended(day):
                yield f"{name}: ended on {waiver.until}; mend the finding, or decide again and take it out"


def _incidents(
    folder: Path, hazards: Hazards | None, owners: Owners | None, root: Path, day: date
) -> Iterable[str]:
    known = {hazard.id for hazard in hazards.hazards} if hazards else set()
    records = {path.name for path in (folder / "incidents").glob("*.json")}
    for path in sorted((folder / "incidents").glob("*.yaml")):
        try:
            incident = load_incident(path)
        except ConfigError as error:
            yield from str(error).splitlines()
            continue
        name = f"incidents/{path.name}"
        if incident.record and not (path.parent / incident.record).is_file():
            yield f"{name}: there is no record {incident.record}"
        records.discard(incident.record)
        if incident.hazard not in known:
            yield f"{name}: there is no hazard {incident.hazard}"
        if owners is not None and incident.owner not in owners.roles:
            yield f"{name}: nobody has the role {incident.owner}"
        if incident.overdue(day):
            yield f"{name}: was to be closed by {incident.due}"
        for test in incident.tests:
            if reason := missing_reason(root, test):
                yield f"{name}: {test}: {reason}"
    for record in sorted(records):
        yield f"incidents/{record}: no incident answers this record; write one whose `record` names it"


def _notes(owners: Owners | None, hazards: Hazards | None) -> Iterable[str]:
    if owners is not None and (unnamed := [role.title for role in owners.roles.values() if not role.who]):
        yield f"Nobody is named yet as {', '.join(unnamed)} ({OWNERS_FILE})."
    if hazards is not None:
        tolerated = [one.id for one in hazards.hazards if one.because]
        if tolerated:
            yield f"Residual risks that are only tolerable, with their reason: {', '.join(tolerated)}."
