"""A signature holds for its content, by its key, and for nothing else."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from clinimm.core.errors import ConfigError, IntegrityError
from clinimm.core.sign import check, is_whole, sign, signing_folder


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def _pair(folder: Path) -> tuple[Path, Path]:
    key = Ed25519PrivateKey.generate()
    private, public = folder / "other.key", folder / "other.pub"
    private.write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()))
    public.write_bytes(
        key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def test_own_key_is_made_once_and_private() -> None:
    first, second = sign(b"content"), sign(b"content")
    assert first == second  # Ed25519 is deterministic (RFC 8032, 5.1.6)
    assert (signing_folder() / "signing.key").stat().st_mode & 0o077 == 0
    check(b"content", first)


def test_signature_is_ed25519_to_an_independent_reader() -> None:
    signature = sign(b"content")
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(signature.public_key))
    public.verify(base64.b64decode(signature.value), b"content")


def test_changed_content_is_refused() -> None:
    with pytest.raises(IntegrityError, match="changed after it was signed"):
        check(b"other content", sign(b"content"))


def test_signature_by_another_key_is_refused_unless_vouched_for(tmp_path: Path) -> None:
    private, public = _pair(tmp_path)
    sign(b"makes the own key")
    foreign = sign(b"content", private)
    with pytest.raises(IntegrityError, match=f"signed by key {foreign.key_id}, not by"):
        check(b"content", foreign)
    check(b"content", foreign, public)


def test_public_key_in_the_signature_is_not_taken_on_trust(tmp_path: Path) -> None:
    private, _ = _pair(tmp_path)
    own, foreign = sign(b"content"), sign(b"content", private)
    with pytest.raises(IntegrityError):
        check(b"content", replace(foreign, public_key=own.public_key))


def test_machine_without_a_key_asks_for_one(tmp_path: Path) -> None:
    private, _ = _pair(tmp_path)
    with pytest.raises(IntegrityError, match="--key FILE"):
        check(b"content", sign(b"content", private))


def test_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rsa.key"
    key = generate_private_key(65537, 2048)
    file.write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()))
    with pytest.raises(ConfigError, match="not an Ed25519 or ECDSA key"):
        sign(b"content", file)
    file.write_text("nonsense")
    with pytest.raises(ConfigError, match="not an unencrypted private key"):
        sign(b"content", file)
    with pytest.raises(ConfigError, match="cannot be read"):
        sign(b"content", tmp_path / "absent")


def test_stranger_s_signature_is_whole_and_a_changed_content_is_not(tmp_path: Path) -> None:
    private, _ = _pair(tmp_path)
    foreign = sign(b"content", private)
    assert is_whole(b"content", foreign)
    assert not is_whole(b"contend", foreign)
    assert not is_whole(b"content", replace(foreign, key_id=sign(b"content").key_id))
    assert not is_whole(b"content", replace(foreign, public_key="bm9uc2Vuc2U="))
