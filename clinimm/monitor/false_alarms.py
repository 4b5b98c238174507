"""How many false alarms the plan lets pass: what is bounded, over how long, and what is not bounded at all.

What is bounded is an *expected number*, so no independence is assumed: looks at the same patients, or
against the same reference, may go together as they like (the union bound). In one look it is the sum of the
alphas of the parts that act; in a year that sum times the looks. Sequential parts (``betting``,
``objections``) hold their alpha over all looks together where each look holds every row since the first;
where each look has rows of its own they begin anew, and so they are counted at every look.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clinimm.monitor.plan import MonitoringPlan

BOUNDED = (
    "quality",
    "drift",
    "embeddings",
    "predictions",
    "performance",
    "estimate",
    "gaps",
    "betting",
    "objections",
)
SEQUENTIAL = ("betting", "objections")
#: Checks of ``quality`` that state a fact instead of testing a chance.
RULES = (
    "another model",
    "a modality, class, attribute or code that no longer comes",
    "units and scales",
    "dates",
)
_CHARTS_A_CLASS = 2


@dataclass(frozen=True)
class FalseAlarms:
    """The promise of one look.

    Attributes:
        one_look: expected number of parts that alarm in a look while nothing changed, at most; the chance
            that anything that is bounded alarms is no higher.
        looks_per_year: as the plan has it.
        one_year: ``one_look`` times the looks.
        all_looks: of the sequential parts, however many looks there are at a stream that only grows at its
            end: no label may come later than the plan's ``label_delay_days``.
        cusum_expected: false alarms of the CUSUM charts over the patients of this look, about, were the
            calibration known (a small reference makes them more); part of ``one_look`` only where the plan
            lets a CUSUM act.
        cusum_acts: whether it does.
        not_bounded: what else can alarm, without a stated chance.
    """

    one_look: float
    looks_per_year: int
    one_year: float
    all_looks: float
    cusum_expected: float
    cusum_acts: bool
    not_bounded: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values for ``monitor.json``."""
        values = asdict(self)
        return {name: round(one, 6) if isinstance(one, float) else one for name, one in values.items()} | {
            "not_bounded": list(self.not_bounded)
        }


def promised(plan: MonitoringPlan, patients: int = 0, classes: int = 1) -> FalseAlarms:
    """What the plan promises of a look.

    Args:
        plan: the limits.
        patients: with a final label in this look, over whom the CUSUM charts run.
        classes: each with a chart for more and one for fewer outcomes.
    """
    alphas: Mapping[str, float] = {
        name: part.alpha for name in BOUNDED if (part := getattr(plan, name)).act != "observe"
    }
    expected = _CHARTS_A_CLASS * classes * patients / plan.cusum.run_length
    acts = plan.cusum.act != "observe"
    one = sum(alphas.values()) + (expected if acts else 0.0)
    rules = RULES if plan.quality.act != "observe" else ()
    whole = sum(alphas[name] for name in SEQUENTIAL if name in alphas)
    return FalseAlarms(one, plan.looks_per_year, one * plan.looks_per_year, whole, expected, acts, rules)
