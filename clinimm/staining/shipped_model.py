"""The stainer that a run ships: found, checked against what was registered, with its safety case."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from clinimm.core.errors import ConfigError, MissingStageError, ModelError
from clinimm.staining.check_run import check_run, run_of
from clinimm.staining.safety import SafetyCase
from clinimm.staining.stainer import STAINER_FILES, Stainer

SAFETY_NAME = "safety.json"
#: Where a run may keep its stainer, in the order in which they are looked at.
_PLACES = ("train/model", "train/stainer", ".")


@dataclass(frozen=True)
class ShippedModel:
    """What of a run stains.

    Attributes:
        run: its folder, or that of a saved stainer.
        stainer: the model.
        stain: which of its stains.
        safety: its safety case; None where it has none, and that was allowed.
        registered: whether all of it is what the run's signed manifest names.
    """

    run: Path
    stainer: Stainer
    stain: str
    safety: SafetyCase | None
    registered: bool


def load_shipped(
    folder: Path,
    stain: str | None = None,
    without_safety_case: bool = False,
    trusted_key: Path | None = None,
    with_tokens: bool = False,
) -> ShippedModel:
    """Load the stainer of a run.

    Args:
        folder: of the run, of its shipped model, or of a saved stainer.
        stain: name; None is the model's only one.
        without_safety_case: take a model that cannot refuse anything.
        trusted_key: public key (PEM) of who registered the run; None is this user's own.
        with_tokens: whether a subject's encoded record will be read of the run, and is to be checked.

    Raises:
        ConfigError: the stain must be chosen, or is unknown.
        IntegrityError: the run is registered, and a file of it is not what was signed.
        MissingStageError: the run has no stainer yet.
        ModelError: there is no safety case, or a file does not fit.
    """
    run = run_of(folder)
    place = find_stainer(run)
    registered = check_run(run, place, trusted_key, with_tokens)
    stainer = Stainer.from_pretrained(place)
    chosen, safety = _chosen(stainer, stain), _safety(place)
    if safety is None and not without_safety_case:
        raise ModelError(
            f"{place} has no {SAFETY_NAME}: no tile could be refused, and nobody knows how wrong the stain "
            "is. Nothing is stained; --without-safety-case does it all the same."
        )
    return ShippedModel(run, stainer, chosen, safety, registered)


def find_stainer(run: Path) -> Path:
    """The folder of a run's stainer.

    Raises:
        MissingStageError: the run has none.
    """
    for place in _PLACES:
        folder = run / place
        if all((folder / name).is_file() for name in STAINER_FILES) and _is_stainer(folder):
            return folder
    raise MissingStageError(
        f"{run} has no stainer: run `clinimm train` on a pipeline with a `staining` section first."
    )


def _is_stainer(folder: Path) -> bool:
    value = json.loads((folder / STAINER_FILES[0]).read_text(encoding="utf-8"))
    return str(value.get("format", "")).startswith("clinimm.stainer/")


def _chosen(stainer: Stainer, stain: str | None) -> str:
    known = stainer.spec.stains
    if stain is None and len(known) > 1:
        raise ConfigError(f"this model makes {', '.join(known)}: choose one with --stain.")
    chosen = known[0] if stain is None else stain
    stainer.stain_index(chosen)
    return chosen


def _safety(folder: Path) -> SafetyCase | None:
    path = folder / SAFETY_NAME
    return SafetyCase.from_json(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None
