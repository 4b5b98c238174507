"""MLflow's registry with the gate in front: a plug-in that MLflow itself loads wherever CliniMM is installed.

It guards the registered models that CliniMM made (tag ``clinimm.gated``) and leaves all others alone. A
version needs approvals that fit the bytes it points at, ``champion`` needs those for promotion, stages are
shut, and the gate's tags cannot be written by hand. MLflow has no hook that may refuse (webhooks fire
afterwards), but its store is an entry point (``mlflow.model_registry_store``), in the client and in
``mlflow server`` alike. Whoever writes into the database passes by this; the server's own check does not.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from mlflow.entities.model_registry import ModelVersion, ModelVersionTag, RegisteredModelTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED, RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

from clinimm.core.errors import CliniMMError, IntegrityError
from clinimm.core.names import same_name
from clinimm.gate.approval import CLAIMS, Evidence, parse_approval
from clinimm.gate.files import check_files, folder_of
from clinimm.gate.judge import judge_all, require
from clinimm.gate.refused import GateRefused
from clinimm.gate.registry import APPROVAL_TAG, CHAMPION, EVIDENCE_TAG, GATED_TAG, REVOKED_TAG, TAGS
from clinimm.gate.rules import Act, Governance, load_governance

#: Stages that mean use; MLflow keeps them from before there were aliases.
_SHUT_STAGES = frozenset({"staging", "production"})


class GatedMixin:
    """What every guarded store refuses; mixed into one of MLflow's own stores."""

    def create_model_version(
        self, name: str, source: str, run_id: str | None = None, tags: Any = None, *rest: Any, **named: Any
    ) -> Any:
        """Make a version; of a guarded model only with approvals, in its tags, that fit its files."""
        if self._guarded(name):
            found = {tag.key: tag.value for tag in tags or ()}
            _decide("register", name, found, self._location(source))
        return super().create_model_version(name, source, run_id, tags, *rest, **named)  # type: ignore[misc]

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> Any:
        """Move an alias; ``champion`` of a guarded model only with approvals that fit its files."""
        if self._guarded(name) and same_name(alias) == CHAMPION:
            one: ModelVersion = self.get_model_version(name, version)  # type: ignore[attr-defined]
            location = self.get_model_version_download_uri(name, version)  # type: ignore[attr-defined]
            _decide("promote", name, one.tags, location)
        return super().set_registered_model_alias(name, alias, version)  # type: ignore[misc]

    def transition_model_version_stage(
        self, name: str, version: str, stage: str, *rest: Any, **named: Any
    ) -> Any:
        """Move to a stage; guarded models are used through the alias alone."""
        if self._guarded(name) and stage.casefold() in _SHUT_STAGES:
            _refuse(
                "stage-guarded", f"{name}: no stage is used here; clinimm gate promote RUN moves the alias."
            )
        return super().transition_model_version_stage(name, version, stage, *rest, **named)  # type: ignore[misc]

    def set_model_version_tag(self, name: str, version: str, tag: ModelVersionTag) -> Any:
        """Write a tag; of the gate's own only further approvals and withdrawals."""
        if self._guarded(name) and _ours(tag.key):
            _may_add(name, tag, self.get_model_version(name, version).tags)  # type: ignore[attr-defined]
        return super().set_model_version_tag(name, version, tag)  # type: ignore[misc]

    def delete_model_version_tag(self, name: str, version: str, key: str) -> Any:
        """Remove a tag that is not the gate's."""
        self._keep_tag(name, key)
        return super().delete_model_version_tag(name, version, key)  # type: ignore[misc]

    def set_registered_model_tag(self, name: str, tag: RegisteredModelTag) -> Any:
        """Write a tag of a model; a guarded one stays guarded."""
        if tag.key != GATED_TAG or tag.value != "true":
            self._keep_tag(name, tag.key)
        return super().set_registered_model_tag(name, tag)  # type: ignore[misc]

    def delete_registered_model_tag(self, name: str, key: str) -> Any:
        """Remove a tag that is not the gate's."""
        self._keep_tag(name, key)
        return super().delete_registered_model_tag(name, key)  # type: ignore[misc]

    def rename_registered_model(self, name: str, new_name: str) -> Any:
        """Rename a model that is not guarded: approvals name their model."""
        self._keep_name(name)
        return super().rename_registered_model(name, new_name)  # type: ignore[misc]

    def delete_registered_model(self, name: str) -> Any:
        """Delete a model that is not guarded: another could be made under its name."""
        self._keep_name(name)
        return super().delete_registered_model(name)  # type: ignore[misc]

    def _guarded(self, name: str) -> bool:
        try:
            return self.get_registered_model(name).tags.get(GATED_TAG) == "true"  # type: ignore[attr-defined]
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
                raise  # a database that does not answer says nothing of whether a model is guarded
            return False

    def _keep_tag(self, name: str, key: str) -> None:
        if _ours(key) and self._guarded(name):
            _refuse("tag-guarded", f"{name}: the tag {key} is the gate's; clinimm gate writes it.")

    def _keep_name(self, name: str) -> None:
        if self._guarded(name):
            _refuse("name-guarded", f"{name}: a guarded model keeps its name; take the alias away instead.")

    def _location(self, source: str) -> str:
        """Where the files of a source lie, as MLflow would find them."""
        from mlflow import MlflowClient
        from mlflow.store.artifact.utils.models import _parse_model_uri

        if not source.startswith("models:"):
            return source
        parsed = _parse_model_uri(source)
        if parsed.model_id is not None:
            return str(MlflowClient().get_logged_model(parsed.model_id).artifact_location)
        return str(self.get_model_version_download_uri(parsed.name, parsed.version))  # type: ignore[attr-defined]


