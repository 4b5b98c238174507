"""Sigstore bundles signed with a key pair, offline: a signed statement about a folder of files.

The bundle (https://docs.sigstore.dev/about/bundle/, v0.3) holds a DSSE envelope
(https://github.com/secure-systems-lab/dsse) with an in-toto statement whose predicate lists every file
of a model with its SHA-256, as OpenSSF Model Signing v1.0 lays it down. Other tools check it:
``model_signing verify key --signature BUNDLE --public_key SIGNER.pub FOLDER``. Further claims stand in the
same predicate, so one signature holds both together.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clinimm.core.errors import ConfigError, IntegrityError
from clinimm.core.keys import ECDSA, algorithm_of, is_signed, load_private, pem, sign_bytes
from clinimm.core.record import digest_file

if TYPE_CHECKING:
    from clinimm.core.keys import PublicKey

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
_LARGEST_BYTES = 4 << 20


@dataclass(frozen=True)
class Bundle:
    """A bundle as it was read; nothing of it is to be believed before ``check_bundle``.

    Attributes:
        hint: SHA-256 of the signer's public key in PEM, hex; says which key to check with.
        payload: the statement's bytes.
        signature: over the payload's pre-authentication encoding.
        claims: the statement's predicate.
    """

    hint: str
    payload: bytes
    signature: bytes
    claims: Mapping[str, Any]

    @property
    def files(self) -> dict[str, str]:
        """Path in the folder -> SHA-256, hex.

        Raises:
            IntegrityError: it lists no files, or other digests.
        """
        try:
            rows = self.claims["resources"]
            if any(row["algorithm"] != "sha256" for row in rows):
                raise IntegrityError("the bundle lists digests that are not SHA-256.")
            return {str(row["name"]): str(row["digest"]) for row in rows}
        except (KeyError, TypeError) as error:
            raise IntegrityError("the bundle lists no files.") from error


def files_of(folder: Path) -> dict[str, str]:
    """Path below ``folder`` -> SHA-256 of every file, hidden ones too, in order of the path.

    Raises:
        IntegrityError: the folder is a link or one lies among them: what it leads to is not bound; or
            something lies there that is neither file nor folder.
    """
    found = {}
    for path in (folder, *sorted(folder.rglob("*"))):
        if path.is_symlink():
            raise IntegrityError(f"{path}: a link; a signed folder holds files only.")
        if path.is_file():
            found[path.relative_to(folder).as_posix()] = digest_file(path)
        elif path.exists() and not path.is_dir():
            raise IntegrityError(f"{path}: neither a file nor a folder.")
    return found


def write_bundle(name: str, files: Mapping[str, str], claims: Mapping[str, Any], key_file: Path) -> str:
    """A signed bundle as JSON.

    Args:
        name: of the folder, for people.
        files: from ``files_of``.
        claims: what else is signed, by names that the predicate does not use.
        key_file: ECDSA private key (PEM).

    Raises:
        ConfigError: the key cannot be used.
    """
    key = load_private(key_file)
    public = key.public_key()
    if algorithm_of(public) != ECDSA:
        raise ConfigError(f"{key_file}: a bundle needs an ECDSA key: clinimm gate keygen NAME makes one.")
    payload = json.dumps(_statement(name, files, claims), sort_keys=True, ensure_ascii=False).encode("utf-8")
    bundle = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": key_hint(public)}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": _text(payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": _text(sign_bytes(key, _encoded(payload))), "keyid": ""}],
        },
    }
    return json.dumps(bundle, indent=1, sort_keys=True) + "\n"


def read_bundle(text: str, named: str) -> Bundle:
    """A bundle from JSON, unchecked.

    Raises:
        IntegrityError: it is no bundle of this kind.
    """
    try:
        if len(text) > _LARGEST_BYTES:
            raise ValueError("too large")
        value = json.loads(text)
        envelope, (signature,) = value["dsseEnvelope"], value["dsseEnvelope"]["signatures"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        statement = json.loads(payload)
        kinds = (value["mediaType"], envelope["payloadType"], statement["_type"], statement["predicateType"])
        if kinds != (MEDIA_TYPE, PAYLOAD_TYPE, STATEMENT_TYPE, PREDICATE_TYPE):
            raise ValueError("another kind")
        return Bundle(
            hint=str(value["verificationMaterial"]["publicKey"]["hint"]),
            payload=payload,
            signature=base64.b64decode(signature["sig"], validate=True),
            claims=dict(statement["predicate"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(f"{named}: not a Sigstore bundle with a signed model.") from error


def check_bundle(bundle: Bundle, public: PublicKey) -> None:
    """Check the signature.

    Raises:
        IntegrityError: this key did not sign these bytes.
    """
    if not is_signed(public, bundle.signature, _encoded(bundle.payload)):
        raise IntegrityError("the bundle was changed after it was signed, or another key signed it.")


def key_hint(public: PublicKey) -> str:
    """SHA-256 of a public key in PEM, hex: how a bundle names its key."""
    return hashlib.sha256(pem(public)).hexdigest()


def _statement(name: str, files: Mapping[str, str], claims: Mapping[str, Any]) -> dict[str, Any]:
    ordered = sorted(files.items())
    root = hashlib.sha256(b"".join(bytes.fromhex(digest) for _, digest in ordered)).hexdigest()
    serialization = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": []}
    resources = [{"name": path, "digest": digest, "algorithm": "sha256"} for path, digest in ordered]
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": root}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {**claims, "serialization": serialization, "resources": resources},
    }


def _encoded(payload: bytes) -> bytes:
    """DSSE pre-authentication encoding: the type is signed with the content."""
    kind = PAYLOAD_TYPE.encode("ascii")
    return b" ".join([b"DSSEv1", str(len(kind)).encode(), kind, str(len(payload)).encode(), payload])


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
