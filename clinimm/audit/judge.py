"""Rules against figures: pass, fail, or inconclusive with what is still needed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from clinimm.audit.groups import OVERALL, RATE_METRICS, Audited, figure
from clinimm.audit.policy import HARM, Rule, StatisticsPolicy
from clinimm.evaluate.estimate import Estimate, rounded, rounded_up
from clinimm.evaluate.metrics import rate_counts

PASS, FAIL, INCONCLUSIVE = "pass", "fail", "inconclusive"
_POWER = 0.8
_MOST_WORTH_NAMING = 100_000
_UNIT = {
    "fnr": "positives",
    "sensitivity": "positives",
    "fpr": "negatives",
    "specificity": "negatives",
    "ppv": "flagged subjects",
    "npv": "subjects not flagged",
    "auroc": "positives",
    "observed_less_predicted": "subjects",
}


@dataclass(frozen=True)
class Finding:
    """One rule on one group.

    Attributes:
        rule: the rule's id.
        class_name, metric, attribute, level: what was judged.
        verdict: ``pass``, ``fail`` or ``inconclusive``.
        value, low, high: the figure judged: the value, or the difference from the reference.
        n, positives: subjects of the group; None where it is too small to show.
        needed: how many more of ``unit`` would settle it; None where settled or unknown.
        unit: positives, negatives, flagged subjects, ...
        blocks: whether this finding stops the registration.
        sentence: the finding for people.
    """

    rule: str
    class_name: str
    metric: str
    attribute: str
    level: str
    verdict: str
    value: float | None
    low: float | None
    high: float | None
    n: int | None
    positives: int | None
    needed: int | None
    unit: str
    blocks: bool
    sentence: str

    def as_json(self) -> dict[str, Any]:
        """Plain values for ``audit.json``."""
        return {**vars(self), **{key: rounded(getattr(self, key)) for key in ("value", "low", "high")}}


def judge_rule(rule: Rule, audited: Audited, statistics: StatisticsPolicy) -> list[Finding]:
    """Every finding of a rule: one a group, or one for everybody.

    A pass needs every group's interval inside the margin, so no correction is due
    (intersection-union). A fail of any group is a finding among many, so its interval is widened
    by Bonferroni over the groups that the rule judges.
    """
    return _Case(rule, audited, statistics).findings()


def mover(group: Estimate, reference: Estimate) -> Interval:
    """Difference of two independent figures with its interval, from their own intervals.

    The method of variance estimates recovery (Newcombe, Stat Med 1998, method 10, for rates). Where
    the reference holds the group, the overlap makes it wider than needed, never narrower.
    """
    if group.value is None or group.low is None or group.high is None:
        return Interval(None, None, None)
    if reference.value is None or reference.low is None or reference.high is None:
        return Interval(None, None, None)
    difference = group.value - reference.value
    below = math.hypot(group.value - group.low, reference.high - reference.value)
    above = math.hypot(group.high - group.value, reference.value - reference.low)
    return Interval(difference, difference - below, difference + above)


def needed_for_margin(metric: str, have: float, error: float, pooled: float, margin: float) -> int | None:
    """How many more subjects a group needs to show equivalence, if there is no true difference.

    One-sided 5 %, power 80 %, against a large reference: for rates
    ``p (1 - p) (z_alpha + z_beta)^2 / margin^2`` less what it has; for other metrics the group's own
    squared standard error shrinks with its size. 0 where it has enough, None where nothing can be said.
    """
    z = float(norm.ppf(0.95) + norm.ppf(_POWER))
    if metric in RATE_METRICS:
        share = min(max(pooled, 0.05), 0.95)
        total = share * (1 - share) * z * z / margin**2
    elif have > 0 and error > 0:
        total = have * (z * error / margin) ** 2
    else:
        return None
    return max(0, math.ceil(total - have))


@dataclass(frozen=True)
class Interval:
    """A figure and its ends; None where there is none."""

    value: float | None
    low: float | None
    high: float | None

    def text(self) -> str:
        """``+0.041 (-0.03 to +0.11)``."""
        if self.value is None or self.low is None or self.high is None:
            return "not estimable"
        return f"{self.value:+.3f} ({self.low:+.2f} to {self.high:+.2f})"


@dataclass(frozen=True)
class _Group:
    attribute: str
    level: str
    members: NDArray[np.bool_]


@dataclass(frozen=True)
class _Case:
    """One rule before one set of subjects."""

    rule: Rule
    audited: Audited
    statistics: StatisticsPolicy

    def findings(self) -> list[Finding]:
        everybody = np.ones(self.audited.panel.n, dtype=bool)
        if not self.rule.attribute:
            return [self._value(_Group(OVERALL, OVERALL, everybody), 1)]
        absent = [name for name in self.rule.attribute if name not in self.audited.attributes]
        found = [
            self._silent(_Group(name, "(none)", ~everybody), f"the cohort has no {name}") for name in absent
        ]
        groups = [
            _Group(name, level, self.audited.members(name, level))
            for name in self.rule.attribute
            if name not in absent
            for level in self.audited.levels(name)
        ]
        large = [group for group in groups if group.members.sum() >= self.statistics.minimum_cell]
        judge = self._value if self.rule.stat == "value" else self._difference
        for group in groups:
            if group in large:
                found.append(judge(group, len(large)))
            else:
                found.append(self._silent(group, f"fewer than {self.statistics.minimum_cell} subjects"))
        return found

    def _value(self, group: _Group, among: int) -> Finding:
        rule = self.rule
        shown = self._figure(group.members, self.statistics.level)
        strict = self._figure(group.members, self._strict(among))
        side = 1.0 if rule.above is not None else -1.0
        bound = rule.above if rule.above is not None else rule.below
        if not (shown.known and strict.known) or bound is None:
            return self._silent(group, shown.reason or strict.reason or "no interval")
        worst = min(side * (shown.low or 0.0), side * (shown.high or 0.0))
        outside = max(side * (strict.low or 0.0), side * (strict.high or 0.0)) < side * bound
        verdict = PASS if worst > side * bound else FAIL if outside else INCONCLUSIVE
        text = f"{shown.text()}, to lie {'above' if side > 0 else 'below'} {bound:g}"
        return self._finding(group, verdict, Interval(shown.value, shown.low, shown.high), text)

    def _difference(self, group: _Group, among: int) -> Finding:
        rest = self.rule.reference == "rest"
        against = ~group.members if rest else np.ones_like(group.members)
        if against.sum() < self.statistics.minimum_cell:
            return self._silent(group, "too few subjects outside the group to compare it with")
        shown = self._gap(group.members, against, self.statistics.level)
        strict = self._gap(group.members, against, self._strict(among))
        needed = self._needed(group.members, shown, strict)
        if shown.value is None or strict.value is None:
            own, other = (self._figure(rows, self.statistics.level) for rows in (group.members, against))
            why = own.reason or f"in the reference, {other.reason}"
            return self._silent(group, why, needed)
        verdict = _within(HARM[self.rule.metric], self.rule.margin or 0.0, shown, strict)
        text = f"{shown.text()} against {'the rest' if rest else 'everybody'}, margin {self.rule.margin:g}"
        return self._finding(group, verdict, shown, text, needed if verdict == INCONCLUSIVE else None)

    def _gap(self, members: NDArray[np.bool_], against: NDArray[np.bool_], level: float) -> Interval:
        return mover(self._figure(members, level), self._figure(against, level))

    def _figure(self, members: NDArray[np.bool_], level: float) -> Estimate:
        return figure(self.audited, members, self.rule.metric, level)

    def _strict(self, among: int) -> float:
        return 1 - (1 - self.statistics.level) / max(1, among)

    def _needed(self, members: NDArray[np.bool_], shown: Interval, strict: Interval) -> int | None:
        rule, metric, label = self.rule, self.rule.metric, self.audited.panel.label[:, 0]
        own = self._figure(members, 0.6827)
        error = ((own.high or 0.0) - (own.low or 0.0)) / 2 if own.known else 0.0
        have, pooled = float(members.sum()), 0.0
        if metric in RATE_METRICS:
            have = rate_counts(metric, label[members], self.audited.decision[members])[1]
            successes, n = rate_counts(metric, label, self.audited.decision)
            pooled = successes / n if n else 0.5
        elif metric == "auroc":
            have = float(label[members].sum())
        margin = rule.margin or 1.0
        if_equal = needed_for_margin(metric, have, error, pooled, margin)
        if_stays = _needed_if_difference_stays(have, shown, strict, HARM[metric], margin)
        most = max(if_equal or 0, if_stays or 0)
        return rounded_up(most) if 0 < most <= _MOST_WORTH_NAMING else None

    def _silent(self, group: _Group, why: str, needed: int | None = None) -> Finding:
        return self._finding(group, INCONCLUSIVE, Interval(None, None, None), f"not estimable: {why}", needed)

    def _finding(
        self, group: _Group, verdict: str, shown: Interval, text: str, needed: int | None = None
    ) -> Finding:
        rule, panel = self.rule, self.audited.panel
        n = int(group.members.sum())
        small = n < self.statistics.minimum_cell
        block = (rule.inconclusive or self.statistics.inconclusive) == "block"
        unit = _UNIT[rule.metric]
        more = f"; about {_more(needed, unit)} needed" if needed else ""
        return Finding(
            rule=rule.id,
            class_name=panel.classes[0],
            metric=rule.metric,
            attribute=group.attribute,
            level=group.level,
            verdict=verdict,
            value=shown.value,
            low=shown.low,
            high=shown.high,
            n=None if small else n,
            positives=None if small else int(panel.label[group.members, 0].sum()),
            needed=needed,
            unit=unit,
            blocks=verdict == FAIL or (verdict == INCONCLUSIVE and block),
            sentence=f"{_name(rule, group)}: {text}{more}",
        )


def _more(count: int, unit: str) -> str:
    return f"{count:,} more {unit} are" if count > 1 else f"1 more {unit.removesuffix('s')} is"


def _needed_if_difference_stays(
    have: float, shown: Interval, strict: Interval, harm: int, margin: float
) -> int | None:
    """How many more settle it if the middle of the interval stays where it is.

    A middle inside the margin needs its interval inside as well, to pass; one outside needs all of the
    wider interval outside, to fail.
    """
    ends = (shown.value, shown.low, shown.high, strict.low, strict.high)
    if any(end is None for end in ends):
        return None
    value, low, high, least, most = (float(end or 0.0) for end in ends)
    sides = [(value, high, least)] if harm >= 0 else []
    sides += [(-value, -low, -most)] if harm <= 0 else []
    outside = [(centre - near) / (centre - margin) for centre, _, near in sides if centre > margin]
    inside = [(far - centre) / (margin - centre) for centre, far, _ in sides if centre < margin]
    if not outside and not inside:
        return None
    more = math.ceil(have * ((min(outside) if outside else max(inside)) ** 2 - 1))
    return more if more > 0 else None


def _within(harm: int, margin: float, shown: Interval, strict: Interval) -> str:
    """``shown`` decides a pass, ``strict`` (the wider) a fail; ``harm`` is the bad direction, 0 for both."""
    if shown.low is None or shown.high is None or strict.low is None or strict.high is None:
        return INCONCLUSIVE
    worse = [(shown.high, strict.low)] if harm >= 0 else []
    worse += [(-shown.low, -strict.high)] if harm <= 0 else []
    if any(least > margin for _, least in worse):
        return FAIL
    return PASS if all(most <= margin for most, _ in worse) else INCONCLUSIVE


def _name(rule: Rule, group: _Group) -> str:
    if group.attribute == OVERALL:
        return f"{rule.metric} of everybody"
    return f"{rule.metric} where {group.attribute} is {group.level}"
