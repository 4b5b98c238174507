"""Ed25519 signatures (RFC 8032): who vouches for a model or an image, and that nothing changed since."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clinimm.core.errors import ConfigError, IntegrityError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ALGORITHM = "Ed25519"
_PRIVATE_NAME = "signing.key"
_PUBLIC_NAME = "signing.pub"


@dataclass(frozen=True)
class Signature:
    """A signature with the public key that checks it.

    Attributes:
        key_id: first 16 hex digits of the SHA-256 of the raw public key, for people.
        public_key: the raw public key, base 64.
        value: the signature, base 64.
        algorithm: always ``Ed25519``.
    """

    key_id: str
    public_key: str
    value: str
    algorithm: str = ALGORITHM


def sign(content: bytes, key_file: Path | None = None) -> Signature:
    """Sign ``content`` with the key in ``key_file``, else with this user's key.

    The user's key is made at the first signature, with mode 600, beside its public half
    (``signing.pub``), which is what a reviewer needs.

    Raises:
        ConfigError: the key file cannot be read or holds no Ed25519 key.
    """
    key = _load_private(key_file if key_file is not None else _own_key())
    public = _raw(key.public_key())
    return Signature(key_id(public), _text(public), _text(key.sign(content)))


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
    from cryptography.exceptions import InvalidSignature

    trusted = _load_public(trusted_key or signing_folder() / _PUBLIC_NAME)
    if trusted is None:
        raise IntegrityError(
            f"signed by key {signature.key_id}, and this machine knows no signing key: give the "
            "signer's public key with --key FILE."
        )
    if _text(_raw(trusted)) != signature.public_key or signature.algorithm != ALGORITHM:
        raise IntegrityError(
            f"signed by key {signature.key_id}, not by {key_id(_raw(trusted))}, which is trusted here; "
            "give the signer's public key with --key FILE if you vouch for it."
        )
    try:
        trusted.verify(base64.b64decode(signature.value), content)
    except (InvalidSignature, ValueError) as error:
        raise IntegrityError("the manifest was changed after it was signed.") from error


def is_whole(content: bytes, signature: Signature) -> bool:
    """Whether ``content`` is what the key inside ``signature`` signed, whoever holds that key.

    This tells a changed file from a file that a stranger signed; it vouches for nobody.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        raw = base64.b64decode(signature.public_key)
        if signature.algorithm != ALGORITHM or key_id(raw) != signature.key_id:
            return False
        Ed25519PublicKey.from_public_bytes(raw).verify(base64.b64decode(signature.value), content)
    except (InvalidSignature, ValueError):
        return False
    return True


def key_id(public: bytes) -> str:
    """A short name of a raw public key."""
    return hashlib.sha256(public).hexdigest()[:16]


def signing_folder() -> Path:
    """Where this user's key pair lies (XDG Base Directory)."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "clinimm"


def _own_key() -> Path:
    path = signing_folder() / _PRIVATE_NAME
    if not path.exists():
        _make_pair(path)
    return path


def _make_pair(path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return  # another process made it in the meantime
    with os.fdopen(handle, "wb") as stream:
        stream.write(private)
    public = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    path.with_name(_PUBLIC_NAME).write_bytes(public)


def _load_private(path: Path) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise ConfigError(f"{path}: the signing key cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not an unencrypted private key in PEM.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path}: the signing key is not an Ed25519 key.")
    return key


def _load_public(path: Path) -> Ed25519PublicKey | None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if not path.is_file():
        return None
    try:
        key = load_pem_public_key(path.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{path}: not a public key in PEM.") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{path}: not an Ed25519 public key.")
    return key


def _raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes_raw()


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
