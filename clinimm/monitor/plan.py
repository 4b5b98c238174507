"""The monitoring plan as typed values: every number that decides, in a file that a committee can review."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import Field

from clinimm.config import Frozen
from clinimm.monitor.false_alarms import promised
from clinimm.yaml_lines import read_yaml, validate

Act = Literal["observe", "recheck", "roll_back"]
GapMetric = Literal[
    "sensitivity", "specificity", "ppv", "npv", "fnr", "fpr", "auroc", "observed_less_predicted"
]
Alpha = Field(0.01, gt=0, lt=0.5, description="Chance that this part alarms at all while nothing changed.")
PACKAGED = Path(__file__).with_name("default_monitoring.yaml")
IN_REPOSITORY = Path("governance") / "monitoring.yaml"


class Part(Frozen):
    """What every part of the plan says."""

    act: Act = Field(
        "recheck",
        description="On a breach: observe only shows it, recheck and roll_back make an incident and end with "
        "exit status 1, roll_back also names the version to go back to.",
    )
    needed: bool = Field(False, description="Whether too few to tell here ends with exit status 2.")


class QualityPart(Part):
    """What arrives, before anything is predicted."""

    alpha: float = Alpha
    refused_growth: float = Field(0.05, gt=0, lt=1, description="Growth of the share of files refused.")
    flagged_growth: float = Field(0.05, gt=0, lt=1, description="Growth of the share of events flagged.")
    missing_growth: float = Field(
        0.10, gt=0, lt=1, description="Growth of the share of subjects without a field or a modality."
    )
    unit_share: float = Field(
        0.05, gt=0, lt=1, description="Share of a code's values in units that the reference never had."
    )
    scale_factor: float = Field(
        3.0,
        gt=1,
        description="Factor between medians of a code in the same unit that no illness explains; the "
        "middle halves must lie apart too, which few values seldom do by chance.",
    )


class DriftPart(Part):
    """One field at a time, by modality, with presence of modalities and case mix beside."""

    alpha: float = Alpha
    adjust: Literal["max_t", "fdr"] = Field(
        "max_t",
        description="max_t: smallest p-value of all fields under permutation of subjects (Westfall and Young "
        "1993), the chance of any false alarm holds. fdr: Benjamini and Yekutieli 2001, the share of false "
        "alarms holds.",
    )
    permutations: int = Field(999, ge=99, le=99_999, description="Draws of max_t.")
    smallest: float = Field(
        0.15, ge=0, lt=1, description="Largest distance of the distributions, 0 to 1, that is no breach."
    )


class EmbeddingsPart(Part):
    """All of a modality at once: maximum mean discrepancy of the subjects' mean embeddings."""

    alpha: float = Alpha
    permutations: int = Field(999, ge=99, le=99_999, description="Draws of the null distribution.")
    most: int = Field(800, ge=50, le=5000, description="Subjects of each side that are compared.")


class PredictionsPart(Part):
    """What the model says, without labels."""

    alpha: float = Alpha
    smallest: float = Field(0.15, ge=0, lt=1, description="Distance of the predictions that is no breach.")
    prevalence_change: float = Field(
        0.10, gt=0, lt=1, description="Change of the prevalence that black box shift estimation finds."
    )


class PerformancePart(Part):
    """What the labels say, as they come; the estimate without labels has the same limits."""

    alpha: float = Alpha
    auroc_loss: float = Field(0.05, gt=0, lt=1, description="Fall of the AUROC since the reference.")
    sensitivity_loss: float = Field(0.10, gt=0, lt=1, description="Fall of the sensitivity.")
    calibration_gap: float = Field(
        0.05, gt=0, lt=1, description="Distance of the observed from the predicted risk, either way."
    )


class EstimatePart(Part):
    """Performance that is expected of the predictions alone."""

    alpha: float = Alpha
    draws: int = Field(400, ge=100, le=10_000, description="Bootstrap draws of the interval.")


class GapsPart(Part):
    """One group against the others."""

    alpha: float = Alpha
    metrics: tuple[GapMetric, ...] = Field(("sensitivity",), description="What is compared.")
    growth: float = Field(
        0.10,
        gt=0,
        lt=1,
        description="How much worse a gap may have become; either way for observed_less_predicted.",
    )
    smallest_cell: int = Field(10, ge=1, description="Groups with fewer subjects show no figure.")


class BettingPart(Part):
    """One patient at a time, valid at whatever moment somebody looks."""

    alpha: float = Alpha
    missed_growth: float = Field(0.10, gt=0, lt=1, description="Above the reference's share of misses.")
    false_alarm_growth: float = Field(0.15, gt=0, lt=1, description="Above its share of false alarms.")


class CusumPart(Part):
    """More or fewer outcomes than predicted, patient by patient; false alarms come, at a stated rate."""

    act: Act = Field("observe", description="As everywhere; a chart that alarms by chance should not act.")

    odds_ratio: float = Field(2.0, gt=1, le=20, description="Change of the odds that is looked for.")
    run_length: int = Field(
        5000, ge=100, le=100_000, description="Patients between two false alarms of one chart, on average."
    )
    streams: int = Field(200, ge=100, le=5000, description="Simulated streams that the limit is set by.")


class ObjectionsPart(Part):
    """What clinicians say in the web application."""

    alpha: float = Alpha
    bound: float = Field(0.20, gt=0, lt=1, description="Share of objections among verdicts that may be.")


class MonitoringPlan(Frozen):
    """A whole plan."""

    schema_: Literal["clinimm.monitoring/1"] = Field(alias="schema", description="Format of the file.")
    level: float = Field(0.95, gt=0.5, lt=1, description="Confidence level of every interval that is shown.")
    minimum: int = Field(50, ge=10, description="Subjects on either side below which nothing is compared.")
    period: Literal["week", "month", "quarter"] = Field("month", description="Of the figures over time.")
    label_delay_days: float = Field(
        0.0, ge=0, description="Days after the index time from which a label counts as final."
    )
    drawn: date | None = Field(
        None,
        description="Day on which the new data were drawn, to which a label's age is counted; null counts to "
        "the newest prediction, because nothing else shows how late labels were looked for.",
    )
    looks_per_year: int = Field(
        12, ge=1, le=3660, description="Looks that are planned; only the promise on false alarms reads it."
    )
    threshold: float | None = Field(
        None, gt=0, lt=1, description="Probability from which a row is flagged; null takes the run's own."
    )
    seed: int = Field(20260101, ge=0, description="Of all draws; the same seed gives the same bytes.")
    quality: QualityPart = QualityPart()
    drift: DriftPart = DriftPart()
    embeddings: EmbeddingsPart = EmbeddingsPart()
    predictions: PredictionsPart = PredictionsPart()
    performance: PerformancePart = PerformancePart()
    estimate: EstimatePart = EstimatePart()
    gaps: GapsPart = GapsPart()
    betting: BettingPart = BettingPart()
    cusum: CusumPart = CusumPart()
    objections: ObjectionsPart = ObjectionsPart()

    @property
    def false_alarms(self) -> float:
        """At most so many parts alarm in one look while nothing changed, without CUSUM and rules."""
        return promised(self).one_look


def load_plan(path: Path) -> MonitoringPlan:
    """Read a plan.

    Raises:
        ConfigError: one line a mistake, with ``file:line``.
    """
    return validate(read_yaml(path), MonitoringPlan)


def find_plan(given: Path | None) -> Path:
    """The given file, else the repository's, else the packaged one."""
    if given is not None:
        return given
    return IN_REPOSITORY if IN_REPOSITORY.is_file() else PACKAGED
