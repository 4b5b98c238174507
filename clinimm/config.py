"""The pipeline file as typed, frozen values: one sentence and unit a field.

A pipeline is a YAML file without Python. The smallest that ingests is::

    name: first_look
    sources: [{kind: local, root: /data/export}]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clinimm.core.errors import ConfigError
from clinimm.yaml_lines import YamlDocument, describe, read_yaml


class Frozen(BaseModel):
    """Base of every configuration value: immutable, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceConfig(Frozen):
    """One place where bytes come from."""

    kind: Literal["local"] = Field("local", description="How the source is reached.")
    root: Path = Field(description="Folder of the export; relative paths start at the working folder.")
    site: str | None = Field(None, description="Site of all its data, where the files do not say.")


class IngestConfig(Frozen):
    """How bytes become events."""

    workers: int = Field(0, ge=0, description="Processes; 0 is one a core.")
    timezone: str = Field("UTC", description="IANA zone of DICOM times that state no offset.")
    pseudonym_key_file: Path | None = Field(
        None,
        description="File with the pseudonym key; else CLINIMM_PSEUDONYM_KEY, else one made once "
        "in the user's configuration folder.",
    )
    validate_fhir: Literal["sample", "all", "none"] = Field(
        "sample", description="How many FHIR resources are validated against R4B."
    )
    last_updated_is_change: bool = Field(
        False,
        description="Whether `meta.lastUpdated` of FHIR resources is when the record changed, and not when "
        "it was exported or loaded; then what was withdrawn counts as known until that time.",
    )
    max_file_mib: int = Field(4096, gt=0, description="Larger files are refused, MiB.")


class EncoderConfig(Frozen):
    """Which encoder turns a modality's input into tokens."""

    name: str | None = Field(
        None,
        description="Built-in name, `hf:NAME_OR_PATH` or `monai:NAME`; null is the modality's default.",
    )
    fine_tune_blocks: int = Field(
        0, ge=0, description="Last blocks of the encoder that are trained; 0 keeps it frozen."
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Further options of that encoder; see its README."
    )


class ModalityConfig(Frozen):
    """One modality of the model."""

    enabled: bool = Field(True, description="Whether the model may use it.")
    encoder: EncoderConfig = EncoderConfig()
    max_tokens: int = Field(512, gt=0, description="Most recent tokens that are kept a subject.")


class EncodeConfig(Frozen):
    """How frozen encoders are run."""

    batch_size: int = Field(32, gt=0, description="Items an encoder sees at once.")
    cache_dir: Path | None = Field(None, description="Token cache; default is `cache` in the runs folder.")


class ModelConfig(Frozen):
    """The network on top of the encoders (DESIGN.md section 6)."""

    fusion: str = Field("mid", description="Fusion strategy, a name in clinimm/fusion.")
    width: int = Field(64, gt=0, description="Width of every token inside the fusion.")
    layers: int = Field(1, gt=0, description="Fusion layers.")
    heads: int = Field(4, gt=0, description="Attention heads; divides the width.")
    latents: int = Field(8, gt=0, description="Shared bottleneck latents.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout probability inside the trunk.")
    token_dropout: float = Field(0.1, ge=0, lt=1, description="Chance that a token is left out.")
    modality_dropout: float = Field(
        0.2, ge=0, lt=1, description="Chance that a present modality is left out of a sample."
    )
    members: int = Field(
        3, gt=0, description="Networks trained from different seeds whose logits are averaged."
    )


class TrainConfig(Frozen):
    """The training loop."""

    epochs: int = Field(60, gt=0, description="Most passes over the training subjects.")
    patience: int = Field(12, gt=0, description="Epochs without a better tuning loss before it stops.")
    batch_size: int = Field(32, gt=0, description="Subjects a step.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate of AdamW.")
    encoder_learning_rate: float = Field(
        1e-4, gt=0, description="Peak learning rate of fine-tuned encoder blocks."
    )
    weight_decay: float = Field(0.05, ge=0, description="AdamW weight decay.")
    auxiliary_weight: float = Field(
        0.3, ge=0, description="Weight of each unimodal head's loss beside the fused loss."
    )
    warm_start: bool = Field(
        True, description="Whether training starts from fitted linear models, or from nothing."
    )
    class_weight: Literal["balanced", "none"] = Field(
        "balanced", description="Whether rare classes weigh more in the loss."
    )
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="Share of the label given away.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="`auto` takes bfloat16 where the processor computes in it."
    )
    single_modality: bool = Field(True, description="Whether each modality is also trained alone (law 5).")
    workers: int = Field(0, ge=0, description="Models that are trained side by side; 0 is one a core.")
    threads: int = Field(
        1, gt=0, description="Torch threads a worker; the number changes rounding, and so the weights."
    )