def gated_store(store_uri: str) -> SqlAlchemyStore:
    """The guarded store for a database; what MLflow's entry point calls."""
    from mlflow.environment_variables import MLFLOW_ENABLE_WORKSPACES

    read_only = None
    if "mlflow.server" in sys.modules:  # in the client there is no replica, and the import takes seconds
        from mlflow.server.constants import READ_REPLICA_BACKEND_STORE_URI_ENV_VAR

        read_only = os.environ.get(READ_REPLICA_BACKEND_STORE_URI_ENV_VAR)
    return _store_class(bool(MLFLOW_ENABLE_WORKSPACES.get()))(store_uri, read_db_uri=read_only)


@cache
def _store_class(workspaces: bool) -> type[SqlAlchemyStore]:
    if not workspaces:
        return type("GatedStore", (GatedMixin, SqlAlchemyStore), {})
    from mlflow.store.model_registry.sqlalchemy_workspace_store import WorkspaceAwareSqlAlchemyStore

    return type("GatedWorkspaceStore", (GatedMixin, WorkspaceAwareSqlAlchemyStore), {})


def _decide(act: Act, name: str, tags: Mapping[str, str], location: str) -> None:
    try:
        _check(act, name, tags, folder_of(location), load_governance())
    except GateRefused as refused:
        raise MlflowException(str(refused), PERMISSION_DENIED) from refused
    except (CliniMMError, OSError) as error:
        raise MlflowException(f"refused: the gate cannot decide: {error}", PERMISSION_DENIED) from error


def _check(act: Act, name: str, tags: Mapping[str, str], folder: Path, governance: Governance) -> None:
    """Judge a version's approvals, from its tags and the files that it points at.

    Raises:
        GateRefused: they do not let it through.
    """
    texts = {key: value for key, value in tags.items() if key.startswith(APPROVAL_TAG)}
    if EVIDENCE_TAG not in tags or not texts:
        raise GateRefused("no-approval", f"{name}: this version carries no approval; clinimm gate {act} RUN.")
    evidence = _evidence(name, tags[EVIDENCE_TAG], texts, governance)
    if evidence.policy not in governance.policy_digests():
        raise GateRefused("other-policy", f"{name}: audited under a policy that is not the gate's any more.")
    check_files(name, evidence, folder)
    revoked = [key.removeprefix(REVOKED_TAG) for key in tags if key.startswith(REVOKED_TAG)]
    require(judge_all(texts, evidence, governance, revoked, datetime.now(UTC)), act, governance)


def _evidence(name: str, told: str, texts: Mapping[str, str], governance: Governance) -> Evidence:
    """What the version says of itself; its files are those of the first approval, and are checked next."""
    key, text = next(iter(texts.items()))
    try:
        digests = json.loads(told)
        files = parse_approval(text, key).evidence.files
        known = {**digests, "model_name": name, "intended_use": governance.intended_use_digest()}
        return Evidence(**known, files=files)
    except (ValueError, TypeError, KeyError, IntegrityError) as error:
        raise GateRefused("bad-signature", f"{name}: the gate's tags cannot be read ({CLAIMS}).") from error


def _ours(key: str) -> bool:
    """Whether the gate writes a tag; MySQL and SQL Server find it in any case and with trailing spaces."""
    return key.strip().casefold().startswith(TAGS)


def _may_add(name: str, tag: ModelVersionTag, there: Mapping[str, str]) -> None:
    if tag.key.startswith(REVOKED_TAG):
        return  # whoever may not promote may still stop
    if not tag.key.startswith(APPROVAL_TAG) or there.get(tag.key, tag.value) != tag.value:
        _refuse("tag-guarded", f"{name}: the tag {tag.key} is the gate's; clinimm gate writes it.")


def _refuse(code: Any, reason: str) -> None:
    raise MlflowException(str(GateRefused(code, reason)), PERMISSION_DENIED)
