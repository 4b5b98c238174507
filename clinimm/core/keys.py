"""Key pairs: made, read from PEM, signed with and checked with; Ed25519 and ECDSA on NIST curves.

Ed25519 (RFC 8032) signs what only CliniMM reads. ECDSA (FIPS 186-5) signs approvals, because the
Sigstore bundle of a model is checked with elliptic-curve keys by other tools.
"""

from __future__ import annotations

import base64
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from clinimm.core.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

    PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey
    PublicKey = Ed25519PublicKey | EllipticCurvePublicKey

ED25519, ECDSA = "Ed25519", "ECDSA"
#: Curves of NIST that signatures may use; the others that a PEM can hold are weak or unused.
_CURVES = frozenset({"secp256r1", "secp384r1", "secp521r1"})
PUBLIC_SUFFIX = ".pub"


def make_pair(private: Path, algorithm: str = ED25519) -> bool:
    """Make a key pair: ``private`` with mode 600, and its public half beside it (``.pub``).

    Returns:
        False where the private key is there already; then nothing is written.
    """
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate() if algorithm == ED25519 else ec.generate_private_key(ec.SECP256R1())
    text = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    private.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(handle, "wb") as stream:
        stream.write(text)
    private.with_suffix(PUBLIC_SUFFIX).write_bytes(pem(key.public_key()))
    return True


def load_private(path: Path) -> PrivateKey:
    """Read a private key.

    Raises:
        ConfigError: it cannot be read, is encrypted, or is neither Ed25519 nor ECDSA.
    """
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise ConfigError(f"{path}: the signing key cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not an unencrypted private key in PEM.") from error
    if not isinstance(key, (Ed25519PrivateKey, ec.EllipticCurvePrivateKey)):
        raise ConfigError(f"{path}: the signing key is not an Ed25519 or ECDSA key.")
    return key


def check_private_mode(path: Path) -> None:
    """Refuse a private key that other users of this machine can read or write, as OpenSSH does.

    Raises:
        ConfigError: they can; says how to mend it.
    """
    with suppress(OSError):  # a file that is not there is somebody else's error
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise ConfigError(
                f"{path}: others on this machine can use this private key. Run: chmod 600 {path}. If anybody "
                "else may have read it, end it in gate.yaml and make a new one (clinimm gate keygen)."
            )


def load_public(content: bytes, named: str) -> PublicKey:
    """A public key from PEM.

    Args:
        content: the PEM.
        named: what an error calls it, such as its path.

    Raises:
        ConfigError: it is no public key, or neither Ed25519 nor ECDSA.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{named}: not a public key in PEM.") from error
    if not isinstance(key, (Ed25519PublicKey, ec.EllipticCurvePublicKey)):
        raise ConfigError(f"{named}: not an Ed25519 or ECDSA public key.")
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name not in _CURVES:
        raise ConfigError(f"{named}: the curve {key.curve.name} is not used here; P-256, P-384 or P-521 is.")
    return key


def algorithm_of(key: PublicKey) -> str:
    """``Ed25519`` or ``ECDSA``."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    return ED25519 if isinstance(key, Ed25519PublicKey) else ECDSA


def pem(key: PublicKey) -> bytes:
    """A public key as PEM (SubjectPublicKeyInfo, RFC 5280)."""
    from cryptography.hazmat.primitives import serialization as form

    return key.public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)


def as_text(key: PublicKey) -> str:
    """A public key in one line of base 64: raw for Ed25519, DER for ECDSA."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if isinstance(key, Ed25519PublicKey):
        return base64.b64encode(key.public_bytes_raw()).decode("ascii")
    der = key.public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode("ascii")


def from_text(text: str, algorithm: str) -> PublicKey:
    """The inverse of ``as_text``.

    Raises:
        ValueError: it is no such key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    raw = base64.b64decode(text)
    if algorithm == ED25519:
        return Ed25519PublicKey.from_public_bytes(raw)
    try:
        key = load_der_public_key(raw)
    except UnsupportedAlgorithm as error:
        raise ValueError("not a key that can be used here") from error
    if algorithm != ECDSA or not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError(f"not a key for {algorithm}")
    return key


def sign_bytes(key: PrivateKey, content: bytes) -> bytes:
    """A signature over ``content``."""
    from cryptography.hazmat.primitives.asymmetric import ec

    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(content, ec.ECDSA(_hash_of(key.curve.key_size)))
    return key.sign(content)


def is_signed(key: PublicKey, signature: bytes, content: bytes) -> bool:
    """Whether ``signature`` over ``content`` was made with the private half of ``key``."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, content, ec.ECDSA(_hash_of(key.curve.key_size)))
        else:
            key.verify(signature, content)
    except InvalidSignature:
        return False
    return True


def _hash_of(curve_bits: int) -> HashAlgorithm:
    """The hash that Sigstore pairs with a NIST curve."""
    from cryptography.hazmat.primitives import hashes

    if curve_bits > 384:
        return hashes.SHA512()
    return hashes.SHA384() if curve_bits > 256 else hashes.SHA256()
