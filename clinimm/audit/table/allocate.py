"""What the missing values of an attribute could hide: bounds over every way of allocating them.

The worst and the best case of Manski (1990): all rows without the attribute that speak against the
group belong to it, or all that speak for it. No assumption is made about who they are.
"""

from __future__ import annotations

import math

import numpy as np

from clinimm.audit.engine.counts import RATES
from clinimm.audit.groups import MISSING
from clinimm.audit.policy import Rule
from clinimm.audit.table.study import Place, Study


def allocation(study: Study, rule: Rule, place: Place) -> tuple[float, float] | None:
    """Least and most that a rate, or its difference from everybody else, could be.

    None for other measures, for intersections, and where nothing is missing.
    """
    grouping = place.grouping
    plain = rule.metric in RATES and len(grouping.attributes) == 1
    asked = rule.stat == "value" or (rule.stat == "difference" and rule.reference == "rest")
    levels = [level[0] if level else "" for level in grouping.levels]
    if not (plain and asked) or MISSING not in levels or place.level == MISSING:
        return None
    events, n = study.tables(grouping).pair(rule.metric)
    lost = levels.index(MISSING)
    others = np.array([level not in (MISSING, place.level) for level in levels])
    own, hidden = (events[place.group], n[place.group]), (events[lost], n[lost])
    rest = (events[others].sum(), n[others].sum())
    most = _share(own[0] + hidden[0], own[1] + hidden[0])
    least = _share(own[0], own[1] + hidden[1] - hidden[0])
    if rule.stat == "difference":
        most -= _share(rest[0], rest[1] + hidden[1] - hidden[0])
        least -= _share(rest[0] + hidden[0], rest[1] + hidden[0])
    return None if math.isnan(most) or math.isnan(least) else (float(least), float(most))


def _share(events: float, n: float) -> float:
    return float(events) / float(n) if n > 0 else math.nan
