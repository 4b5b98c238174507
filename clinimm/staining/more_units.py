"""How many more subjects, or blocks of tissue, would settle a verdict that the data cannot tell."""

from __future__ import annotations

import math

from scipy.stats import norm, t

from clinimm.staining.agreement import LEVEL, Figure
from clinimm.staining.verdict_evidence import BARS, StainEvidence

_POWER = 0.8
_MOST_WORTH_NAMING = 100_000


def more_units(evidence: StainEvidence) -> int | None:
    """How many more units would settle it, by the scaling of variances with their number.

    Either a gain that was seen is real, and one measure must tell it from zero; or there is none,
    and every measure must rule it out. The smaller of the two, at 80 % power.
    """
    measures = [one for one in evidence.usable if one.complete and one.best is not None]
    if not measures or len(measures) < len(evidence.usable):
        return None
    shown = min(_needed(one.gains[str(one.best)], one.gains[str(one.best)].value) for one in measures)
    ruled_out = max(
        max(
            _needed(one.model, BARS[one.name].worth - one.model.value),
            _needed(one.gains[str(one.best)], BARS[one.name].gain - one.gains[str(one.best)].value),
        )
        for one in measures
    )
    more = min(shown, ruled_out)
    return None if more > _MOST_WORTH_NAMING else max(1, math.ceil(more))


def _needed(found: Figure, distance: float) -> float:
    """Further units that tell ``found`` from a value ``distance`` away; infinite on the wrong side."""
    if distance <= 0:
        return math.inf
    error = (found.high - found.low) / 2 / float(t.ppf(0.5 + LEVEL / 2, found.n - 1))
    reach = float(norm.ppf(0.5 + LEVEL / 2) + norm.ppf(_POWER)) * error
    return found.n * ((reach / distance) ** 2 - 1)
