"""The pipeline file as typed, frozen values: one sentence and unit a field.

A pipeline is a YAML file without Python. The smallest that ingests is::

    name: first_look
    sources: [{kind: local, root: /data/export}]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from clinimm.core.attribution import MOST_CASES
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
    allow_synthetic_images: bool = Field(
        False, description="Whether images that are marked as generated are taken in, flagged, or refused."
    )


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
    mitigation: Literal["none", "reweighing", "group_dro"] = Field(
        "none", description="Whether training serves groups alike, and how; judge it for everybody."
    )
    mitigation_attribute: str = Field(
        "", description="Cohort column whose groups `mitigation` is about, such as `sex`."
    )
    mitigation_step: float = Field(
        1.0,
        ge=0,
        le=20,
        description="Of `group_dro`: 0 is the mean over groups, large the worst group alone.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="`auto` takes bfloat16 where the processor computes in it."
    )
    single_modality: bool = Field(True, description="Whether each modality is also trained alone (law 5).")
    workers: int = Field(0, ge=0, description="Models that are trained side by side; 0 is one a core.")
    threads: int = Field(
        1, gt=0, description="Torch threads a worker; the number changes rounding, and so the weights."
    )

    @model_validator(mode="after")
    def _attribute_named(self) -> TrainConfig:
        if (self.mitigation == "none") != (not self.mitigation_attribute):
            raise ValueError("`mitigation` and `mitigation_attribute` go together")
        return self


class StainingConfig(Frozen):
    """Virtual staining: pairs, generator and training; used where the cohort's label is a stain."""

    generator: Literal["unet", "pix2pix", "cyclegan", "cut", "vae", "flow"] = Field(
        "unet", description="How the stain is made; `cyclegan` and `cut` need no registered pairs."
    )
    source: str = Field("HE", description="Stain of the slides that it starts from, as in `SLIDE//HE`.")
    resolution_um: float = Field(0.5, gt=0, le=100, description="Micrometres a pixel that it works at.")
    regions: int = Field(4, gt=0, description="Regions of a pair of slides that are learned from.")
    region_pixels: int = Field(512, ge=128, description="Side of such a region, pixels at `resolution_um`.")
    width: int = Field(24, gt=0, description="Channels of the first level; each level has twice as many.")
    levels: int = Field(
        4, ge=2, le=6, description="Resolutions of the generator; each halves the one before."
    )
    fold: Literal[1, 2] = Field(
        2,
        description="Pixels a side that become channels before the first convolution; 2 takes the place of "
        "one level and is about six times as fast as 1.",
    )
    members: int = Field(
        3,
        gt=0,
        description="Generators trained from different seeds; their spread is part of the uncertainty.",
    )
    crop_pixels: int = Field(128, ge=32, description="Side of a training crop, pixels.")
    crops_per_step: int = Field(8, gt=0, description="Crops a step.")
    steps: int = Field(600, gt=0, description="Most training steps of a member.")
    check_every: int = Field(50, gt=0, description="Steps between looks at the tuning pairs.")
    patience: int = Field(4, gt=0, description="Looks without a better tuning loss before it stops.")
    learning_rate: float = Field(3e-3, gt=0, description="Peak learning rate of AdamW.")
    perceptual_weight: float = Field(0.1, ge=0, description="Weight of the perceptual term beside L1.")
    adversarial_weight: float = Field(0.01, ge=0, description="Weight of the adversarial term beside L1.")
    context: bool = Field(
        True, description="Whether the record and the notes condition the stain, by cross-attention."
    )
    sampler_steps: int = Field(4, gt=0, description="Steps of the flow sampler.")
    register_pairs: bool = Field(
        True,
        description="Whether pairs are registered before training; else they are taken as registered, and "
        "the verdict and every stained file say that no error was measured.",
    )
    largest_error_um: float = Field(
        3.0, gt=0, description="Pairs whose registration error is above this are refused for training."
    )
    allow_synthetic_input: bool = Field(
        False, description="Whether images that are marked as generated may be trained on (law 6)."
    )
    refuse_share: float = Field(
        0.05, gt=0, lt=1, description="Share of tuning tiles that the refusal threshold may refuse."
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
    method: str = Field(
        "spread_gradients",
        description="Attribution method, one whose parts sum to the logit: `spread_gradients`, "
        "`integrated_gradients` or `gradient_shap`. `clinimm explain RUN --subject S --method M` shows "
        "the others.",
    )
    baseline: str | None = Field(
        None,
        description="What parts are counted from: `uninformative`, `blurred` or `training`; null is the "
        "method's own.",
    )
    steps: int = Field(
        32,
        gt=1,
        description="Steps of the path integral; doubled, up to four times, where parts do not sum up.",
    )
    checks: Literal["standard", "full"] = Field(
        "standard",
        description="`full` adds checks that cost as much as the map several times: sensitivity, seeds, "
        "the model's members, and an edge detector on the pictures.",
    )
    randomised: int = Field(
        3, ge=0, description="Explained subjects whose maps are made again with randomised weights."
    )
    cohort: int = Field(
        500, ge=0, description="Held-out subjects whose modality contributions make the table by group."
    )
    checked: int = Field(
        24,
        ge=0,
        description="Held-out subjects, drawn at random, whose maps are made and checked for the table by "
        "group; the explained subjects are extremes and no sample. 0 checks none.",
    )
    nearest_cases: int = Field(
        0,
        ge=0,
        le=MOST_CASES,
        description="Nearest training patients that a page lists, each by pseudonym; 0 lists none. "
        "`clinimm report RUN --subject S --nearest N` lists them on one page.",
    )
    findings: Path | None = Field(
        None,
        description="Table (CSV or Parquet) of known findings on pictures: `digest` (SHA-256 of the file), "
        "`left`, `top`, `right`, `bottom` (pixels). The run then says where its maps lie on them.",
    )


class Accepted(Frozen):
    """A group that may become worse by a mitigation, and why."""

    attribute: str = Field(description="Audit attribute; `overall` for everybody.")
    level: str = Field(description="Its level; `everybody` for all.")
    measure: Literal["fnr", "fpr", "net_benefit", "brier"] = Field(description="In what.")
    reason: str = Field(min_length=10, description="Why that may be, for whoever reads the audit.")


class MitigationConfig(Frozen):
    """What might be done about a gap: tried on held-out people, and judged by what everybody gets."""

    attribute: str = Field(description="Audit attribute whose groups it is about, such as `sex`.")
    recalibrate: bool = Field(False, description="Try a calibration of each group's risk.")
    most_missed: float | None = Field(
        None, gt=0, lt=1, description="Try thresholds at which no group's false negative rate is above this."
    )
    largest_gap: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Try thresholds at which groups' false negative rates differ by no more.",
    )
    by_group: bool = Field(
        False,
        description="Whether groups may have thresholds of their own; that needs a reason in clinic and law.",
    )
    before: Path | None = Field(
        None,
        description="Run of the same cohort that was trained without `train.mitigation`: compare with it.",
    )
    tolerated: float = Field(
        0.02, ge=0, lt=1, description="By how much a group may be worse, with its whole interval."
    )
    accepted: tuple[Accepted, ...] = Field(
        (), description="Groups that may become worse, each with a reason."
    )

    @model_validator(mode="after")
    def _asks_for_something(self) -> MitigationConfig:
        limits = self.most_missed is not None or self.largest_gap is not None
        if not (self.recalibrate or limits or self.before is not None):
            raise ValueError("name what is tried: recalibrate, most_missed, largest_gap or before")
        if self.by_group and not limits:
            raise ValueError("by_group needs most_missed or largest_gap")
        return self


