"""Signatures with a key pair: who vouches for a model or an image, and that nothing changed since."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clinimm.core.errors import IntegrityError
from clinimm.core.keys import (
    ED25519,
    algorithm_of,
    as_text,
    from_text,
    is_signed,
    load_private,
    load_public,
    make_pair,
    sign_bytes,
)

if TYPE_CHECKING:
    from clinimm.core.keys import PublicKey

_PRIVATE_NAME = "signing.key"
_PUBLIC_NAME = "signing.pub"


@dataclass(frozen=True)
class Signature:
    """A signature with the public key that checks it.

    Attributes:
        key_id: first 16 hex digits of the SHA-256 of the public key, for people.
        public_key: the public key, base 64: raw for Ed25519, DER for ECDSA.
        value: the signature, base 64.
        algorithm: ``Ed25519`` or ``ECDSA``.
    """

    key_id: str
    public_key: str
    value: str
    algorithm: str = ED25519


def sign(content: bytes, key_file: Path | None = None) -> Signature:
    """Sign ``content`` with the key in ``key_file``, else with this user's key.

    The user's key is made at the first signature, with mode 600, beside its public half
    (``signing.pub``), which is what a reviewer needs.

    Raises:
        ConfigError: the key file cannot be read or holds no Ed25519 or ECDSA key.
    """
    key = load_private(key_file if key_file is not None else own_key())
    public = key.public_key()
    value = base64.b64encode(sign_bytes(key, content)).decode("ascii")
    return Signature(_id(public), as_text(public), value, algorithm_of(public))


def canonical(body: Mapping[str, Any]) -> bytes:
    """The bytes of a JSON object that are signed: keys sorted, no space, UTF-8."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def check(content: bytes, signature: Signature, trusted_key: Path | None = None) -> None:
    """Check ``signature`` against a public key that somebody vouches for.

    Args:
        content: what was signed.
        signature: what came with it.
        trusted_key: the signer's public key (PEM); None takes this user's own.

    Raises:
        IntegrityError: the content changed, or another key signed it.
    """
    path = trusted_key or signing_folder() / _PUBLIC_NAME
    if not path.is_file():
        raise IntegrityError(
            f"signed by key {signature.key_id}, and this machine knows no signing key: give the "
            "signer's public key with --key FILE."
        )
    trusted = load_public(path.read_bytes(), str(path))
    if as_text(trusted) != signature.public_key or algorithm_of(trusted) != signature.algorithm:
        raise IntegrityError(
            f"signed by key {signature.key_id}, not by {_id(trusted)}, which is trusted here; "
            "give the signer's public key with --key FILE if you vouch for it."
        )
    if not _fits(trusted, content, signature):
        raise IntegrityError("the manifest was changed after it was signed.")


def check_listed(content: bytes, signature: Signature, trusted: Collection[str]) -> None:
    """Check ``signature`` against a list of public keys, each as ``Signature.public_key``.

    Raises:
        IntegrityError: the content changed, or a key signed it that is not in the list.
    """
    if not all(isinstance(value, str) for value in asdict(signature).values()):
        raise IntegrityError("its signature cannot be read.")
    if signature.public_key not in trusted:
        raise IntegrityError(f"signed by key {signature.key_id}, which nobody here vouches for.")
    if not is_whole(content, signature):
        raise IntegrityError("it was changed after it was signed.")


def is_whole(content: bytes, signature: Signature) -> bool:
    """Whether ``content`` is what the key inside ``signature`` signed, whoever holds that key.

    This tells a changed file from a file that a stranger signed; it vouches for nobody.
    """
    try:
        public = from_text(signature.public_key, signature.algorithm)
    except ValueError:
        return False
    return _id(public) == signature.key_id and _fits(public, content, signature)


def key_id(public: bytes) -> str:
    """A short name of a public key: raw for Ed25519, DER for ECDSA."""
    return hashlib.sha256(public).hexdigest()[:16]


def signing_folder() -> Path:
    """Where this user's key pair lies (XDG Base Directory)."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "clinimm"


def own_key() -> Path:
    """This user's private key; made where there is none."""
    path = signing_folder() / _PRIVATE_NAME
    if not path.exists():
        make_pair(path)
    return path


def _fits(public: PublicKey, content: bytes, signature: Signature) -> bool:
    try:
        return is_signed(public, base64.b64decode(signature.value), content)
    except ValueError:
        return False


def _id(public: PublicKey) -> str:
    return key_id(base64.b64decode(as_text(public)))
