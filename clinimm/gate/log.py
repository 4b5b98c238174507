"""The gate's log: what was registered, promoted, withdrawn and refused, by whom, on what evidence.

It is chained and its end is signed (``clinimm/core/chained_log.py``) by a registrar. It lies beside the runs,
one for all of them. A model is served only where the log is whole and tells of its promotion, so whoever
cuts a withdrawal off its end, or writes into MLflow's database, gains nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from clinimm.core.chain import Head, LogForm
from clinimm.core.chained_log import ChainedLog
from clinimm.core.check_log import LogState, check_log, read_lines
from clinimm.core.errors import IntegrityError
from clinimm.core.keys import check_private_mode
from clinimm.core.record import digest_file
from clinimm.core.sign import Signature, check_listed, sign
from clinimm.gate.approval import Evidence
from clinimm.gate.refused import GateRefused
from clinimm.gate.rules import GATE_NAME, Governance

LOG_FOLDER = "gate-log"
FORM = LogForm("gate's log", "gate.jsonl", "gate.head.json", "clinimm-gate-log/1")
REGISTERED, PROMOTED, REVOKED, REFUSED = "registered", "promoted", "revoked", "refused"
COUNTERSIGNED = "countersigned"
#: How far this machine's clock may be behind the one that wrote the log's newest line.
_CLOCKS = timedelta(minutes=10)


@dataclass(frozen=True)
class Entry:
    """What happened.

    Attributes:
        action: ``registered``, ``promoted``, ``revoked``, ``refused`` or ``countersigned``.
        registrar: who did it.
        run, model_name: of what; empty where a registrar countersigned the whole log.
        version: in the registry.
        digests: model, manifest, audit and policy.
        approvals: identifiers that let it through, or that were withdrawn.
        reason: why it was withdrawn, refused or countersigned.
        rules: SHA-256 of ``gate.yaml`` as it was then, set when the line is written: a change shows.
    """

    action: str
    registrar: str
    run: str = ""
    model_name: str = ""
    version: int | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    approvals: tuple[str, ...] = ()
    reason: str = ""
    rules: str = ""


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
        return frozenset(str(name) for line in found for name in line.get("approvals") or ())

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

    def first_told(self, manifest: str) -> date | None:
        """The first day on which a line told of a manifest as registered or promoted, by the log's clock."""
        for line in self.lines:
            if line.get("action") in (REGISTERED, PROMOTED) and line["digests"].get("manifest") == manifest:
                return _time(line).date()
        return None

    def champion(self, model_name: str) -> Mapping[str, Any] | None:
        """The line of the newest promotion under a name; every earlier one is superseded by it."""
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

    A log without a line counts as none: that is what a crash while it was made leaves.

    Args:
        folder: where it lies.
        governance: whose registrars may have signed its end.
        kept: a head that was noted elsewhere; the log must still hold that line.

    Raises:
        GateRefused: it is not whole, was set back, or is absent although a head was noted.
    """
    if not _begun(folder):
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
        raise GateRefused(
            "broken-log",
            f"{folder}: {' '.join(state.problems)} If the machine stopped in the middle of an act, a "
            "registrar runs that act again; otherwise keep the log as it is for whoever looks into it.",
        )
    lines = tuple(value for value, _ in read_lines(folder / FORM.log_name))[: state.lines]
    return GateLog(folder, lines, state.head)


def verify(folder: Path, governance: Governance, kept: Head | None = None) -> LogState:
    """What is wrong with a log, line by line.

    Its end must be signed with a key that counts today. With a key that has ended anybody who kept it could
    write the whole log anew, with days from before; so another registrar looks at it and countersigns.

    Raises:
        IntegrityError: its end is unsigned, or signed by nobody who is or was a registrar.
    """
    signers: list[str] = []

    def trust(content: bytes, signature: Signature) -> None:
        check_listed(content, signature, governance.keys_of("registrar"))
        signers.append(signature.public_key)

    state = check_log(folder, FORM, trust, kept)
    problems = [*state.problems, *_ended(signers[0], governance, folder)]
    if state.whole and (newest := _newest(folder, state.lines)) > datetime.now(UTC) + _CLOCKS:
        problems.append(
            f"its newest line is of {newest.isoformat(timespec='minutes')}, which is later than this "
            "machine's clock: set the clock right."
        )
    return replace(state, problems=tuple(problems))


def append(folder: Path, governance: Governance, entry: Entry, key_file: Path | None = None) -> Head:
    """Add a line.

    Raises:
        GateRefused: the log does not end as a registrar signed it with a key that counts, or it cannot be
            written.
    """
    return _append(folder, governance, governance.keys_of("registrar", _today()), entry, key_file)


def settle(folder: Path, governance: Governance, key_file: Path | None = None) -> None:
    """Bring the log's end in order after a crash: what nobody signed did not happen, unless it withdrew.

    Raises:
        GateRefused: there is more wrong with it than a crash leaves.
    """
    if _begun(folder):
        with _as_broken(folder):
            _open(folder, governance.keys_of("registrar", _today()), key_file)


def countersign(
    folder: Path, governance: Governance, seen: Head, entry: Entry, key_file: Path | None = None
) -> Head:
    """Vouch for a log as it stands, because the key that signed its end has ended.

    Args:
        folder: where it lies.
        governance: whose registrars may have signed its end, with keys that count or have ended.
        seen: the end up to which it was looked at; nothing after it is vouched for.
        entry: by whom, and why.
        key_file: private key of a registrar whose key counts.

    Raises:
        GateRefused: the log is not whole, or does not end where it was looked at.
    """
    listed = governance.keys_of("registrar")
    with _as_broken(folder):
        state = check_log(folder, FORM, partial(check_listed, trusted=listed))
        if not state.whole:
            raise IntegrityError(" ".join(state.problems))
    if state.head != seen:
        raise GateRefused(
            "broken-log",
            f"{folder}: ends with {state.head.number}:{state.head.digest}, which is not what you looked at "
            f"({seen.number}:{seen.digest}): read it again (clinimm gate log {folder.parent}).",
        )
    return _append(folder, governance, listed, entry, key_file)


def _append(
    folder: Path, governance: Governance, trusted: Collection[str], entry: Entry, key_file: Path | None
) -> Head:
    with _as_broken(folder):
        written = replace(entry, rules=digest_file(governance.folder / GATE_NAME))
        return _open(folder, trusted, key_file).append(asdict(written))


def _open(folder: Path, trusted: Collection[str], key_file: Path | None) -> ChainedLog:
    recovered = asdict(Entry("recovered", "-"))
    return ChainedLog(folder, FORM, key_file, trusted, recovered, keep_unsigned=_only_stops)


def _only_stops(line: Mapping[str, Any]) -> bool:
    """A withdrawal stands although its signature was never written; whatever allows something does not."""
    return line.get("action") == REVOKED


@contextmanager
def _as_broken(folder: Path) -> Iterator[None]:
    try:
        yield
    except (IntegrityError, OSError) as error:
        raise GateRefused("broken-log", f"{folder}: {error}") from error


def _begun(folder: Path) -> bool:
    """Whether there is a log: a file without a line and without a signed end is what a crash leaves."""
    path = folder / FORM.log_name
    return (folder / FORM.head_name).exists() or (path.exists() and path.stat().st_size > 0)


def _ended(signer: str, governance: Governance, folder: Path) -> list[str]:
    """What is wrong with the key that signed the end, where it does not count today."""
    found = governance.by_text(signer)
    if found is not None and found[1].counts(_today()):
        return []
    who = f"{found[0].name}'s key, which counted until {found[1].valid_until}" if found else "an unknown key"
    return [
        f"its end was signed with {who}: another registrar reads it (clinimm gate log {folder.parent}) and "
        f"countersigns it (clinimm gate countersign {folder.parent} --head NUMBER:SHA256 --reason TEXT --key "
        "FILE)."
    ]


def _newest(folder: Path, lines: int) -> datetime:
    times = [_time(line) for line, _ in islice(read_lines(folder / FORM.log_name), lines)]
    return max(times, default=datetime.min.replace(tzinfo=UTC))


def _time(line: Mapping[str, Any]) -> datetime:
    """When a line was written, UTC, by the clock of whoever wrote it."""
    try:
        found = datetime.fromisoformat(str(line.get("time")))
    except ValueError as error:
        raise IntegrityError(f"line {line.get('number')} has no time.") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _today() -> date:
    return datetime.now(UTC).date()


def registrar_of(governance: Governance, key_file: Path | None, day: date) -> str:
    """Whose key this is, if it is a registrar's.

    Raises:
        GateRefused: it is nobody's who may write the log.
    """
    if key_file is not None:
        check_private_mode(key_file)
    signature = sign(b"", key_file)
    found = governance.by_text(signature.public_key)
    if found is None or "registrar" not in found[0].roles or not found[1].counts(day):
        raise GateRefused(
            "unknown-key",
            f"key {signature.key_id} is no registrar's in {governance.folder}/gate.yaml; give a registrar's "
            "private key with --key FILE.",
        )
    return found[0].name
