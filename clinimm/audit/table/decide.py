"""From an interval and a rule to one of three answers, and to how much more evidence it takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import norm

from clinimm.audit.engine.intervals import z_of
from clinimm.audit.engine.measures import MEASURES
from clinimm.audit.policy import Rule
from clinimm.audit.table.study import Place, Study
from clinimm.audit.verdict import FAIL, INCONCLUSIVE, PASS
from clinimm.evaluate.estimate import rounded_up

_POWER = 0.8
#: More than so many, and than a hundred tables like this one, is no plan: the value lies at the bound.
_WORTH_NAMING, _TABLES_WORTH_NAMING = 10_000, 100
_TOO_FEW_TO_EXTRAPOLATE = 20


@dataclass(frozen=True)
class Side:
    """One direction that harms, turned so that more is worse.

    Attributes:
        value, least, most: the figure and its interval.
        bound: what it may not exceed.
        turned: whether less of the measure is worse, so that signs are changed.
    """

    value: float
    least: float
    most: float
    bound: float
    turned: bool = False


@dataclass(frozen=True)
class Needed:
    """How many more cases would settle a rule.

    Attributes:
        count: of the measure's unit, rounded up to two digits.
        of: ``group`` where more of the group would do; ``table`` where its reference is too small as
            well and the whole table has to grow in the same mix.
    """

    count: int
    of: str


def verdict_of(rule: Rule, value: float, low: float, high: float) -> str:
    """Pass: the whole interval is where it should be; fail: all of it is not; else inconclusive."""
    if math.isnan(low) or math.isnan(high):
        return INCONCLUSIVE
    sides = sides_of(rule, value, low, high)
    if any(side.least > side.bound for side in sides):
        return FAIL
    return PASS if all(side.most <= side.bound for side in sides) else INCONCLUSIVE


def sides_of(rule: Rule, value: float, low: float, high: float) -> list[Side]:
    """Each direction that harms: one for most measures, two where both do; ratios as logarithms."""
    if rule.stat == "value":
        if rule.above is not None:
            return [Side(-value, -high, -low, -rule.above, True)]
        return [Side(value, low, high, float(rule.below or 0.0))]
    bound, harm = float(rule.margin or 0.0), MEASURES[rule.metric].harm
    if rule.stat == "ratio":
        value, low, high = (_log(end) for end in (value, low, high))
        bound = -math.log(bound)
    up = [Side(value, low, high, bound)] if harm >= 0 else []
    down = [Side(-value, -high, -low, bound, True)] if harm <= 0 else []
    return up + down


def needed_for(rule: Rule, study: Study, place: Place, sides: Sequence[Side], level: float) -> Needed | None:
    """How many more cases decide a rule that is open.

    Enough if the value stays where it is; while it lies inside the bound, also enough to show that a
    group that truly does not differ is inside it (with 80 % power). None where the value lies so near
    the bound that no number worth naming would do.
    """
    own = study.figures(place.grouping, rule.metric)
    have = study.cases(rule.metric, float(own.n[place.group]))
    side = max(sides, key=lambda one: one.value - one.bound)
    arm = side.value - side.least if side.value > side.bound else side.most - side.value
    wide = _own_arm(rule, study, place, side, level)
    if not (math.isfinite(arm) and math.isfinite(wide)) or have <= 0:
        return _from_scratch(rule, study, have, level)
    wide = min(wide, arm)
    goal = _goal(rule, side, level)
    left = goal**2 - (arm**2 - wide**2)
    everybody = _everybody(rule, study)
    if left > 0 and (more := have * (wide**2 / left - 1)) <= max(everybody, 1000.0):
        found = _worth_naming(more, "group", everybody)
        least = _from_scratch(rule, study, have, level) if have < _TOO_FEW_TO_EXTRAPOLATE else None
        return max((one for one in (found, least) if one), key=lambda one: one.count, default=None)
    return _worth_naming(everybody * ((arm / goal) ** 2 - 1), "table", everybody) if goal > 0 else None


def _own_arm(rule: Rule, study: Study, place: Place, side: Side, level: float) -> float:
    """The group's own share of the arm that decides: towards the bound, from its own interval."""
    own = study.figures(place.grouping, rule.metric)
    low, high = (float(end[place.group]) for end in own.bounds(level))
    value = float(own.value[place.group])
    turned = rule.above is not None if rule.stat == "value" else side.turned
    upwards = (side.value <= side.bound) != turned
    arm = high - value if upwards else value - low
    return arm / max(value, 1e-9) if rule.stat == "ratio" else arm


def needed_text(needed: Needed | None, unit: str) -> str:
    """``about 1,600 more positives of this group would settle it``."""
    if needed is None:
        return "no number of cases worth naming would settle it"
    whole = "of this group" if needed.of == "group" else "in the whole table"
    word = unit.removesuffix("s") if needed.count == 1 else unit
    return f"about {needed.count:,} more {word} {whole} would settle it"


def _goal(rule: Rule, side: Side, level: float) -> float:
    """The arm at which the rule is decided: in both cases while the value lies inside the bound."""
    stays = abs(side.value - side.bound)
    if rule.stat == "value" or side.value > side.bound:
        return stays
    z = z_of(level)
    return min(stays, side.bound * z / (z + float(norm.ppf(_POWER))))


def _everybody(rule: Rule, study: Study) -> float:
    """Cases of the whole table."""
    return study.cases(rule.metric, float(study.figures(study.grouping(""), rule.metric).n[0]))


def _worth_naming(more: float, of: str, everybody: float) -> Needed | None:
    most = max(_WORTH_NAMING, _TABLES_WORTH_NAMING * everybody)
    return Needed(rounded_up(math.ceil(more)), of) if 0 < more <= most else None


def _from_scratch(rule: Rule, study: Study, have: float, level: float) -> Needed | None:
    """The number for a group of which nothing is known but that it is like everybody."""
    share = float(study.figures(study.grouping(""), rule.metric).value[0])
    if rule.stat != "difference" or not rule.margin or not 0 <= share <= 1:
        return None
    share = min(max(share, 0.05), 0.95)
    total = share * (1 - share) * (z_of(level) + float(norm.ppf(_POWER))) ** 2 / rule.margin**2
    return _worth_naming(max(1.0, total - have), "group", _everybody(rule, study))


def _log(value: float) -> float:
    return math.log(max(value, 1e-300)) if value < math.inf else value
