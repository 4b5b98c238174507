"""What people do at the gate: approve, add an approval, register, promote, withdraw."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from clinimm.core.bundle import key_hint
from clinimm.core.chain import Head
from clinimm.core.durable import write_durably
from clinimm.core.errors import AuditGateError, ConfigError, IntegrityError
from clinimm.core.keys import check_private_mode, load_private
from clinimm.core.names import same_name
from clinimm.gate.approval import (
    APPROVAL_SUFFIX,
    Evidence,
    Terms,
    parse_approval,
    read_approvals,
    sign_approval,
)
from clinimm.gate.check import GATE_FOLDER, Allowed, Filed, check_run
from clinimm.gate.evidence import gather
from clinimm.gate.judge import judge_all
from clinimm.gate.log import (
    COUNTERSIGNED,
    PROMOTED,
    REFUSED,
    REGISTERED,
    REVOKED,
    Entry,
    GateLog,
    append,
    digests_of,
    log_folder,
    read_log,
    registrar_of,
    settle,
)
from clinimm.gate.log import countersign as sign_on
from clinimm.gate.refused import GateRefused
from clinimm.gate.rules import Act, Governance
from clinimm.lock import locked
from clinimm.register.registration import Registration
from clinimm.settings import load_run

_BUSY = "Another registrar is at work; wait until that ends, then run this again."
REQUEST_SCHEMA = "clinimm.approval-request/2"


def request(root: Path, governance: Governance) -> str:
    """What is to be approved, as JSON that can be carried to a machine without the run."""
    return json.dumps({"schema": REQUEST_SCHEMA, **asdict(gather(root, governance))}, indent=1) + "\n"


def read_request(path: Path) -> Evidence:
    """The inverse of ``request``.

    Raises:
        ConfigError: it is no request.
    """
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if value.pop("schema") != REQUEST_SCHEMA:
            raise ValueError("another form")
        return Evidence(**value)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not a request that `clinimm gate request` wrote.") from error


def approve(
    evidence: Evidence, role: str, key_file: Path, days: int, governance: Governance, comment: str = ""
) -> tuple[str, str]:
    """Sign what was looked at.

    Args:
        evidence: from ``gather`` or ``read_request``.
        role: as what.
        key_file: the signer's private key.
        days: how long it counts.
        governance: who the signer is.
        comment: for people.

    Returns:
        file name and content of the approval.

    Raises:
        GateRefused: it would not count.
        ConfigError: the key cannot be used.
    """
    now = datetime.now(UTC)
    check_private_mode(key_file)
    hint = key_hint(load_private(key_file).public_key())
    found = governance.by_hint(hint)
    if found is None:
        raise GateRefused(
            "unknown-key",
            f"key {hint[:16]} is listed for nobody in {governance.folder}/gate.yaml: give whoever keeps that "
            "file the entry that `clinimm gate keygen` printed.",
        )
    terms = Terms(found[0].name, role, now.date() + timedelta(days=days), comment=comment, made=now)
    identifier, text = sign_approval(evidence, terms, key_file)
    name = f"{identifier}{APPROVAL_SUFFIX}"
    (judged,) = judge_all({name: text}, evidence, governance, (), now)
    if judged.refused is not None:
        raise judged.refused
    return name, text


def add(root: Path, files: Mapping[str, str], governance: Governance) -> list[str]:
    """Put approvals that were signed elsewhere into a run, those that count for it.

    Args:
        root: the run.
        files: file name -> bundle as JSON.
        governance: whom the gate trusts.

    Returns:
        their identifiers.

    Raises:
        GateRefused: one does not count; then none is added.
    """
    evidence = gather(root, governance)
    revoked = read_log(log_folder(root.parent), governance).revoked
    judged = judge_all(files, evidence, governance, revoked, datetime.now(UTC))
    for one in judged:
        if one.refused is not None:
            raise GateRefused(one.refused.code, f"{one.name}: {one.refused.reason}")
    # Named by what was signed, so that the same approval cannot stand here twice.
    names = {name: parse_approval(text, name).identifier for name, text in files.items()}
    for name, identifier in names.items():
        if not identifier.isalnum():
            raise GateRefused("bad-signature", f"{name}: its identifier is not one that CliniMM draws.")
        path = root / GATE_FOLDER / f"{identifier}{APPROVAL_SUFFIX}"
        write_durably(path, files[name].encode("utf-8"))
    return list(names.values())


def register(root: Path, governance: Governance, key_file: Path | None = None) -> Filed:
    """Register the model of a run as a version; done again after a crash, it ends what was begun.

    Raises:
        GateRefused: the approvals do not allow it, or the key is no registrar's.
        BusyError: another registrar is at work.
    """
    from clinimm.gate.registry import register_version

    with _at_the_log(root, governance, key_file) as registrar:
        allowed = _allowed(root, "register", registrar, governance, key_file)
        _check_name(allowed)
        registration, texts = _registration(root), _texts(root, allowed)
        version = register_version(root, registration, allowed.evidence, texts, governance)
        line, filed = allowed.log.last(REGISTERED, allowed.evidence), _filed(root)
        if line is None or line["version"] != version:
            entry = _entry(REGISTERED, registrar, allowed, version)
            head = append(log_folder(root.parent), governance, entry, key_file)
            return _file(root, version, head, promoted=False)
        if filed is not None and filed.version == version:
            return filed
        return _file(root, version, Head(line["number"], line["digest"]), promoted=False)


def promote(root: Path, governance: Governance, key_file: Path | None = None) -> Filed:
    """Move the alias ``champion`` to the version of a run, or back to it; only the champion is served.

    Raises:
        GateRefused: the approvals do not allow it, it has no version yet, or the key is no registrar's.
        BusyError: another registrar is at work.
    """
    from clinimm.gate.registry import move_champion

    with _at_the_log(root, governance, key_file) as registrar:
        allowed = _allowed(root, "promote", registrar, governance, key_file)
        registered = allowed.log.last(REGISTERED, allowed.evidence)
        if registered is None:
            raise GateRefused(
                "not-registered", f"{root.name} has no version yet: clinimm gate register {root}."
            )
        version = int(registered["version"])
        move_champion(root, version, allowed.evidence, _texts(root, allowed), governance)
        entry = _entry(PROMOTED, registrar, allowed, version)
        head = append(log_folder(root.parent), governance, entry, key_file)
        return _file(root, version, head, promoted=True)


def champion(root: Path, governance: Governance) -> Allowed:
    """That the alias ``champion`` of the registry points where the gate moved it, and at this run's files.

    Args:
        root: the run that is believed to be the champion.
        governance: whom the gate trusts.

    Raises:
        GateRefused: the registry's alias points elsewhere than the gate moved it, its version holds other
            files than were approved, or it may not be served.
    """
    from clinimm.gate.registry import champion_version, check_version

    allowed = check_run(root, "serve", governance)
    name = allowed.evidence.model_name
    line = allowed.log.champion(name)
    found = champion_version(root, name, governance)
    if line is None or found is None or found != line["version"] or line["run"] != allowed.evidence.run:
        told = f"version {line['version']} of run {line['run']}" if line else "nothing"
        raise GateRefused(
            "alias-guarded",
            f"{name}@champion is {f'version {found}' if found else 'not set'} in the registry, and the gate "
            f"promoted {told}. Find out who moved it; clinimm gate promote RUN moves it back.",
        )
    check_version(root, found, allowed.evidence, governance)
    return allowed


def revoke(
    root: Path, identifier: str, reason: str, governance: Governance, key_file: Path | None = None
) -> Head:
    """Withdraw an approval: it counts no more, for anything.

    Needs nothing of the run but its settings, and of the approval but its identifier: what was damaged can
    still be stopped.

    Raises:
        GateRefused: the run has no such approval, or the key is no registrar's.
        AuditGateError: it is withdrawn, and the registry could not be told.
        BusyError: another registrar is at work.
    """
    folder = log_folder(root.parent)
    with _at_the_log(root, governance, key_file) as registrar:
        log = read_log(folder, governance)
        known = _identifiers(root, log)
        if identifier not in known:
            told = f"it has {', '.join(sorted(known))}" if known else "it has none"
            raise GateRefused("no-approval", f"{root.name} has no approval {identifier}; {told}.")
        config = load_run(root)
        name = config.register_.model_name or config.name
        entry = Entry(REVOKED, registrar, root.name, name, approvals=(identifier,), reason=reason)
        # The log first: from then on it is not served, whatever the registry says.
        head = append(folder, governance, entry, key_file)
        versions = [line.get("version") for line in log.lines if line.get("run") == root.name]
        version = next((one for one in reversed(versions) if one is not None), None)
        if version is not None:
            _file(root, version, head, promoted=False)
            _tell_registry(root, name, version, identifier, governance)
        return head


def countersign(
    runs: Path, seen: Head, reason: str, governance: Governance, key_file: Path | None = None
) -> Head:
    """Vouch for a log whose end was signed with a key that has ended.

    Args:
        runs: folder of the runs.
        seen: the log's end, as whoever countersigns looked at it.
        reason: why, for the log.
        governance: whom the gate trusts.
        key_file: a registrar's private key that counts today; None is this user's own.

    Raises:
        GateRefused: the key is no registrar's, or the log is not whole up to that end.
        BusyError: another registrar is at work.
    """
    registrar = registrar_of(governance, key_file, _today())
    if not log_folder(runs).is_dir():
        raise ConfigError(f"{runs}: no gate's log lies here; give the folder that holds the runs.")
    with locked(log_folder(runs), _BUSY):
        entry = Entry(COUNTERSIGNED, registrar, reason=reason)
        return sign_on(log_folder(runs), governance, seen, entry, key_file)


@contextmanager
def _at_the_log(root: Path, governance: Governance, key_file: Path | None) -> Iterator[str]:
    """The log for this process alone, its end in order after a crash; gives the registrar's name.

    Raises:
        GateRefused: the key is no registrar's.
        BusyError: another process is at the log.
    """
    registrar = registrar_of(governance, key_file, _today())
    folder = log_folder(root.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    with locked(folder, _BUSY):
        settle(folder, governance, key_file)
        yield registrar


def _file(root: Path, version: int, head: Head, promoted: bool) -> Filed:
    filed = Filed(version, head.number, head.digest, promoted)
    filed.write(root)
    return filed


def _filed(root: Path) -> Filed | None:
    """What was filed; what cannot be read is filed anew."""
    try:
        return Filed.read(root)
    except GateRefused:
        return None


def _check_name(allowed: Allowed) -> None:
    """No two models whose names a reader cannot tell apart, each with a champion of its own."""
    name = allowed.evidence.model_name
    there = {str(line.get("model_name")) for line in allowed.log.lines if line.get("action") == REGISTERED}
    if alike := sorted(one for one in there - {name} if same_name(one) == same_name(name)):
        raise GateRefused(
            "name-guarded", f"{name}: reads as {alike[0]}, which is registered: give it that name or another."
        )


def _tell_registry(root: Path, name: str, version: int, identifier: str, governance: Governance) -> None:
    from mlflow.exceptions import MlflowException

    from clinimm.gate.registry import mark_revoked

    try:
        mark_revoked(root, name, version, identifier, governance)
    except (MlflowException, OSError) as error:
        raise AuditGateError(
            f"{identifier} is withdrawn and the model is not served any more, but the registry could not be "
            f"told ({error}): run the same again when it answers."
        ) from error


def _identifiers(root: Path, log: GateLog) -> frozenset[str]:
    """Approvals that a run has or was filed with, as signed: a file may bear any name, or be gone."""
    found = set()
    for name, text in read_approvals(root / GATE_FOLDER).items():
        with suppress(IntegrityError):
            found.add(parse_approval(text, name).identifier)
    told = [line for line in log.lines if line.get("run") == root.name]
    return frozenset(found.union(*(line.get("approvals") or () for line in told)))


def _allowed(root: Path, act: Act, registrar: str, governance: Governance, key_file: Path | None) -> Allowed:
    """``check_run``; what is refused is told of in the log, where there is a whole one."""
    try:
        return check_run(root, act, governance)
    except GateRefused as refused:
        if refused.code != "broken-log":
            entry = Entry(REFUSED, registrar, root.name, root.name, reason=f"{act}: {refused.code}")
            append(log_folder(root.parent), governance, entry, key_file)
        raise


def _entry(action: str, registrar: str, allowed: Allowed, version: int) -> Entry:
    return Entry(
        action,
        registrar,
        allowed.evidence.run,
        allowed.evidence.model_name,
        version,
        digests_of(allowed.evidence),
        tuple(approval.identifier for approval in allowed.approvals),
    )


def _texts(root: Path, allowed: Allowed) -> dict[str, str]:
    """The approvals that let an act through, by their file names."""
    wanted = {f"{approval.identifier}{APPROVAL_SUFFIX}" for approval in allowed.approvals}
    texts = {}
    for name, text in read_approvals(root / GATE_FOLDER).items():
        with suppress(IntegrityError):  # it let nothing through
            texts[f"{parse_approval(text, name).identifier}{APPROVAL_SUFFIX}"] = text
    return {name: text for name, text in texts.items() if name in wanted}


def _registration(root: Path) -> Registration:
    found = Registration.read(root / "register")
    if found is None:
        raise GateRefused("not-registered", f"{root.name} is not tracked: run `clinimm register` first.")
    return found


def _today() -> date:
    return datetime.now(UTC).date()
