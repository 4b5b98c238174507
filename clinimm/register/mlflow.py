"""MLflow: parameters, metrics, figures, and the model as a pyfunc without pickle."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clinimm import __version__
from clinimm.core.bundle import files_of
from clinimm.register.registration import Registration
from clinimm.register.sbom import SBOM_NAME
from clinimm.score import write_bundle
from clinimm.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LONGEST_PARAMETER = 500
_MOST_METRICS = 1000
#: Settings that say where things lie on a machine: of no use to a reader, and not theirs to know.
_PLACES = re.compile(r"(^sources\.|_dir$|_file$|^cohort$|^audit\.policy$|tracking_uri$)")
_DOCUMENTS = (
    "audit/audit.json",
    "audit/audit.html",
    "evaluate/metrics.json",
    "evaluate/table.parquet",
    "register/manifest.json",
    f"register/{SBOM_NAME}",
)


@dataclass(frozen=True)
class Tracked:
    """Where a run stands in MLflow.

    Attributes:
        tracking_uri: the server or database.
        run_id: the run with parameters, metrics, figures and the model's files.
        model_name: the name under which the gate may register it.
        source: where the model's files are, for MLflow.
        model_id: MLflow's name of the logged model; None for files that MLflow cannot run.
    """

    tracking_uri: str
    run_id: str
    model_name: str
    source: str
    model_id: str | None


def track(workspace: Workspace) -> Tracked:
    """Log the run and its model. No version of it is registered: that needs an approval (``gate``)."""
    with session(workspace) as client:
        import mlflow

        experiment = _experiment(client, workspace)
        with mlflow.start_run(experiment_id=experiment, run_name=workspace.config.name) as run:
            _log(workspace)
            model_id = _log_model(workspace)
        named = (mlflow.get_tracking_uri(), run.info.run_id, model_name(workspace))
        return Tracked(*named, f"models:/{model_id}", model_id)


def track_files(workspace: Workspace, model: Path, *others: Path) -> Tracked:
    """Log the run and a folder of files: a model that MLflow cannot run.

    Args:
        workspace: the run.
        model: folder of the model.
        others: further folders to log.
    """
    with session(workspace) as client:
        import mlflow

        experiment = _experiment(client, workspace)
        with mlflow.start_run(experiment_id=experiment, run_name=workspace.config.name) as run:
            _log(workspace)
            for folder in (model, *others):
                mlflow.log_artifacts(str(folder), folder.name)
            source = str(mlflow.get_artifact_uri(model.name))
        named = (mlflow.get_tracking_uri(), run.info.run_id, model_name(workspace))
        return Tracked(*named, source, None)


def tracked_files(workspace: Workspace, tracked: Tracked) -> dict[str, str]:
    """Path -> SHA-256 of every file that MLflow keeps of a tracked model, those of its own among them."""
    from mlflow.artifacts import download_artifacts

    with session(workspace) as client:
        place = tracked.source
        if tracked.model_id is not None:
            place = str(client.get_logged_model(tracked.model_id).artifact_location)
        return files_of(Path(download_artifacts(artifact_uri=place)))


def attach_reports(workspace: Workspace) -> None:
    """Add the model card to the tracked run; the patient pages stay in the run's own folder."""
    registration = Registration.read(workspace.root / "register")
    card = workspace.root / "report" / "model_card.html"
    if registration is None or not card.is_file():
        return
    with session(workspace) as client:
        client.log_artifact(registration.run_id, str(card), "report")


def model_name(workspace: Workspace) -> str:
    """The name under which the model is registered."""
    return workspace.config.register_.model_name or workspace.config.name


def tracking_uri(workspace: Workspace) -> str:
    """The configured tracking server, else SQLite in the runs folder."""
    database = workspace.config.runs_dir.absolute() / "mlflow.db"
    return workspace.config.register_.tracking_uri or f"sqlite:///{database}"


