"""A version's files are those that were approved: every one of them, and nothing beside them."""

from __future__ import annotations

from pathlib import Path

from clinimm.core.bundle import files_of
from clinimm.core.errors import IntegrityError
from clinimm.gate.approval import Evidence
from clinimm.gate.refused import GateRefused

_WEIGHTS = "model.safetensors"
#: What MLflow and CliniMM lay around the weights. Whoever signs a run may list no pickle among them.
_WRAPPING = frozenset({".json", ".py", ".txt", ".yaml"})


def check_files(name: str, evidence: Evidence, folder: Path) -> None:
    """That a folder holds the approved model, wrapped as it was when it was approved.

    ``MLmodel`` and the code beside it decide what runs when MLflow loads a version, so they are bound like
    the weights.

    Args:
        name: of the registered model, for messages.
        evidence: what was approved.
        folder: where the version points.

    Raises:
        GateRefused: a file was changed, added or taken away, or is a link.
    """
    try:
        there = files_of(folder)
    except IntegrityError as error:  # a link leads to what nobody approved
        raise GateRefused("swapped-weights", f"{name}: {error}") from error
    if wrong := sorted(path for path, _ in there.items() ^ evidence.artifact.items()):
        raise GateRefused("swapped-weights", f"{name}: not as approved: {', '.join(dict.fromkeys(wrong))}.")
    weights = [path for path in map(Path, there) if path.suffix == ".safetensors"]
    if [path.name for path in weights] != [_WEIGHTS]:
        raise GateRefused("swapped-weights", f"{name}: {len(weights)} files of weights, expected one.")
    for path, digest in there.items():
        _check_one(name, Path(path), digest, weights[0].parent, evidence)


def folder_of(location: str) -> Path:
    """The files of a version on this machine; fetched where they lie elsewhere.

    Raises:
        GateRefused: they are not there.
    """
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        return Path(download_artifacts(artifact_uri=location))
    except (OSError, MlflowException) as error:
        raise GateRefused("swapped-weights", f"{location}: its files cannot be read: {error}") from error


def _check_one(name: str, path: Path, digest: str, model: Path, evidence: Evidence) -> None:
    if path.is_relative_to(model) and evidence.files.get(path.relative_to(model).as_posix()) == digest:
        return
    # In the folder of the weights lies what was approved as the model, and nothing else.
    inside = path.is_relative_to(model) and model != Path()
    if inside or not (path.name == "MLmodel" or path.suffix in _WRAPPING):
        raise GateRefused("swapped-weights", f"{name}: {path} is not the model that was approved.")
