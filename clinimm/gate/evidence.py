"""What lies in a run that is to be approved: read once, with every digest made anew."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from clinimm.core.bundle import files_of
from clinimm.core.errors import IntegrityError
from clinimm.core.record import RunRecord, digest_bytes, digest_file
from clinimm.gate.approval import Evidence
from clinimm.gate.log import log_folder, read_log
from clinimm.gate.refused import Code, GateRefused
from clinimm.gate.rules import Governance
from clinimm.register.artifact import ARTIFACT_NAME, read_artifact
from clinimm.register.gate import PASSED
from clinimm.register.manifest import MANIFEST_NAME, Manifest, verify_manifest
from clinimm.settings import load_run

_MODEL = "train/model"
#: What the audit's record calls the policy.
_POLICY = "policy file"
#: What ``clinimm.model`` and ``clinimm.staining`` take a model's digest from.
_DIGESTED = ("config.json", "model.safetensors")
_LIST_OR_SIGN = (
    " If an author made the run, list their key in gate.yaml with the role author. Otherwise an author whose "
    "key is listed signs it anew: clinimm register {root} --set register.signing_key_file=FILE."
)


def gather(root: Path, governance: Governance) -> Evidence:
    """What an approval of this run is about, as it lies there now.

    Raises:
        GateRefused: its manifest is missing, by an author who is not listed, or does not fit the files;
            or its audit blocks it, or was made under another policy than the gate's.
        ConfigError: the folder is no run.
    """
    config = load_run(root)
    manifest = _verified(root, governance)
    _check_model(root, manifest)
    _check_audit(root, manifest, governance)
    return Evidence(
        run=config.name,
        model_name=config.register_.model_name or config.name,
        model=manifest.model_digest,
        files=_model_files(root),
        artifact=_artifact(root, governance),
        manifest=digest_file(root / "register" / MANIFEST_NAME),
        audit=manifest.files["audit/audit.json"],
        policy=_read_by_audit(root)[_POLICY],
        intended_use=governance.intended_use_digest(),
        author_key=manifest.signature.public_key,
    )


def check_waivers(root: Path, day: date) -> None:
    """A finding that stands under a waiver stands no longer than the waiver.

    Raises:
        GateRefused: one has ended, or is not told of.
    """
    audit = _audit(root)
    waivers = audit.get("waivers") or ()
    for finding in audit.get("findings") or ():
        if finding.get("waived"):
            _check_waived(finding, waivers, day)


def _check_waived(finding: Mapping[str, Any], waivers: Iterable[Mapping[str, Any]], day: date) -> None:
    ends = [date.fromisoformat(str(one["until"])) for one in waivers if _covers(one, finding)]
    if not ends or max(ends) < day:
        told = f"ended on {max(ends)}" if ends else "is not in its audit"
        raise GateRefused(
            "ended-waiver",
            f"the finding {finding.get('rule')} ({finding.get('attribute')}: {finding.get('level')}) stands "
            f"under a waiver that {told}: mend it, or agree on it again and audit again.",
        )


def _covers(waiver: Mapping[str, Any], finding: Mapping[str, Any]) -> bool:
    return waiver["rule"] == finding.get("rule") and all(
        waiver.get(key) in (None, finding.get(key)) for key in ("attribute", "level")
    )


def _verified(root: Path, governance: Governance) -> Manifest:
    path = root / "register" / MANIFEST_NAME
    if not path.is_file():
        raise GateRefused("not-registered", f"{root.name} was never signed: run `clinimm register` first.")
    try:
        manifest = verify_manifest(root, path, trusted=governance.keys_of("author"))
    except IntegrityError as error:
        code = _code_of(str(error))
        remedy = _LIST_OR_SIGN.format(root=root) if code == "unknown-author" else ""
        raise GateRefused(code, f"{root.name}: {error}{remedy}") from error
    made = datetime.fromisoformat(manifest.made).date()
    _check_in_time(root, manifest.signature.public_key, made, governance)
    if "audit/audit.json" not in manifest.files:
        raise GateRefused("changed-files", f"{root.name}: the manifest covers no audit.")
    return manifest


def _check_in_time(root: Path, public_key: str, made: date | None, governance: Governance) -> None:
    """The author's key counted when it signed.

    Whoever holds a key that has ended can write any day into what it signs. Then the gate's log decides: it
    must tell of this manifest on a day on which the key still counted.
    """
    author, today = governance.by_text(public_key), datetime.now(UTC).date()
    if author is None:
        raise GateRefused("unknown-author", f"{root.name}: its author is listed for nobody.")
    key = author[1]
    if made is not None and not key.counts(made):
        raise GateRefused("expired-key", f"{root.name}: signed on {made} with a key that did not count.")
    if key.counts(today):
        return
    manifest = digest_file(root / "register" / MANIFEST_NAME)
    told = read_log(log_folder(root.parent), governance).first_told(manifest)
    if told is None or not key.counts(told):
        when = "tells of it nowhere" if told is None else f"tells of it on {told} first"
        raise GateRefused(
            "expired-key",
            f"{root.name}: the key that signed it counted until {key.valid_until}, and the gate's log "
            f"{when}. Sign it again with a key that counts: clinimm register {root} --set "
            "register.signing_key_file=FILE.",
        )


def _code_of(message: str) -> Code:
    """Which of the things that a manifest binds is wrong."""
    if "nobody here vouches" in message:
        return "unknown-author"
    return "swapped-weights" if f"{_MODEL}/" in message else "changed-files"


def _check_model(root: Path, manifest: Manifest) -> None:
    """The manifest's digest of the model is that of the files that lie there, and nothing was added."""
    folder = root / _MODEL
    there = {f"{_MODEL}/{name}" for name in _model_files(root)}
    covered = {name for name in manifest.files if name.startswith(f"{_MODEL}/")}
    parts = [folder / name for name in _DIGESTED]
    whole = all(part.is_file() for part in parts)
    digest = digest_bytes("".join(map(digest_file, parts)).encode("ascii")) if whole else None
    if there != covered or digest != manifest.model_digest:
        raise GateRefused("swapped-weights", f"{root.name}: {_MODEL} is not the model that was signed.")