@contextmanager
def session(workspace: Workspace) -> Iterator[MlflowClient]:
    """MLflow pointed at this run's store, silent and without telemetry, and put back after."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(tracking_uri(workspace))
    try:
        with warnings.catch_warnings():
            # An example would be a path that exists on no other machine; the signature is given.
            warnings.filterwarnings("ignore", ".*input example was not provided")
            warnings.filterwarnings("ignore", ".*noload.*loader strategy")
            # The registry is named too: MLFLOW_REGISTRY_URI would send the gate's acts elsewhere.
            yield mlflow.MlflowClient(tracking_uri(workspace), tracking_uri(workspace))
    finally:
        mlflow.set_tracking_uri(before)  # type: ignore[arg-type]  # None: none is set any more


def _experiment(client: MlflowClient, workspace: Workspace) -> str:
    name = workspace.config.name
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    if workspace.config.register_.tracking_uri is not None:
        return str(client.create_experiment(name))  # a server knows where its artifacts go
    folder = workspace.config.runs_dir.absolute() / "mlartifacts" / name
    return str(client.create_experiment(name, artifact_location=folder.as_uri()))


def _log(workspace: Workspace) -> None:
    import mlflow

    mlflow.log_params(parameters(workspace))
    mlflow.log_metrics(metrics(workspace))
    for name in _DOCUMENTS:
        path = workspace.root / name
        if path.is_file():
            mlflow.log_artifact(str(path), path.parent.name)
    figures = workspace.root / "evaluate" / "figures"
    if figures.is_dir():
        mlflow.log_artifacts(str(figures), "evaluate/figures")


def _log_model(workspace: Workspace) -> str:
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    from clinimm.register import pyfunc_model

    kinds = {"probability": "double"}
    asked: list[ColSpec | TensorSpec] = [ColSpec("string", "export")]
    answer: list[ColSpec | TensorSpec] = [
        ColSpec(kinds.get(name, "string"), name) for name in ("export", *pyfunc_model.ANSWER)
    ]
    with tempfile.TemporaryDirectory(prefix="clinimm-bundle-") as folder:
        bundle = Path(folder) / "bundle"
        write_bundle(workspace, bundle)
        for name in ("manifest.json", SBOM_NAME):
            shutil.copy(workspace.root / "register" / name, bundle)
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=pyfunc_model.__file__,
            artifacts={"bundle": str(bundle)},
            signature=ModelSignature(Schema(asked), Schema(answer)),
            pip_requirements=[f"clinimm[all]=={__version__}"],
        )
    return str(logged.model_id)


def parameters(workspace: Workspace) -> dict[str, str]:
    """Every setting by its dotted name, without those that name a place on this machine."""
    leaves = _leaves(workspace.config.model_dump(mode="json", by_alias=True))
    return {
        key: str(value)[:_LONGEST_PARAMETER]
        for key, value in leaves.items()
        if value is not None and not _PLACES.search(key)
    }


def metrics(workspace: Workspace) -> dict[str, float]:
    """The finite numbers of ``metrics.json`` by dotted name; curves (lists) are left to the figures."""
    found = json.loads(workspace.need("evaluate", "metrics.json").read_text(encoding="utf-8"))
    numbers = {
        re.sub(r"[^\w .:/-]", "_", key): float(value)
        for key, value in _leaves(found).items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }
    return dict(list(numbers.items())[:_MOST_METRICS])


def _leaves(value: Any, at: str = "") -> dict[str, Any]:
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        value = {_label(item, index): item for index, item in enumerate(value)}
    if not isinstance(value, Mapping):
        return {at: value}
    return {
        key: leaf
        for name, item in value.items()
        for key, leaf in _leaves(item, f"{at}.{name}" if at else str(name)).items()
    }


def _label(item: Mapping[str, Any], index: int) -> str:
    """What tells an item of a list from the others: the first text that it holds, else its place."""
    return next((text for text in item.values() if isinstance(text, str)), str(index))