class EvaluateConfig(Frozen):
    """How predictions are judged."""

    bootstraps: int = Field(1000, gt=0, description="Resamples of subjects behind an interval.")
    level: float = Field(0.95, gt=0, lt=1, description="Confidence level of every interval.")
    operating_point: Literal["sensitivity", "specificity", "threshold"] = Field(
        "sensitivity", description="What fixes the threshold on the tuning subjects."
    )
    operating_value: float = Field(
        0.8, gt=0, lt=1, description="The sensitivity, specificity or threshold aimed at."
    )
    minimum_cell: int = Field(10, gt=0, description="Smaller groups show no figure.")
    margin: float = Field(
        0.02, gt=0, lt=0.5, description="Gain in AUROC below which fusion is not worth its trouble."
    )


class ExplainConfig(Frozen):
    """Which subjects are explained, and how."""

    subjects: int = Field(8, ge=0, description="Held-out subjects that the run explains.")
    method: str = Field("integrated_gradients", description="Attribution method.")
    steps: int = Field(
        32,
        gt=1,
        description="Steps of the path integral; doubled, up to four times, where parts do not sum up.",
    )


class AuditConfig(Frozen):
    """Where the audit's rules are."""

    policy: Path | None = Field(
        None, description="Policy file; null is `governance/policy.yaml`, else the packaged one."
    )


class RegisterConfig(Frozen):
    """Where the run is tracked and the model registered."""

    tracking_uri: str | None = Field(
        None, description="MLflow tracking URI; null is SQLite in the runs folder."
    )
    model_name: str | None = Field(None, description="Registered name; null is the pipeline's name.")
    signing_key_file: Path | None = Field(
        None,
        description="Ed25519 private key (PEM) that signs the manifest; null is one made once in the "
        "user's configuration folder.",
    )


class ReportConfig(Frozen):
    """What is written for people."""

    patients: int = Field(4, ge=0, description="Explained subjects that get a page.")


class PipelineConfig(Frozen):
    """A whole pipeline file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="Name of the run.")
    runs_dir: Path = Field(Path("runs"), description="Folder that holds all runs.")
    seed: int = Field(0, ge=0, description="Seed of everything that is drawn.")
    sources: tuple[SourceConfig, ...] = Field((), description="Where the data are.")
    cohort: Path | None = Field(
        None, description="Cohort file; a relative path starts at the pipeline file's folder."
    )
    modalities: dict[str, ModalityConfig] = Field(
        default_factory=dict,
        description="Per-modality settings; a modality that is not named has the defaults.",
    )
    plugins: tuple[str, ...] = Field(
        (), description="Importable modules whose `MODALITY` is added to the table."
    )
    ingest: IngestConfig = IngestConfig()
    encode: EncodeConfig = EncodeConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    explain: ExplainConfig = ExplainConfig()
    audit: AuditConfig = AuditConfig()
    register_: RegisterConfig = Field(RegisterConfig(), alias="register")
    report: ReportConfig = ReportConfig()

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    def modality(self, name: str) -> ModalityConfig:
        """The settings of a modality, the defaults where the file does not name it."""
        return self.modalities.get(name, ModalityConfig())


def load_pipeline(path: Path, overrides: Sequence[str] = ()) -> PipelineConfig:
    """Read a pipeline file and apply ``key.sub=value`` overrides.

    Values of overrides are read as YAML, so ``train.epochs=5`` is a number.

    Raises:
        ConfigError: one line a mistake, with ``file:line``.
    """
    document = read_yaml(path)
    for override in overrides:
        _apply(document, override)
    try:
        config = PipelineConfig.model_validate(document.value)
    except ValidationError as error:
        raise ConfigError(describe(document, error)) from error
    if config.cohort is not None and not config.cohort.is_absolute():
        config = config.model_copy(update={"cohort": path.parent / config.cohort})
    return config


def _apply(document: YamlDocument, override: str) -> None:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {override}: expected KEY=VALUE, such as train.epochs=5.")
    node: dict[str, Any] | list[Any] = document.value
    *parents, last = key.split(".")
    for part in parents:
        node = _step(node, part, override)
    try:
        value = YAML(typ="safe").load(text)
    except YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not YAML: {error}") from error
    if isinstance(node, list):
        node[_index(node, last, override)] = value
    else:
        node[last] = value


def _step(node: dict[str, Any] | list[Any], part: str, override: str) -> dict[str, Any] | list[Any]:
    child = node[_index(node, part, override)] if isinstance(node, list) else node.setdefault(part, {})
    if not isinstance(child, (dict, list)):
        raise ConfigError(f"--set {override}: {part} holds a single value, not a mapping.")
    return child


def _index(node: list[Any], part: str, override: str) -> int:
    if not part.isdigit() or int(part) >= len(node):
        raise ConfigError(f"--set {override}: {part!r} is not a position in a list of {len(node)}.")
    return int(part)
