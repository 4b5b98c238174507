"""The measures by name: what each is called, which direction harms, what it counts in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from clinimm.audit.engine.calibration import CalibrationOf
from clinimm.audit.engine.counts import RATES, Tables, net_benefit, rate, tables_of
from clinimm.audit.engine.figures import Figures
from clinimm.audit.engine.ranking import Ranking
from clinimm.audit.engine.rows import Segments


@dataclass(frozen=True)
class Measure:
    """One measure.

    Attributes:
        title: for people.
        harm: +1 more is worse, -1 less is worse, 0 both directions are.
        unit: what its n counts.
        ideal: the value of a perfect model, for the page's scale; None where there is none.
        scale: the range that the page draws.
    """

    title: str
    harm: int
    unit: str
    ideal: float | None = None
    scale: tuple[float, float] = (0.0, 1.0)


MEASURES: dict[str, Measure] = {
    "sensitivity": Measure("sensitivity", -1, "positives"),
    "specificity": Measure("specificity", -1, "negatives"),
    "ppv": Measure("positive predictive value", -1, "flagged rows"),
    "npv": Measure("negative predictive value", -1, "rows not flagged"),
    "fnr": Measure("missed (false negative rate)", 1, "positives"),
    "fpr": Measure("false alarms (false positive rate)", 1, "negatives"),
    "selection_rate": Measure("flagged (selection rate)", 0, "rows"),
    "prevalence": Measure("prevalence", 0, "rows"),
    "auroc": Measure("AUROC", -1, "positives", None, (0.5, 1.0)),
    "auprc": Measure("average precision", -1, "positives"),
    "brier": Measure("Brier score", 1, "rows", 0.0, (0.0, 0.3)),
    "ece": Measure("calibration error", 1, "rows", 0.0, (0.0, 0.3)),
    "observed_less_predicted": Measure("observed less predicted risk", 0, "rows", 0.0, (-0.3, 0.3)),
    "calibration_intercept": Measure("calibration intercept", 0, "rows of the rarer class", 0.0, (-2.0, 2.0)),
    "calibration_slope": Measure("calibration slope", 0, "rows of the rarer class", 1.0, (0.0, 2.0)),
    "net_benefit": Measure("net benefit", -1, "rows", None, (-0.2, 0.3)),
    "net_benefit_less_treat_all": Measure(
        "net benefit less flagging everybody", -1, "rows", None, (-0.2, 0.3)
    ),
}


def measure(
    segments: Segments, threshold: float, names: Iterable[str] = tuple(MEASURES)
) -> dict[str, Figures]:
    """Some measures of every group.

    Args:
        segments: the rows in order of group and score.
        threshold: probability from which a row is flagged.
        names: of ``MEASURES``.
    """
    tables, ranking, calibration = tables_of(segments, threshold), Ranking(segments), CalibrationOf(segments)
    makers = {
        "auroc": ranking.auroc,
        "auprc": ranking.average_precision,
        "brier": calibration.brier,
        "ece": calibration.calibration_error,
        "observed_less_predicted": calibration.observed_less_predicted,
        "calibration_intercept": calibration.intercept,
        "calibration_slope": calibration.slope,
    }
    return {name: makers[name]() if name in makers else counted(tables, name) for name in names}


def counted(tables: Tables, name: str) -> Figures:
    """A measure that follows from two-by-two tables."""
    if name in RATES:
        return rate(tables, name)
    return net_benefit(tables, against_treat_all=name == "net_benefit_less_treat_all")


#: Measures that follow from two-by-two tables.
COUNTED = (*RATES, "net_benefit", "net_benefit_less_treat_all")
