"""Whether an act is allowed, now: everything that the gate looks at, in one place.

The registry, the store plug-in, the pages and the server all ask here; none of them believes another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from clinimm.core.chain import Head
from clinimm.core.durable import write_durably
from clinimm.core.errors import CliniMMError, IntegrityError
from clinimm.gate.approval import Approval, Evidence, parse_approval, read_approvals
from clinimm.gate.evidence import check_waivers, gather
from clinimm.gate.judge import judge_all, require
from clinimm.gate.log import PROMOTED, GateLog, digests_of, log_folder, read_log
from clinimm.gate.refused import GateRefused
from clinimm.gate.rules import Act, Governance, load_governance

GATE_FOLDER = "gate"
FILED_NAME = "filed.json"


@dataclass(frozen=True)
class Filed:
    """``gate/filed.json``: what the gate did with this run, and the log's end just after.

    Attributes:
        version: in the registry.
        head_number, head_digest: end of the gate's log then; the log must still hold that line.
        promoted: whether the alias ``champion`` was moved to it.
    """

    version: int
    head_number: int
    head_digest: str
    promoted: bool

    @property
    def head(self) -> Head:
        """The end of the log that was noted."""
        return Head(self.head_number, self.head_digest)

    def write(self, root: Path) -> None:
        """Write it into a run."""
        text = json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"
        write_durably(root / GATE_FOLDER / FILED_NAME, text.encode("ascii"))

    @classmethod
    def read(cls, root: Path) -> Filed | None:
        """That of a run, or None.

        Raises:
            GateRefused: it cannot be read.
        """
        path = root / GATE_FOLDER / FILED_NAME
        if not path.is_file():
            return None
        try:
            found = cls(**json.loads(path.read_text(encoding="utf-8")))
            if not isinstance(found.head_number, int) or not isinstance(found.head_digest, str):
                raise ValueError("another form")
            return found
        except (ValueError, TypeError) as error:
            raise GateRefused(
                "changed-files",
                f"{path}: cannot be read. Find out who changed it; then delete it and run "
                "clinimm gate register.",
            ) from error


@dataclass(frozen=True)
class Allowed:
    """An act that is allowed.

    Attributes:
        evidence: what was looked at.
        approvals: which let it through, one a role.
        log: the gate's log as it was read.
    """

    evidence: Evidence
    approvals: tuple[Approval, ...]
    log: GateLog

    @property
    def until(self) -> date:
        """The last day on which all of them count."""
        return min(approval.until for approval in self.approvals)

    @property
    def sentence(self) -> str:
        """Who approved, and until when."""
        who = " and ".join(f"{approval.person} ({approval.role})" for approval in self.approvals)
        return f"approved by {who} until {self.until.isoformat()}"


def check_run(root: Path, act: Act, governance: Governance, now: datetime | None = None) -> Allowed:
    """Whether a run's model may be registered, promoted or served.

    Served is the champion alone: the model that the gate's log tells was promoted last under its name.

    Args:
        root: the run.
        act: what is to be done.
        governance: whom the gate trusts.
        now: UTC; None is the clock.

    Raises:
        GateRefused: no; says which check and why.
        ConfigError: the folder is no run.
    """
    allowed = _check_approved(root, act, governance, now or datetime.now(UTC))
    if act == "serve":
        _check_champion(root.name, allowed.evidence, allowed.log)
    return allowed


def _check_approved(root: Path, act: Act, governance: Governance, now: datetime) -> Allowed:
    evidence = gather(root, governance)
    filed = Filed.read(root)
    log = read_log(log_folder(root.parent), governance, filed.head if filed else None)
    texts = read_approvals(root / GATE_FOLDER)
    judged = judge_all(texts, evidence, governance, log.revoked, now)
    allowed = Allowed(evidence, require(judged, act, governance), log)
    check_waivers(root, now.date())
    return allowed


def could_return(root: Path, governance: Governance | None = None) -> Allowed | None:
    """That a registrar could promote a run's model (again) and it would be served then, or None.

    This is what an earlier champion is after another was promoted: approved, and superseded.
    """
    try:
        trusted = governance or load_governance()
        check_run(root, "promote", trusted)
        allowed = _check_approved(root, "serve", trusted, datetime.now(UTC))
    except CliniMMError:
        return None
    return allowed if allowed.log.last(PROMOTED, allowed.evidence) is not None else None


def _check_champion(run: str, evidence: Evidence, log: GateLog) -> None:
    """The newest promotion under the model's name is of this model with this audit."""
    if log.last(PROMOTED, evidence) is None:
        raise GateRefused(
            "not-promoted",
            f"{run}: the gate's log knows no promotion of this model with this audit; a registrar runs "
            f"clinimm gate promote {run}.",
        )
    newest = log.champion(evidence.model_name)
    if newest is not None and newest.get("digests") != digests_of(evidence):
        raise GateRefused(
            "superseded",
            f"{run}: version {newest.get('version')} of {evidence.model_name} (run {newest.get('run')}) was "
            f"promoted after it, on {str(newest.get('time'))[:10]}. To go back to this one, a registrar runs "
            f"clinimm gate promote {run}.",
        )


def release_of(root: Path, governance: Governance | None = None) -> Allowed | None:
    """That a run may be served, or None: what pages ask before they leave “research use only” out."""
    try:
        return check_run(root, "serve", governance or load_governance())
    except CliniMMError:
        return None


def standing(root: Path, governance: Governance) -> Mapping[Act, Allowed | GateRefused]:
    """Every act with what the gate says to it."""
    found: dict[Act, Allowed | GateRefused] = {}
    for act in governance.rules.acts:
        try:
            found[act] = check_run(root, act, governance)
        except GateRefused as refused:
            found[act] = refused
    return found


def approvals(root: Path) -> Mapping[str, Approval | None]:
    """File -> the approval that lies in a run, unchecked; None where it cannot be read."""
    found: dict[str, Approval | None] = {}
    for name, text in read_approvals(root / GATE_FOLDER).items():
        try:
            found[name] = parse_approval(text, name)
        except IntegrityError:
            found[name] = None
    return found


def as_json(found: Mapping[Act, Allowed | GateRefused]) -> dict[str, Any]:
    """``standing`` as plain values."""
    return {
        act: {"allowed": True, "until": one.until.isoformat(), "sentence": one.sentence}
        if isinstance(one, Allowed)
        else {"allowed": False, "code": one.code, "reason": one.reason}
        for act, one in found.items()
    }
