"""Rules against a table: pass, fail or inconclusive on intervals that hold together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from clinimm.audit.engine.compare import Contrast, joint_level
from clinimm.audit.engine.measures import MEASURES
from clinimm.audit.policy import Policy, Rule
from clinimm.audit.table.allocate import allocation
from clinimm.audit.table.decide import Needed, needed_for, needed_text, sides_of, verdict_of
from clinimm.audit.table.study import CROSS, CROSSED, Place, Study
from clinimm.audit.verdict import FAIL, INCONCLUSIVE, PASS
from clinimm.audit.waiver import Waiver, covering
from clinimm.evaluate.estimate import finite, rounded


@dataclass(frozen=True)
class TableFinding:
    """One rule on one group.

    Attributes:
        class_name: of which outcome.
        rule, metric, stat, reference: what was asked.
        attribute, level: of whom; ``overall``, ``everybody`` for all.
        verdict: ``pass``, ``fail`` or ``inconclusive``.
        value, low, high: what is judged, with the interval that holds for all findings together.
        pointwise: both ends of the interval of this finding by itself.
        group_value, reference_value: the two figures behind a difference or a ratio.
        n, count, unit: rows of the group; how many the measure counts in; what they are.
        needed: how many more of ``unit`` would settle it; None where it is settled or no number would.
        allocation: least and most that the value could be, were the missing attribute known.
        gates: False where the attribute was inferred.
        blocks: whether this finding stands in the way.
        waived: reason and end of the waiver, if there is one.
        sentence: the finding for people.
    """

    class_name: str
    rule: str
    metric: str
    stat: str
    reference: str
    attribute: str
    level: str
    verdict: str
    value: float | None
    low: float | None
    high: float | None
    pointwise: tuple[float | None, float | None]
    group_value: float | None
    reference_value: float | None
    n: int
    count: int
    unit: str
    needed: Needed | None
    allocation: tuple[float, float] | None
    gates: bool
    blocks: bool
    waived: str | None
    sentence: str

    def as_json(self) -> dict[str, Any]:
        """Plain values, rounded."""
        found = dict(vars(self))
        for key in ("value", "low", "high", "group_value", "reference_value"):
            found[key] = rounded(found[key])
        found["needed"] = None if self.needed is None else vars(self.needed)
        found["pointwise"] = [rounded(end) for end in self.pointwise]
        found["allocation"] = None if self.allocation is None else [rounded(end) for end in self.allocation]
        return found


@dataclass(frozen=True)
class Judgement:
    """All findings, and the level of each interval at which they hold together."""

    findings: tuple[TableFinding, ...]
    joint_level: float


def judge(
    studies: Mapping[str, Study], policy: Policy, waivers: Sequence[Waiver] = (), day: date | None = None
) -> Judgement:
    """Every rule on every group that it names, of every class.

    One interval is shown and judged: its level is such that all intervals of the audit hold together
    (max-T over all classes, rules and groups). A pass therefore shows equivalence for every group at
    once, and a fail is no chance find among many. A rule on an attribute that nobody recorded is
    inconclusive.

    Args:
        studies: class -> its figures.
        policy: the rules.
        waivers: what may stand although it is broken or undecided.
        day: on which the waivers are looked at.

    Raises:
        ConfigError: a rule compares with a level that the attribute does not have.
    """
    asked = [
        (name, rule, place)
        for name, study in studies.items()
        for rule in policy.rules
        for place in study.places(rule)
    ]
    contrasts = [studies[name].contrast(rule, place) for name, rule, place in asked]
    level = joint_level(contrasts, policy.statistics.level, policy.table.draws, policy.table.seed)
    findings = [
        _finding(name, studies[name], policy, rule, place, contrast, level)
        for (name, rule, place), contrast in zip(asked, contrasts, strict=True)
    ]
    findings += [
        _not_recorded(name, policy, rule, attribute)
        for name, study in studies.items()
        for rule in policy.rules
        for attribute in rule.attribute
        if not study.knows(attribute)
    ]
    return Judgement(tuple(_waived(one, waivers, day) for one in findings), level)


def _waived(finding: TableFinding, waivers: Sequence[Waiver], day: date | None) -> TableFinding:
    if day is None or finding.verdict == PASS:
        return finding
    waiver = covering(waivers, finding.rule, finding.attribute, finding.level, day)
    if waiver is None:
        return finding
    said = f"until {waiver.until.isoformat()} by {' and '.join(waiver.owners)}: {waiver.reason}"
    return replace(finding, blocks=False, waived=said)


def _blocks_when_open(policy: Policy, rule: Rule) -> bool:
    return (rule.inconclusive or policy.statistics.inconclusive) == "block"


def _not_recorded(name: str, policy: Policy, rule: Rule, attribute: str) -> TableFinding:
    """A rule on an attribute that the rows do not have: nobody can tell."""
    attribute = attribute.replace(CROSS, CROSSED)
    return TableFinding(
        class_name=name,
        rule=rule.id,
        metric=rule.metric,
        stat=rule.stat,
        reference="" if rule.stat == "value" else rule.reference,
        attribute=attribute,
        level="(not recorded)",
        verdict=INCONCLUSIVE,
        value=None,
        low=None,
        high=None,
        pointwise=(None, None),
        group_value=None,
        reference_value=None,
        n=0,
        count=0,
        unit=MEASURES[rule.metric].unit,
        needed=None,
        allocation=None,
        gates=True,
        blocks=_blocks_when_open(policy, rule),
        waived=None,
        sentence=f"{MEASURES[rule.metric].title}: nobody recorded {attribute}, so nobody can tell",
    )


def _finding(  # one rule, one group, and what they are judged with
    name: str, study: Study, policy: Policy, rule: Rule, place: Place, contrast: Contrast, level: float
) -> TableFinding:
    own = study.figures(place.grouping, rule.metric)
    against = None if rule.stat == "value" else study.reference(place, rule.metric, rule.reference)
    low, high = contrast.bounds(level)
    verdict = verdict_of(rule, contrast.value, low, high)
    inferred = any(
        policy.table.attributes[name].source == "inferred"
        for name in place.grouping.attributes
        if name in policy.table.attributes
    )
    block = _blocks_when_open(policy, rule)
    sides = sides_of(rule, contrast.value, low, high)
    needed = needed_for(rule, study, place, sides, level) if verdict == INCONCLUSIVE else None
    bounds = allocation(study, rule, place)
    finding = TableFinding(
        class_name=name,
        rule=rule.id,
        metric=rule.metric,
        stat=rule.stat,
        reference="" if against is None else rule.reference,
        attribute=place.attribute,
        level=place.level,
        verdict=verdict,
        value=finite(contrast.value),
        low=finite(low),
        high=finite(high),
        pointwise=tuple(finite(end) for end in contrast.bounds(policy.statistics.level)),  # type: ignore[arg-type]
        group_value=finite(float(own.value[place.group])),
        reference_value=None if against is None else finite(float(against[0].value[against[1]])),
        n=study.subjects(study.tables(place.grouping).counts[place.group].sum()),
        count=round(study.cases(rule.metric, float(own.n[place.group]))),
        unit=study.unit_of(rule.metric),
        needed=needed,
        allocation=bounds,
        gates=not inferred,
        blocks=not inferred and (verdict == FAIL or (verdict == INCONCLUSIVE and block)),
        waived=None,
        sentence="",
    )
    return replace(finding, sentence=_sentence(rule, finding))


def _sentence(rule: Rule, finding: TableFinding) -> str:
    title = MEASURES[rule.metric].title
    who = "everybody" if finding.attribute == "overall" else f"{finding.attribute}: {finding.level}"
    if finding.value is None or finding.low is None:
        text = f"{title}, {who}: not estimable from {finding.count:,} {finding.unit}"
    else:
        sign = "+" if rule.stat == "difference" else ""
        ends = f"{finding.low:{sign}.3f} to " + (
            "any" if finding.high is None else f"{finding.high:{sign}.3f}"
        )
        text = f"{title}, {who}: {finding.value:{sign}.3f} ({ends})"
        if rule.stat == "value":
            text += f", to lie {'above' if rule.above is not None else 'below'} {_bound(rule):g}"
        else:
            against = {"rest": "everybody else", "overall": "everybody"}.get(rule.reference, rule.reference)
            text += f" {'less' if rule.stat == 'difference' else 'over'} {against}, margin {rule.margin:g}"
    if finding.verdict == INCONCLUSIVE:
        text += f"; {needed_text(finding.needed, finding.unit)}"
    return text


def _bound(rule: Rule) -> float:
    return float(rule.above if rule.above is not None else rule.below or 0.0)


def harm_of(finding: TableFinding, rule: Rule) -> float:
    """How surely bad a group is: the better end of its interval, turned so that more is worse.

    By the value itself, three cases of which two were missed would always be the worst.
    """
    if finding.value is None or finding.low is None or finding.high is None:
        return -math.inf
    return max(side.least - side.bound for side in sides_of(rule, finding.value, finding.low, finding.high))
