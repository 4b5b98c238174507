"""An approval: one person, in one role, lets one model with one audit through, until a day."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from clinimm.core.bundle import Bundle, read_bundle, write_bundle
from clinimm.core.errors import IntegrityError
from clinimm.gate.rules import ACTS

SCHEMA = "clinimm.approval/2"
#: Where the claims stand in the bundle's predicate.
CLAIMS = "clinimm_approval"
APPROVAL_SUFFIX = ".sigstore.json"


@dataclass(frozen=True)
class Evidence:
    """What an approval is about: every digest is SHA-256, hex.

    Attributes:
        run: name of the run.
        model_name: name in the registry.
        model: digest of the model, as the signed manifest names it.
        files: path in the model's folder -> digest.
        artifact: path in MLflow's folder of the model -> digest; holds the model and what runs it.
        manifest: of ``register/manifest.json``, which binds predictions, cohort and records.
        audit: of ``audit/audit.json``.
        policy: of the policy that the audit read.
        intended_use: of the text of the intended use; None where the gate's rules name none.
        author_key: public key that signed the manifest, as ``Signature.public_key``.
    """

    run: str
    model_name: str
    model: str
    files: Mapping[str, str]
    artifact: Mapping[str, str]
    manifest: str
    audit: str
    policy: str
    intended_use: str | None
    author_key: str

    @property
    def digests(self) -> dict[str, Any]:
        """What an approval repeats, beside the model's files."""
        return {key: value for key, value in asdict(self).items() if key != "files"}


@dataclass(frozen=True)
class Approval:
    """An approval as its bundle states it; ``judge.py`` says whether it counts.

    Attributes:
        identifier: drawn when it was signed; a revocation names it.
        evidence: what it is about.
        person, role: who signed, and as what.
        acts: ``register``, ``promote``, ``serve``.
        made: when it was signed, UTC, by the signer's clock.
        until: last day on which it counts.
        comment: what the signer adds for people.
        bundle: as it was read.
    """

    identifier: str
    evidence: Evidence
    person: str
    role: str
    acts: tuple[str, ...]
    made: datetime
    until: date
    comment: str
    bundle: Bundle


@dataclass(frozen=True)
class Terms:
    """What a signer decides.

    Attributes:
        person, role: who signs, and as what.
        until: last day on which it counts.
        acts: what is approved.
        comment: for people.
        made: now, UTC.
    """

    person: str
    role: str
    until: date
    acts: tuple[str, ...] = ACTS
    comment: str = ""
    made: datetime | None = None


def sign_approval(evidence: Evidence, terms: Terms, key_file: Path) -> tuple[str, str]:
    """Sign an approval; needs no network and no registry.

    Args:
        evidence: what was looked at.
        terms: by whom, as what, until when.
        key_file: the signer's private key (PEM, ECDSA).

    Returns:
        its identifier and the bundle as JSON.
    """
    identifier = secrets.token_hex(8)
    claims = {
        "schema": SCHEMA,
        "id": identifier,
        **evidence.digests,
        "person": terms.person,
        "role": terms.role,
        "acts": list(terms.acts),
        "made": (terms.made or datetime.now(UTC)).isoformat(timespec="seconds"),
        "until": terms.until.isoformat(),
        "comment": terms.comment,
    }
    return identifier, write_bundle(evidence.run, evidence.files, {CLAIMS: claims}, key_file)


def parse_approval(text: str, named: str) -> Approval:
    """An approval from its bundle, unchecked.

    Raises:
        IntegrityError: it is no approval.
    """
    bundle = read_bundle(text, named)
    try:
        claims = dict(bundle.claims[CLAIMS])
        if claims.pop("schema") != SCHEMA:
            raise IntegrityError(f"{named}: an approval of another form than {SCHEMA}.")
        fields = {key: claims.pop(key) for key in _DIGESTS}
        made = datetime.fromisoformat(claims.pop("made"))
        if made.tzinfo is None:
            raise ValueError("made: without a time zone")
        return Approval(
            identifier=str(claims.pop("id")),
            evidence=Evidence(files=bundle.files, **fields),
            made=made,
            until=date.fromisoformat(claims.pop("until")),
            acts=tuple(claims.pop("acts")),
            bundle=bundle,
            **claims,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"{named}: not an approval.") from error


def read_approvals(folder: Path) -> dict[str, str]:
    """File name -> text of every approval in a folder."""
    return {path.name: path.read_text(encoding="utf-8", errors="replace") for path in _sorted_files(folder)}


def _sorted_files(folder: Path) -> Iterable[Path]:
    return sorted(path for path in folder.glob(f"*{APPROVAL_SUFFIX}") if path.is_file())


_DIGESTS = (
    "run",
    "model_name",
    "model",
    "artifact",
    "manifest",
    "audit",
    "policy",
    "intended_use",
    "author_key",
)
