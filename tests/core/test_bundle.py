"""A bundle holds for its files and claims, and another tool reads it."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from clinimm.core.bundle import check_bundle, files_of, key_hint, read_bundle, write_bundle
from clinimm.core.errors import ConfigError, IntegrityError
from clinimm.core.keys import ECDSA, load_public, make_pair


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "part").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "part" / "model.safetensors").write_bytes(b"weights")
    (folder / ".hidden").write_bytes(b"counts too")
    return folder


@pytest.fixture
def key(tmp_path: Path) -> Path:
    assert make_pair(tmp_path / "anna.key", ECDSA)
    return tmp_path / "anna.key"


def test_bundle_is_what_the_standards_say(model: Path, key: Path) -> None:
    """DSSE v1: PAE = "DSSEv1" SP LEN(type) SP type SP LEN(body) SP body; checked by hand."""
    value = json.loads(write_bundle("demo", files_of(model), {"mine": 1}, key))
    payload = base64.b64decode(value["dsseEnvelope"]["payload"])
    kind = b"application/vnd.in-toto+json"
    signed = b"DSSEv1 28 " + kind + b" %d " % len(payload) + payload
    public = load_pem_public_key(key.with_suffix(".pub").read_bytes())
    assert isinstance(public, ec.EllipticCurvePublicKey)
    signature = base64.b64decode(value["dsseEnvelope"]["signatures"][0]["sig"])
    public.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
    statement = json.loads(payload)
    names = [row["name"] for row in statement["predicate"]["resources"]]
    assert names == [".hidden", "config.json", "part/model.safetensors"]
    digests = b"".join(hashlib.sha256(text).digest() for text in (b"counts too", b"{}", b"weights"))
    assert statement["subject"][0]["digest"]["sha256"] == hashlib.sha256(digests).hexdigest()


def test_what_was_written_is_read_and_holds(model: Path, key: Path) -> None:
    bundle = read_bundle(write_bundle("demo", files_of(model), {"mine": {"a": 1}}, key), "x")
    public = load_public(key.with_suffix(".pub").read_bytes(), "x")
    check_bundle(bundle, public)
    assert bundle.files == files_of(model)
    assert bundle.claims["mine"] == {"a": 1} and bundle.hint == key_hint(public)


@pytest.mark.parametrize("old", ['"mine": 1', '"method": "files"', "config.json"])
def test_change_is_found(model: Path, key: Path, old: str) -> None:
    value = json.loads(write_bundle("demo", files_of(model), {"mine": 1}, key))
    payload = base64.b64decode(value["dsseEnvelope"]["payload"]).decode()
    changed = payload.replace(
        old, old.replace("1", "2").replace("files", "filez").replace("config", "konfig")
    )
    assert changed != payload
    value["dsseEnvelope"]["payload"] = base64.b64encode(changed.encode()).decode()
    public = load_public(key.with_suffix(".pub").read_bytes(), "x")
    with pytest.raises(IntegrityError, match="changed after it was signed"):
        check_bundle(read_bundle(json.dumps(value), "x"), public)


def test_another_key_does_not_check(model: Path, key: Path, tmp_path: Path) -> None:
    make_pair(tmp_path / "bert.key", ECDSA)
    bundle = read_bundle(write_bundle("demo", files_of(model), {}, key), "x")
    with pytest.raises(IntegrityError):
        check_bundle(bundle, load_public((tmp_path / "bert.pub").read_bytes(), "x"))


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, json.dumps({"mediaType": "other"})])
def test_other_files_are_no_bundles(text: str) -> None:
    with pytest.raises(IntegrityError, match="not a Sigstore bundle"):
        read_bundle(text, "x")


def test_link_is_refused(model: Path) -> None:
    (model / "link").symlink_to(model / "config.json")
    with pytest.raises(IntegrityError, match="a link"):
        files_of(model)


def test_ed25519_key_is_refused(model: Path, tmp_path: Path) -> None:
    make_pair(tmp_path / "ed.key")
    with pytest.raises(ConfigError, match="needs an ECDSA key"):
        write_bundle("demo", files_of(model), {}, tmp_path / "ed.key")


def test_pair_is_private_and_never_overwritten(key: Path) -> None:
    before = key.read_bytes()
    assert key.stat().st_mode & 0o777 == 0o600
    assert not make_pair(key, ECDSA) and key.read_bytes() == before


@pytest.mark.slow
def test_openssf_model_signing_checks_it(model: Path, key: Path, tmp_path: Path) -> None:
    """The independent tool: it accepts ours, and no longer once a byte of the model differs."""
    if find_spec("model_signing") is None:
        pytest.skip("model-signing is not installed")
    path = tmp_path / "demo.sigstore.json"
    path.write_text(write_bundle("demo", files_of(model), {"mine": {"a": 1}}, key))
    command = [sys.executable, "-m", "model_signing", "verify", "key", "--signature", str(path)]
    command += ["--public_key", str(key.with_suffix(".pub")), str(model)]
    assert subprocess.run(command, check=False).returncode == 0
    (model / "config.json").write_text("{ }")
    assert subprocess.run(command, check=False).returncode != 0
