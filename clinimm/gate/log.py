"""The gate's log: what was registered, promoted, withdrawn and refused, by whom, on what evidence.

It is chained and its end is signed (``clinimm/core/chained_log.py``) by a registrar. It lies beside the runs,
one for all of them. A model is served only where the log is whole and tells of its promotion, so whoever
cuts a withdrawal off its end, or writes into MLflow's database, gains nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

from clinimm.core.chain import Head, LogForm
from clinimm.core.chained_log import ChainedLog
from clinimm.core.check_log import LogState, check_log, read_lines
from clinimm.core.errors import IntegrityError
from clinimm.core.sign import Signature, check_listed, sign
from clinimm.gate.approval import Evidence
from clinimm.gate.refused import GateRefused
from clinimm.gate.rules import Governance

LOG_FOLDER = "gate-log"
FORM = LogForm("gate's log", "gate.jsonl", "gate.head.json", "clinimm-gate-log/1")
REGISTERED, PROMOTED, REVOKED, REFUSED = "registered", "promoted", "revoked", "refused"


@dataclass(frozen=True)
class Entry:
    """What happened.

    Attributes:
        action: ``registered``, ``promoted``, ``revoked`` or ``refused``.
        registrar: who did it.
        run, model_name: of what.
        version: in the registry.
        digests: model, manifest, audit and policy.
        approvals: identifiers that let it through, or that were withdrawn.
        reason: why it was withdrawn or refused.
    """

    action: str
    registrar: str
    run: str
    model_name: str
    version: int | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    approvals: tuple[str, ...] = ()
    reason: str = ""


def digests_of(evidence: Evidence) -> dict[str, str]:
    """What a line repeats of the evidence."""
    return {key: getattr(evidence, key) for key in ("model", "manifest", "audit", "policy")}


@dataclass(frozen=True)
class GateLog:
    """The log of one folder of runs, as it was when it was read.

    Attributes:
        folder: where it lies.
        lines: its lines; empty where there is no log yet.
        head: its end.
    """

    folder: Path
    lines: tuple[Mapping[str, Any], ...]
    head: Head | None

    @property
    def revoked(self) -> frozenset[str]:
        """Identifiers of approvals that were withdrawn."""
        found = [line for line in self.lines if line.get("action") == REVOKED]
        return frozenset(str(name) for line in found for name in line["approvals"])

    def last(self, action: str, evidence: Evidence) -> Mapping[str, Any] | None:
        """The newest line that tells that this very model and audit were registered or promoted.

        A promotion ends with the next withdrawal of an approval of that run.
        """
        wanted, found = digests_of(evidence), None
        for line in self.lines:
            what = (line.get("action"), line.get("model_name"), line.get("digests"))
            if what == (action, evidence.model_name, wanted):
                found = line
            elif action == PROMOTED and (line.get("action"), line.get("run")) == (REVOKED, evidence.run):
                found = None
        return found

    def champion(self, model_name: str) -> Mapping[str, Any] | None:
        """The line of the newest promotion under a name."""
        found = [
            line
            for line in self.lines
            if line.get("action") == PROMOTED and line.get("model_name") == model_name
        ]
        return found[-1] if found else None


def log_folder(runs_dir: Path) -> Path:
    """Where the log of a folder of runs lies."""
    return runs_dir / LOG_FOLDER


def read_log(folder: Path, governance: Governance, kept: Head | None = None) -> GateLog:
    """Read a log, every line of it checked.

    Args:
        folder: where it lies.
        governance: whose registrars may have signed its end.
        kept: a head that was noted elsewhere; the log must still hold that line.

    Raises:
        GateRefused: it is not whole, was set back, or is absent although a head was noted.
    """
    if not (folder / FORM.log_name).exists() and not (folder / FORM.head_name).exists():
        if kept is not None:
            raise GateRefused(
                "broken-log", f"{folder}: the gate's log is gone; line {kept.number} was noted."
            )
        return GateLog(folder, (), None)
    try:
        state = verify(folder, governance, kept)
    except IntegrityError as error:
        raise GateRefused("broken-log", str(error)) from error
    if not state.whole:
        raise GateRefused("broken-log", f"{folder}: {' '.join(state.problems)}")
    lines = tuple(value for value, _ in read_lines(folder / FORM.log_name))[: state.lines]
    return GateLog(folder, lines, state.head)


def verify(folder: Path, governance: Governance, kept: Head | None = None) -> LogState:
    """What is wrong with a log, line by line.

    Raises:
        IntegrityError: its end is unsigned, signed by nobody who is a registrar, or by a registrar's key
            that did not count on the newest day that the log tells of.
    """
    signers: list[str] = []

    def trust(content: bytes, signature: Signature) -> None:
        check_listed(content, signature, governance.keys_of("registrar"))
        signers.append(signature.public_key)

    state = check_log(folder, FORM, trust, kept)
    found = governance.by_text(signers[0])
    days = [str(line.get("time"))[:10] for line, _ in islice(read_lines(folder / FORM.log_name), state.lines)]
    if state.whole and days and (found is None or not found[1].counts(date.fromisoformat(max(days)))):
        raise IntegrityError(f"{folder}: its end was signed with a key that did not count on {max(days)}.")
    return state


def append(folder: Path, governance: Governance, entry: Entry, key_file: Path | None = None) -> Head:
    """Add a line.

    Raises:
        GateRefused: the log does not end as a registrar signed it, or it cannot be written.
    """
    trusted = governance.keys_of("registrar")
    try:
        return ChainedLog(folder, FORM, key_file, trusted).append(asdict(entry))
    except (IntegrityError, OSError) as error:
        raise GateRefused("broken-log", f"{folder}: {error}") from error


def registrar_of(governance: Governance, key_file: Path | None, day: date) -> str:
    """Whose key this is, if it is a registrar's.

    Raises:
        GateRefused: it is nobody's who may write the log.
    """
    signature = sign(b"", key_file)
    found = governance.by_text(signature.public_key)
    if found is None or "registrar" not in found[0].roles or not found[1].counts(day):
        raise GateRefused(
            "unknown-key",
            f"key {signature.key_id} is no registrar's in {governance.folder}/gate.yaml; give a registrar's "
            "private key with --key FILE.",
        )
    return found[0].name
