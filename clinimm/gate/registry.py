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
from clinimm.gate.files import check_files, folder_of
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
#: How MLflow says that there is no such thing.
_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


def register_version(
    root: Path,
    registration: Registration,
    evidence: Evidence,
    texts: Mapping[str, str],
    governance: Governance,
) -> int:
    """A version of the tracked model, with its evidence and approvals; its number.

    One that is there already is taken: a crash after it was made and before the gate's log told of it
    leaves that.

    Raises:
        GateRefused: the tracked files are not those that were approved.
    """
    tags = {EVIDENCE_TAG: _evidence_tag(evidence)} | _approval_tags(texts)
    with _session(root, governance) as client:
        _gated_name(client, registration.model_name)
        check_files(registration.model_name, evidence, folder_of(_tracked(client, registration)))
        if (there := _version_of(client, registration, evidence)) is not None:
            return there
        made = client.create_model_version(
            registration.model_name,
            registration.source,
            registration.run_id,
            tags=tags,
            model_id=registration.model_id,
        )
        return int(made.version)


def move_champion(
    root: Path, version: int, evidence: Evidence, texts: Mapping[str, str], governance: Governance
) -> None:
    """Let the alias ``champion`` point at a version; its approvals of today go with it.

    Raises:
        GateRefused: the version is gone, or its files are not those that were approved.
    """
    name = evidence.model_name
    with _session(root, governance) as client:
        _check_version(client, version, evidence)
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
            if error.error_code in _ABSENT:
                return None
            raise


def check_version(root: Path, version: int, evidence: Evidence, governance: Governance) -> None:
    """That a version of the registry points at the files that were approved.

    Raises:
        GateRefused: it is gone, or its files are others.
    """
    with _session(root, governance) as client:
        _check_version(client, version, evidence)


def mark_revoked(root: Path, name: str, version: int, identifier: str, governance: Governance) -> None:
    """Tell the registry that an approval was withdrawn, and take ``champion`` away from its version."""
    with _session(root, governance) as client:
        client.set_model_version_tag(name, str(version), f"{REVOKED_TAG}{identifier}", "true")
        if str(client.get_registered_model(name).aliases.get(CHAMPION)) == str(version):
            client.delete_registered_model_alias(name, CHAMPION)


def _check_version(client: MlflowClient, version: int, evidence: Evidence) -> None:
    from mlflow.exceptions import MlflowException

    name = evidence.model_name
    try:
        location = client.get_model_version_download_uri(name, str(version))
    except MlflowException as error:
        if error.error_code not in _ABSENT:
            raise
        raise GateRefused(
            "not-registered",
            f"{name}: the registry has no version {version} any more: clinimm gate register {evidence.run}.",
        ) from error
    check_files(name, evidence, folder_of(location))


def _tracked(client: MlflowClient, registration: Registration) -> str:
    """Where MLflow keeps the files of a tracked model."""
    if registration.model_id is None:
        return registration.source
    return str(client.get_logged_model(registration.model_id).artifact_location)


def _version_of(client: MlflowClient, registration: Registration, evidence: Evidence) -> int | None:
    """The newest version that was made of this tracked model for this evidence."""
    name = registration.model_name
    wanted = (name, registration.source, _evidence_tag(evidence))
    quote = '"' if "'" in name else "'"
    found = [
        int(one.version)
        for one in client.search_model_versions(f"name={quote}{name}{quote}")
        if (one.name, one.source, one.tags.get(EVIDENCE_TAG)) == wanted
    ]
    return max(found, default=None)


def _evidence_tag(evidence: Evidence) -> str:
    return json.dumps(evidence.digests, sort_keys=True)


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
