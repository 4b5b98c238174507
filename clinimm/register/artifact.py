"""``register/artifact.json``: every file that MLflow keeps of a model, signed by whoever tracked it.

The manifest is signed before MLflow lays its own files (``MLmodel``, code, requirements) around the model,
and lies among them. These files decide what runs when a version is loaded, so they are signed after.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from clinimm.core.durable import write_durably
from clinimm.core.errors import IntegrityError
from clinimm.core.record import digest_file
from clinimm.core.sign import Signature, canonical, check_listed, sign
from clinimm.register.manifest import MANIFEST_NAME

ARTIFACT_NAME = "artifact.json"
SCHEMA = "clinimm-artifact/1"


@dataclass(frozen=True)
class Artifact:
    """What was signed.

    Attributes:
        manifest: SHA-256 of the signed manifest of the same run.
        files: path in MLflow's folder of the model -> SHA-256.
        signature: over both.
    """

    manifest: str
    files: Mapping[str, str]
    signature: Signature


def write_artifact(folder: Path, files: Mapping[str, str], key_file: Path | None = None) -> None:
    """Write ``artifact.json``, signed, beside the manifest.

    Args:
        folder: the run's ``register``.
        files: from ``core.bundle.files_of``.
        key_file: private key; None is this user's own.
    """
    body = {"schema": SCHEMA, "manifest": digest_file(folder / MANIFEST_NAME), "files": dict(files)}
    signed = {"artifact": body, "signature": asdict(sign(canonical(body), key_file))}
    text = json.dumps(signed, indent=1, sort_keys=True) + "\n"
    write_durably(folder / ARTIFACT_NAME, text.encode("utf-8"))


def read_artifact(folder: Path, trusted: Collection[str]) -> Artifact:
    """The inverse of ``write_artifact``, with its signature checked.

    Args:
        folder: the run's ``register``.
        trusted: public keys of which one must have signed, as ``Signature.public_key``.

    Raises:
        IntegrityError: it is missing or was changed, another signed it, or it is of another manifest.
    """
    path = folder / ARTIFACT_NAME
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        body, signature = dict(value["artifact"]), Signature(**value["signature"])
        if body["schema"] != SCHEMA:
            raise IntegrityError(f"{path}: written in form {body['schema']}, expected {SCHEMA}.")
        check_listed(canonical(body), signature, trusted)
        files = {str(name): str(digest) for name, digest in body["files"].items()}
        found = Artifact(str(body["manifest"]), files, signature)
    except FileNotFoundError as error:
        raise IntegrityError(f"{path} is missing: the tracked files were never signed.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(f"{path}: not a signed list of the tracked files.") from error
    if found.manifest != digest_file(folder / MANIFEST_NAME):
        raise IntegrityError(f"{path}: of another manifest than lies beside it.")
    return found
