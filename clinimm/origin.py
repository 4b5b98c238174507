"""What a saved model comes from: ``origin.json`` beside its weights.

A model is right only for patients chosen, cut and encoded as those it was fitted to, and its figures
hold only for patients whom it never saw. So it carries the rules of its cohort, the settings it was
trained under, and whom it was fitted to, wherever its folder is copied to.

Whom: as hashes of pseudonyms, salted with the digest of the model. They answer whether somebody with
a given pseudonym was among them, name nobody, and cannot be joined with those of another model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clinimm.cohort.spec import CohortSpec
from clinimm.cohort.stage import read_spec
from clinimm.config import PipelineConfig
from clinimm.core.errors import MissingStageError, ModelError
from clinimm.core.pseudonym import load_pseudonymiser
from clinimm.core.record import RunRecord, write_text
from clinimm.workspace import Workspace

ORIGIN_NAME = "origin.json"
SCHEMA = "clinimm.origin/1"
#: How the record of ingest calls the fingerprint of the pseudonym key.
KEY_INPUT = "pseudonym key"
#: Sections of the pipeline file that belong to the model, whatever else it is used for.
OF_THE_MODEL = ("seed", "modalities", "plugins", "model", "train")
#: How a machine reads, which is no property of the data.
_OF_THE_MACHINE = {"workers", "pseudonym_key_file"}
_HASH_LENGTH = 32


@dataclass(frozen=True)
class Origin:
    """What is known of a saved model's making.

    Attributes:
        model_digest: of the model that this belongs to.
        settings: parts of the pipeline file it was trained under.
        cohort: the rules that chose its patients.
        key_fingerprint: keyed hash that tells its pseudonym key from others; None where unknown.
        subjects: hashes of the training and tuning subjects.
    """

    model_digest: str
    settings: PipelineConfig
    cohort: CohortSpec
    key_fingerprint: str | None
    subjects: frozenset[str] = field(repr=False)

    def of_the_model(self, config: PipelineConfig) -> PipelineConfig:
        """``config`` with everything that belongs to the model as it was trained."""
        return config.model_copy(update={name: getattr(self.settings, name) for name in OF_THE_MODEL})

    def reading(self, config: PipelineConfig, asked: Sequence[str] = ()) -> PipelineConfig:
        """``config`` with exports read as the training's was, but for what ``--set ingest...`` asks."""
        keys = [override.partition("=")[0].split(".") for override in asked]
        named = {key[1] for key in keys if key[0] == "ingest" and len(key) > 1} | _OF_THE_MACHINE
        if ["ingest"] in keys:
            return config
        kept = {name: getattr(config.ingest, name) for name in named & set(type(config.ingest).model_fields)}
        return config.model_copy(update={"ingest": self.settings.ingest.model_copy(update=kept)})

    def trained_on(self, subject_ids: Iterable[str]) -> list[bool]:
        """Whether each pseudonym was among the training or tuning subjects."""
        return [_hash(subject, self.model_digest) in self.subjects for subject in subject_ids]


def write_origin(workspace: Workspace, subject_ids: Iterable[str], model_digest: str) -> None:
    """Write ``train/model/origin.json`` of a model that was just fitted to these subjects."""
    ingested = RunRecord.read(workspace.root / "ingest")
    dumped = workspace.config.model_dump(mode="json", include={*OF_THE_MODEL, "ingest"})
    dumped["ingest"] = {key: value for key, value in dumped["ingest"].items() if key not in _OF_THE_MACHINE}
    spec = read_spec(workspace.need("cohort", "spec.json").parent)
    value = {
        "schema": SCHEMA,
        "model_digest": model_digest,
        "settings": dumped,
        "cohort": spec.model_dump(mode="json", exclude_unset=True),
        "key_fingerprint": None if ingested is None else ingested.inputs.get(KEY_INPUT),
        "subjects": sorted(_hash(subject, model_digest) for subject in subject_ids),
    }
    text = json.dumps(value, indent=1, sort_keys=True) + "\n"
    write_text(workspace.stage("train") / "model" / ORIGIN_NAME, text)


def read_origin(model: Path) -> Origin:
    """The origin of the model in a folder.

    Raises:
        MissingStageError: there is none: its training never finished, or was made by older code.
        ModelError: it was written in another form.
    """
    path = model / ORIGIN_NAME
    if not path.is_file():
        raise MissingStageError(
            f"{path} is missing, so nobody knows whom this model was fitted to and under which rules: run "
            "`clinimm train PIPELINE` first."
        )
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if value.get("schema") != SCHEMA:
        raise ModelError(f"{path}: written in form {value.get('schema')}, expected {SCHEMA}.")
    return Origin(
        model_digest=value["model_digest"],
        settings=PipelineConfig.model_validate({"name": "origin", **value["settings"]}),
        cohort=CohortSpec.model_validate(value["cohort"]),
        key_fingerprint=value["key_fingerprint"],
        subjects=frozenset(value["subjects"]),
    )


def key_fingerprint(config: PipelineConfig) -> str:
    """A keyed hash that tells this pseudonym key from others and does not tell the key."""
    return load_pseudonymiser(config.ingest.pseudonym_key_file).hash("fingerprint", "")


def _hash(subject_id: str, model_digest: str) -> str:
    return hashlib.sha256(f"{SCHEMA}|{model_digest}|{subject_id}".encode()).hexdigest()[:_HASH_LENGTH]
