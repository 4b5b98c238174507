"""What people do at the gate: approve, add an approval, register, promote, withdraw."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from clinimm.core.bundle import key_hint
from clinimm.core.chain import Head
from clinimm.core.errors import ConfigError, IntegrityError
from clinimm.core.keys import load_private
from clinimm.core.record import write_text
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
    PROMOTED,
    REFUSED,
    REGISTERED,
    REVOKED,
    Entry,
    append,
    digests_of,
    log_folder,
    read_log,
    registrar_of,
)
from clinimm.gate.refused import GateRefused
from clinimm.gate.rules import Act, Governance
from clinimm.register.registration import Registration

REQUEST_SCHEMA = "clinimm.approval-request/1"


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
    hint = key_hint(load_private(key_file).public_key())
    found = governance.by_hint(hint)
    if found is None:
        raise GateRefused(
            "unknown-key", f"key {hint[:16]} is listed for nobody in {governance.folder}/gate.yaml."
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
        write_text(root / GATE_FOLDER / f"{identifier}{APPROVAL_SUFFIX}", files[name])
    return list(names.values())


def register(root: Path, governance: Governance, key_file: Path | None = None) -> Filed:
    """Register the model of a run as a version.

    Raises:
        GateRefused: the approvals do not allow it, or the key is no registrar's.
    """
    from clinimm.gate.registry import register_version

    registrar = registrar_of(governance, key_file, _today())
    allowed = _allowed(root, "register", registrar, governance, key_file)
    filed = Filed.read(root)
    if filed is not None and allowed.log.last(REGISTERED, allowed.evidence) is not None:
        return filed
    registration = _registration(root)
    version = register_version(root, registration, allowed.evidence, _texts(root, allowed), governance)
    head = append(
        log_folder(root.parent), governance, _entry(REGISTERED, registrar, allowed, version), key_file
    )
    filed = Filed(version, head.number, head.digest, promoted=False)
    filed.write(root)
    return filed


def promote(root: Path, governance: Governance, key_file: Path | None = None) -> Filed:
    """Move the alias ``champion`` to the version of a run.

    Raises:
        GateRefused: the approvals do not allow it, it has no version yet, or the key is no registrar's.
    """
    from clinimm.gate.registry import move_champion

    registrar = registrar_of(governance, key_file, _today())
    allowed = _allowed(root, "promote", registrar, governance, key_file)
    registered = allowed.log.last(REGISTERED, allowed.evidence)
    if registered is None:
        raise GateRefused("not-registered", f"{root.name} has no version yet: clinimm gate register {root}.")
    version, name = int(registered["version"]), allowed.evidence.model_name
    move_champion(root, name, version, _texts(root, allowed), governance)
    head = append(
        log_folder(root.parent), governance, _entry(PROMOTED, registrar, allowed, version), key_file
    )
    filed = Filed(version, head.number, head.digest, promoted=True)
    filed.write(root)
    return filed


def champion(root: Path, governance: Governance) -> Allowed:
    """That the alias ``champion`` of the registry points where the gate moved it, and at this run.

    Args:
        root: the run that is believed to be the champion.
        governance: whom the gate trusts.

    Raises:
        GateRefused: the registry's alias points elsewhere than the gate moved it, or it may not be served.
    """
    from clinimm.gate.registry import champion_version

    allowed = check_run(root, "serve", governance)
    name = allowed.evidence.model_name
    line = allowed.log.champion(name)
    found = champion_version(root, name, governance)
    if line is None or found != line["version"] or line["run"] != allowed.evidence.run:
        told = f"version {line['version']} of run {line['run']}" if line else "nothing"
        raise GateRefused(
            "alias-guarded",
            f"{name}@champion is version {found} in the registry, and the gate promoted {told}.",
        )
    return allowed


def revoke(
    root: Path, identifier: str, reason: str, governance: Governance, key_file: Path | None = None
) -> Head:
    """Withdraw an approval: it counts no more, for anything.

    Raises:
        GateRefused: the run has no such approval, or the key is no registrar's.
    """
    from clinimm.gate.registry import mark_revoked

    registrar = registrar_of(governance, key_file, _today())
    if identifier not in _identifiers(root, governance):
        raise GateRefused("no-approval", f"{root.name} has no approval {identifier}.")
    registration, filed = _registration(root), Filed.read(root)
    entry = Entry(
        REVOKED, registrar, root.name, registration.model_name, approvals=(identifier,), reason=reason
    )
    # The log first: from then on it is not served, whatever the registry says.
    head = append(log_folder(root.parent), governance, entry, key_file)
    if filed is not None:
        Filed(filed.version, head.number, head.digest, promoted=False).write(root)
        mark_revoked(root, registration.model_name, filed.version, identifier, governance)
    return head


def _identifiers(root: Path, governance: Governance) -> frozenset[str]:
    """Approvals that a run has or was filed with, as signed: a file may bear any name, or be gone."""
    found = set()
    for name, text in read_approvals(root / GATE_FOLDER).items():
        with suppress(IntegrityError):
            found.add(parse_approval(text, name).identifier)
    told = [line for line in read_log(log_folder(root.parent), governance).lines if line["run"] == root.name]
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
