"""The audit's policy as typed values, read from a YAML file that a committee can review."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from clinimm.audit.explanation_policy import ExplanationPolicy
from clinimm.audit.table_settings import TableSettings
from clinimm.config import Frozen
from clinimm.core.errors import ConfigError
from clinimm.yaml_lines import read_yaml, validate

Metric = Literal[
    "auroc",
    "fnr",
    "fpr",
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "observed_less_predicted",
    "selection_rate",
    "auprc",
    "brier",
    "ece",
    "calibration_intercept",
    "calibration_slope",
    "net_benefit",
    "net_benefit_less_treat_all",
]
OnInconclusive = Literal["block", "warn"]
PACKAGED = Path(__file__).with_name("default_policy.yaml")
IN_REPOSITORY = Path("governance") / "policy.yaml"


class StatisticsPolicy(Frozen):
    """How figures are made."""

    level: float = Field(0.95, gt=0.5, lt=1, description="Confidence level of every interval.")
    minimum_cell: int = Field(
        10, gt=0, description="Pages for clinicians and the model card show no figure of smaller groups."
    )
    inconclusive: OnInconclusive = Field("warn", description="What an inconclusive rule does.")


class Rule(Frozen):
    """One thing that must hold.

    ``stat: value`` asks the model as a whole to lie ``above`` or ``below`` a figure; with
    ``attribute`` it asks that of every group. ``stat: difference`` asks that no group is worse than
    its reference by ``margin``: ``rest`` is everybody outside the group, ``overall`` everybody.
    ``stat: ratio`` asks that no group is worse than its reference by more than the factor ``margin``
    (0.8 is the four-fifths rule). ``reference`` may also name a level, and ``attribute: race*sex`` is
    an intersection.
    """

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", description="Short stable name.")
    metric: Metric = Field(description="What is measured.")
    stat: Literal["value", "difference", "ratio"] = Field(
        description="Compared with a figure or a reference."
    )
    attribute: tuple[str, ...] = Field((), description="Audit attributes whose groups are judged.")
    reference: str = Field("rest", description="What a group is compared with: rest, overall or a level.")
    margin: float | None = Field(None, gt=0, lt=1, description="Largest difference that is tolerated.")
    above: float | None = Field(None, description="`value` must lie above this.")
    below: float | None = Field(None, description="`value` must lie below this.")
    inconclusive: OnInconclusive | None = Field(None, description="Overrides the policy's own.")
    why: str = Field("", description="The reason, for people.")

    @field_validator("attribute", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _complete(self) -> Rule:
        if self.stat != "value" and (self.margin is None or not self.attribute):
            raise ValueError(f"a {self.stat} needs `margin` and `attribute`")
        if self.stat != "value" and (self.above is not None or self.below is not None):
            raise ValueError(f"a {self.stat} has a `margin`, not `above` or `below`")
        if self.stat == "value" and (self.above is None) == (self.below is None):
            raise ValueError("a value needs either `above` or `below`")
        if self.stat == "value" and self.margin is not None:
            raise ValueError("a value has `above` or `below`, not a `margin`")
        return self


class Policy(Frozen):
    """A whole policy file."""

    schema_: Literal["clinimm.policy/1"] = Field(alias="schema", description="Format of the file.")
    statistics: StatisticsPolicy = StatisticsPolicy()
    attributes: tuple[str, ...] | None = Field(
        None, description="Attributes shown beside those of the rules; null is all of the cohort's."
    )
    rules: tuple[Rule, ...] = Field(min_length=1, description="What must hold.")
    table: TableSettings = Field(TableSettings(), description="What is tested, shown and published.")
    explanations: ExplanationPolicy = Field(
        ExplanationPolicy(), description="What a map must show before it is shown."
    )

    @model_validator(mode="after")
    def _distinct(self) -> Policy:
        names = [rule.id for rule in self.rules]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"rule ids must differ; doubled: {', '.join(doubled)}")
        return self


def load_policy(path: Path) -> Policy:
    """Read a policy file.

    Raises:
        ConfigError: one line a mistake, with ``file:line``.
    """
    return validate(read_yaml(path), Policy)


def find_policy(configured: Path | None) -> Path:
    """The policy file of a run: the configured one, else the repository's, else the packaged one.

    Raises:
        ConfigError: the configured file does not exist.
    """
    if configured is not None:
        if not configured.is_file():
            raise ConfigError(f"{configured}: there is no such policy file (audit.policy).")
        return configured
    return IN_REPOSITORY if IN_REPOSITORY.is_file() else PACKAGED