def _model_files(root: Path) -> dict[str, str]:
    try:
        return files_of(root / _MODEL)
    except IntegrityError as error:
        raise GateRefused("swapped-weights", f"{root.name}: {error}") from error


def _artifact(root: Path, governance: Governance) -> Mapping[str, str]:
    """What MLflow keeps of the model, as an author signed it when the run was tracked."""
    folder = root / "register"
    if not (folder / ARTIFACT_NAME).is_file():
        raise GateRefused(
            "not-registered",
            f"{root.name}: nobody signed the files that MLflow keeps of it: clinimm register {root}.",
        )
    try:
        found = read_artifact(folder, governance.keys_of("author"))
    except IntegrityError as error:
        raise GateRefused("changed-files", f"{root.name}: {error} Then: clinimm register {root}.") from error
    _check_in_time(root, found.signature.public_key, None, governance)
    return found.files


def _check_audit(root: Path, manifest: Manifest, governance: Governance) -> None:
    audit, read = _audit(root), _read_by_audit(root)
    policy = read.get(_POLICY)
    if policy is None or policy != manifest.policy_digest or policy not in governance.policy_digests():
        named = ", ".join(map(str, governance.rules.policies))
        raise GateRefused(
            "other-policy",
            f"{root.name} was audited under a policy that is not the gate's ({named}): audit and register it "
            "again under that one.",
        )
    if other := [name for name, digest in read.items() if manifest.files.get(name, digest) != digest]:
        raise GateRefused("stale-digest", f"{root.name}: its audit judged another {', '.join(other)}.")
    if audit.get("exit_status") != PASSED:
        raise GateRefused("audit-blocks", f"{root.name}: {audit.get('sentence') or 'its audit blocks it.'}")


def _read_by_audit(root: Path) -> Mapping[str, str]:
    """Path -> SHA-256 of what the audit read, by its record."""
    record = RunRecord.read(root / "audit")
    return {} if record is None else record.inputs


def _audit(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "audit" / "audit.json").read_text(encoding="utf-8"))
    return found
