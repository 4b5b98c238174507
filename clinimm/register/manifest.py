"""The signed manifest: the digest of every file that a registered model stands on."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clinimm.core.errors import IntegrityError
from clinimm.core.record import RECORD_NAME, RunRecord, digest_file, digest_json, digest_tree, write_text
from clinimm.core.sign import Signature, canonical, check, check_listed, sign
from clinimm.provenance import code_version
from clinimm.workspace import Workspace

MANIFEST_NAME = "manifest.json"
SCHEMA = "clinimm-manifest/1"

#: What a manifest covers, below the run: files, and whole folders.
_FILES = (
    "pipeline.yaml",
    "cohort.yaml",
    "ingest/refusals.parquet",
    "cohort/cohort.parquet",
    "cohort/splits.parquet",
    "cohort/task.json",
    "encode/pairs/pairs.parquet",
    "predict/predictions.parquet",
    "predict/regions.parquet",
    "predict/tiles.parquet",
    "evaluate/metrics.json",
    "evaluate/table.parquet",
    "audit/audit.json",
    "register/sbom.cdx.json",
)
_FOLDERS = ("train/model",)
#: Parts of a record that differ when the very same thing is done again.
_PASSING = ("started", "finished", "cost")


@dataclass(frozen=True)
class Manifest:
    """What was signed.

    Attributes:
        name: the run's name.
        model_digest: SHA-256 over the model's files.
        code_version: of the package that registered it.
        seed: the run's seed.
        made: UTC, ISO 8601.
        files: path relative to the run -> SHA-256.
        records: stage -> SHA-256 of its record without times and costs, which a repetition changes.
        policy_digest: SHA-256 of the audit's policy file.
        signature: over all of the above.
    """

    name: str
    model_digest: str
    code_version: str
    seed: int
    made: str
    files: Mapping[str, str]
    records: Mapping[str, str]
    policy_digest: str | None
    signature: Signature

    @property
    def key_id(self) -> str:
        """Short name of the key that signed."""
        return self.signature.key_id


def write_manifest(
    workspace: Workspace, model_digest: str, policy_digest: str | None, key_file: Path | None = None
) -> Manifest:
    """Write ``register/manifest.json``, signed.

    Args:
        workspace: the finished run.
        model_digest: of the model that is registered.
        policy_digest: SHA-256 of the policy file that the audit read.
        key_file: private key; None is this user's own.
    """
    body = {
        "schema": SCHEMA,
        "name": workspace.config.name,
        "model_digest": model_digest,
        "code_version": code_version(workspace.config.plugins),
        "seed": workspace.config.seed,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": _covered(workspace.root),
        "records": _records(workspace.root),
        "policy_digest": policy_digest,
    }
    signature = sign(canonical(body), key_file)
    signed = {"manifest": body, "signature": asdict(signature)}
    path = workspace.stage("register") / MANIFEST_NAME
    write_text(path, json.dumps(signed, indent=1, sort_keys=True) + "\n")
    return _manifest(body, signature)


def verify_manifest(
    root: Path, path: Path, trusted_key: Path | None = None, trusted: Collection[str] | None = None
) -> Manifest:
    """Check the signature, and every file below ``root`` that the manifest names.

    Args:
        root: the run.
        path: its manifest.
        trusted_key: the signer's public key (PEM); None takes this user's own.
        trusted: public keys of which one must have signed, as ``Signature.public_key``; replaces
            ``trusted_key``.

    Raises:
        IntegrityError: the manifest is missing or altered, a file is missing or altered, or the
            key is not trusted; names the files.
    """
    manifest = _read(path, trusted_key, trusted)
    wrong = [
        name
        for name, digest in manifest.files.items()
        if not (root / name).is_file() or digest_file(root / name) != digest
    ]
    now = _records(root)
    wrong += [
        f"{stage}/{RECORD_NAME}" for stage, digest in manifest.records.items() if now.get(stage) != digest
    ]
    if wrong:
        raise IntegrityError(f"{root}: not as signed by key {manifest.key_id}: {', '.join(wrong)}.")
    return manifest


def _read(path: Path, trusted_key: Path | None, trusted: Collection[str] | None) -> Manifest:
    try:
        signed = json.loads(path.read_text(encoding="utf-8"))
        body, signature = dict(signed["manifest"]), Signature(**signed["signature"])
        if body["schema"] != SCHEMA:
            raise IntegrityError(f"{path}: written in form {body['schema']}, expected {SCHEMA}.")
    except FileNotFoundError as error:
        raise IntegrityError(f"{path} is missing: this run was never registered.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{path}: not a signed manifest.") from error
    if trusted is None:
        check(canonical(body), signature, trusted_key)
    else:
        check_listed(canonical(body), signature, trusted)
    return _manifest(body, signature)


def _manifest(body: Mapping[str, Any], signature: Signature) -> Manifest:
    return Manifest(**{key: value for key, value in body.items() if key != "schema"}, signature=signature)


def _covered(root: Path) -> dict[str, str]:
    found = {name: digest_file(root / name) for name in _FILES if (root / name).is_file()}
    for folder in _FOLDERS:
        for name, digest in digest_tree(root / folder).items():
            found[f"{folder}/{name}"] = digest
    return dict(sorted(found.items()))


def _records(root: Path) -> dict[str, str]:
    found = {}
    for path in sorted(root.glob(f"*/{RECORD_NAME}")):
        stage = path.parent.name
        record = RunRecord.read(path.parent)
        # What registers and reports comes after the signature.
        if record is not None and stage not in ("register", "report"):
            lasting = {key: value for key, value in asdict(record).items() if key not in _PASSING}
            found[stage] = digest_json(lasting)
    return found
