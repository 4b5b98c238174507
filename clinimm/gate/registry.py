"""What the gate does in MLflow: a version with its evidence and approvals, and the alias ``champion``.

Everything stands in tags of the version, so that the store plug-in (``store.py``) can judge it by itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from clinimm.core.errors import AuditGateError
from clinimm.gate.approval import Evidence
from clinimm.gate.refused import GateRefused
from clinimm.gate.rules import GOVERNANCE_VARIABLE, Governance
from clinimm.register.mlflow import session
from clinimm.register.registration import Registration
from clinimm.settings import load_run
from clinimm.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: The alias that clinicians are served from.
CHAMPION = "champion"
#: Prefix of all tags that the gate alone may write.
TAGS = "clinimm."
GATED_TAG = "clinimm.gated"
EVIDENCE_TAG = "clinimm.evidence"
APPROVAL_TAG = "clinimm.approval."
REVOKED_TAG = "clinimm.revoked."


def register_version(
    root: Path,
    registration: Registration,
    evidence: Evidence,
    texts: Mapping[str, str],
    governance: Governance,
) -> int:
    """Make a version of the tracked model, with its evidence and approvals; its number."""
    tags = {EVIDENCE_TAG: json.dumps(evidence.digests, sort_keys=True)} | _approval_tags(texts)
    with _session(root, governance) as client:
        _gated_name(client, registration.model_name)
        made = client.create_model_version(
            registration.model_name,
            registration.source,
            registration.run_id,
            tags=tags,
            model_id=registration.model_id,
        )
        return int(made.version)


def move_champion(
    root: Path, name: str, version: int, texts: Mapping[str, str], governance: Governance
) -> None:
    """Let the alias ``champion`` point at a version; its approvals of today go with it."""
    with _session(root, governance) as client:
        for key, text in _approval_tags(texts).items():
            client.set_model_version_tag(name, str(version), key, text)
        client.set_registered_model_alias(name, CHAMPION, str(version))


def champion_version(root: Path, name: str, governance: Governance) -> int | None:
    """The version that ``champion`` points at, or None."""
    from mlflow.exceptions import MlflowException

    with _session(root, governance) as client:
        try:
            return int(client.get_model_version_by_alias(name, CHAMPION).version)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise


def mark_revoked(root: Path, name: str, version: int, identifier: str, governance: Governance) -> None:
    """Tell the registry that an approval was withdrawn, and take ``champion`` away from its version."""
    with _session(root, governance) as client:
        client.set_model_version_tag(name, str(version), f"{REVOKED_TAG}{identifier}", "true")
        if str(client.get_registered_model(name).aliases.get(CHAMPION)) == str(version):
            client.delete_registered_model_alias(name, CHAMPION)


@contextmanager
def _session(root: Path, governance: Governance) -> Iterator[MlflowClient]:
    """MLflow pointed at a run's registry, with the store plug-in told whom the gate trusts."""
    from mlflow.exceptions import MlflowException

    before = os.environ.get(GOVERNANCE_VARIABLE)
    os.environ[GOVERNANCE_VARIABLE] = str(governance.folder.absolute())
    try:
        with session(Workspace(load_run(root))) as client:
            yield client
    except MlflowException as error:
        if error.error_code != "PERMISSION_DENIED":
            raise
        raise AuditGateError(error.message) from error  # the store plug-in's own refusal
    finally:
        os.environ.pop(GOVERNANCE_VARIABLE)
        if before is not None:
            os.environ[GOVERNANCE_VARIABLE] = before


def _approval_tags(texts: Mapping[str, str]) -> dict[str, str]:
    """One tag an approval, compact: MLflow holds 100,000 characters each."""
    return {
        f"{APPROVAL_TAG}{name.split('.')[0]}": json.dumps(json.loads(text), separators=(",", ":"))
        for name, text in texts.items()
    }


def _gated_name(client: MlflowClient, name: str) -> None:
    """Make sure that the registry knows the name, and that it is guarded from then on."""
    from mlflow.exceptions import MlflowException

    try:
        found = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_registered_model(name, tags={GATED_TAG: "true"})
        return
    if found.tags.get(GATED_TAG) != "true":
        if CHAMPION in (alias.casefold() for alias in found.aliases):
            raise GateRefused(
                "alias-guarded",
                f"{name} has a {CHAMPION} from before the gate: take that alias away, then register again.",
            )
        client.set_registered_model_tag(name, GATED_TAG, "true")
