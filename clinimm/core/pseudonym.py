"""Keyed pseudonyms and sealed text: what may be written in place of an identifier.

A pseudonym is ``base32(HMAC-SHA256(key, namespace | value))`` cut to 130 bits: the same patient
has the same pseudonym in every run with the same key, and nobody without the key can compute it.
Sealed text (a file's path, a birth date that a later, incremental run needs) is encrypted with
AES-SIV (RFC 5297), which is deterministic, so outputs stay reproducible.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from clinimm.core.errors import ConfigError, MissingKeyError

KEY_VARIABLE = "CLINIMM_PSEUDONYM_KEY"
_LENGTH = 26
_SHORTEST_KEY = 16


@dataclass(frozen=True)
class Pseudonymiser:
    """Computes pseudonyms and seals text under one secret key.

    >>> p = Pseudonymiser(b"0123456789abcdef")
    >>> p.subject(None, "MRN1") == p.subject(None, " MRN1 ")
    True
    >>> p.unseal(p.seal("scans/MRN1/001.dcm"))
    'scans/MRN1/001.dcm'
    """

    key: bytes = field(repr=False)

    def subject(self, issuer: str | None, identifier: str) -> str:
        """The pseudonym of a patient identifier within its issuer (the assigning authority)."""
        return self.hash("subject", (issuer or "").strip() + "|" + identifier.strip())

    def identifier(self, identifier: str) -> str:
        """The keyed hash of an identifier alone, for look-ups where the issuer is not stated."""
        return self.hash("identifier", identifier.strip())

    def hash(self, namespace: str, value: str) -> str:
        """The keyed hash of any value; ``namespace`` keeps different kinds apart."""
        digest = hmac.new(self.key, f"{namespace}|{value}".encode(), hashlib.sha256).digest()
        return base64.b32encode(digest).decode("ascii")[:_LENGTH]

    def seal(self, text: str) -> str:
        """``text`` encrypted, as URL-safe base 64; equal texts give equal seals."""
        return base64.urlsafe_b64encode(self._cipher.encrypt(text.encode("utf-8"), None)).decode("ascii")

    def unseal(self, sealed: str) -> str:
        """The text that ``seal`` was given.

        Raises:
            MissingKeyError: it was sealed under another key.
        """
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher.decrypt(base64.urlsafe_b64decode(sealed), None).decode("utf-8")
        except (InvalidTag, ValueError) as error:
            raise MissingKeyError(
                "a sealed path was written under another pseudonym key; use the key of the ingest "
                "that wrote it, or ingest again."
            ) from error

    @cached_property
    def _cipher(self):  # type: ignore[no-untyped-def]  # cryptography is imported on first use
        from cryptography.hazmat.primitives.ciphers.aead import AESSIV

        return AESSIV(hmac.new(self.key, b"clinimm seal", hashlib.sha512).digest())


def load_pseudonymiser(key_file: Path | None = None) -> Pseudonymiser:
    """The key from ``key_file``, else from the environment, else one made once for this user.

    The key is never written into a run. A key that is made here lies in the user's configuration
    folder with mode 600; whoever loses it can no longer link new data to old pseudonyms.

    Raises:
        ConfigError: the file is absent or the key is shorter than 16 bytes.
    """
    if key_file is not None:
        try:
            return _checked(key_file.read_bytes().strip(), str(key_file))
        except OSError as error:
            raise ConfigError(f"{key_file}: the pseudonym key cannot be read: {error.strerror}.") from error
    if value := os.environ.get(KEY_VARIABLE):
        return _checked(value.encode("utf-8"), KEY_VARIABLE)
    path = default_key_file()
    if not path.exists():
        _make_key(path)
    return _checked(path.read_bytes().strip(), str(path))


def default_key_file() -> Path:
    """``clinimm/pseudonym.key`` in the user's configuration folder (XDG Base Directory)."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "clinimm" / "pseudonym.key"


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(handle, "w", encoding="ascii") as stream:
        stream.write(secrets.token_hex(32) + "\n")


def _checked(key: bytes, where: str) -> Pseudonymiser:
    if len(key) < _SHORTEST_KEY:
        raise ConfigError(
            f"{where}: the pseudonym key has {len(key)} bytes; at least {_SHORTEST_KEY} are needed."
        )
    return Pseudonymiser(key)