class AuditConfig(Frozen):
    """Where the audit's rules are, and what it looks at beside them."""

    policy: Path | None = Field(
        None, description="Policy file; null is `governance/policy.yaml`, else the packaged one."
    )
    waivers: Path | None = Field(None, description="File of waivers: what may stand, until when, and why.")
    detectors: bool = Field(
        True, description="Look for slices, shortcuts and moving gaps that no rule names; they never decide."
    )
    metadata: tuple[str, ...] = Field(
        (), description="Audit attributes that should not tell the outcome, such as how it was confirmed."
    )
    outcome: str | None = Field(
        None,
        description="Audit attribute that is an outcome which did not make the label (a number): does the "
        "same risk mean the same for everybody?",
    )
    mitigation: MitigationConfig | None = Field(
        None, description="Mitigations to try or to compare; one that makes a group worse fails the audit."
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
    staining: StainingConfig | None = Field(
        None, description="Makes this a run for virtual staining, and says how; null is a diagnosis."
    )
    evaluate: EvaluateConfig = EvaluateConfig()
    explain: ExplainConfig = ExplainConfig()
    audit: AuditConfig = AuditConfig()
    register_: RegisterConfig = Field(RegisterConfig(), alias="register")
    report: ReportConfig = ReportConfig()

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    def require_diagnosis(self, what: str) -> None:
        """Refuse what only a model of a diagnosis can do.

        Args:
            what: what was asked for, as the user typed it.

        Raises:
            ConfigError: the pipeline file has a ``staining`` section.
        """
        if self.staining is not None:
            raise ConfigError(
                f"{what} is for models of a diagnosis, and run {self.name} is for virtual staining: "
                "report/index.html leads to its regions, and `clinimm stain` stains another slide."
            )

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
        raise ConfigError(describe(document, error, PipelineConfig)) from error
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
