"""How much worse each group fares than everybody else, against the same gap in the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from clinimm.audit.engine.measures import MEASURES, measure
from clinimm.audit.engine.rows import Rows
from clinimm.audit.groups import MISSING
from clinimm.evaluate.estimate import rounded
from clinimm.monitor.finding import (
    CANNOT_TELL,
    Finding,
    Scribe,
    Triple,
    Verdict,
    beyond,
    beyond_either_way,
    shared_level,
)
from clinimm.monitor.performance import difference, first, rarer, rows_of
from clinimm.monitor.plan import MonitoringPlan
from clinimm.monitor.snapshot import labelled, period_of
from clinimm.report.words import signed

#: A single hidden level is the rest of the total.
_LEAST_HIDDEN = 2


@dataclass(frozen=True)
class _Asked:
    """One gap: a group's measure less that of everybody else."""

    attribute: str
    level: str
    metric: str

    @property
    def about(self) -> str:
        return f"{self.metric}, {self.attribute} = {self.level}"

    def of(self, rows: Rows, threshold: float, level: float) -> tuple[Triple, int] | None:
        """The gap with its interval, and the group's size; None where it does not exist."""
        grouping = rows.grouping([self.attribute])
        member = np.array([levels == (self.level,) for levels in grouping.levels])
        if not member.any() or member.all():
            return None
        parts = [rows.part(grouping, chosen) for chosen in (member, ~member)]
        own, rest = (
            first(measure(part, threshold, [self.metric])[self.metric].triple(level)) for part in parts
        )
        if not np.isfinite([*own, *rest]).all():
            return None
        return difference(own, rest), int(parts[0].size[0])

    def growth(self, now: Triple, before: Triple) -> Triple:
        """Growth of the harm: the gap now less the reference's, turned so that more is worse.

        Of a measure that is harmful either way (observed less predicted risk) it keeps its sign.
        """
        value, low, high = difference(now, before)
        return (value, low, high) if MEASURES[self.metric].harm >= 0 else (-value, -high, -low)

    def verdict(self, growth: Triple, limit: float) -> Verdict:
        """Whether that is more than the plan allows."""
        return (beyond if MEASURES[self.metric].harm else beyond_either_way)(growth, limit)


def check_gaps(
    name: str,
    before: pd.DataFrame,
    now: pd.DataFrame,
    attributes: tuple[pd.DataFrame, pd.DataFrame],
    threshold: float,
    plan: MonitoringPlan,
    classes: int,
) -> tuple[list[Finding], list[dict[str, Any]]]:
    """Findings on one class, and a row a group for the board.

    What is judged is the whole stretch: single periods hold too few of a small group, and are shown.

    Args:
        name: of the class.
        before, now: its rows.
        attributes: of the subjects then and now.
        threshold: from which a row is flagged.
        plan: limits.
        classes: how many share the part's alpha.
    """
    old, new = before[before["label"].notna()], labelled(now, plan)
    names = [column for column in attributes[0].columns if column in attributes[1].columns]
    if min(rarer(old), rarer(new)) < 2 or not names:
        return [], []
    sides = [_side(part, table[names], plan) for part, table in zip((old, new), attributes, strict=True)]
    named = period_of(new["index_time"], plan)
    periods = {
        str(period): _side(rows, attributes[1][names], plan) for period, rows in new.groupby(named, sort=True)
    }
    asked = _questions(sides[0], sides[1], plan)
    hidden = {name: _hidden(name, sides, plan.gaps.smallest_cell) for name in names}
    judged = shared_level(plan.gaps.alpha, len(asked) * classes)
    scribe = Scribe("gaps", plan.gaps)
    found: list[Finding] = []
    rows: list[dict[str, Any]] = []
    for one in asked:
        then, today = (one.of(side, threshold, judged) for side in sides)
        shown = one.of(sides[1], threshold, plan.level)
        if then is None or today is None or shown is None:
            continue
        few = one.level in hidden[one.attribute]
        found.append(_finding(scribe, name, one, (then[0], today[0], shown[0]), today[1], few, plan))
        over = [] if few else _over_time(one, periods, threshold, plan)
        rows.append({**_row(name, one, then[0], shown, few), "periods": over})
    return found, rows


def _questions(before: Rows, now: Rows, plan: MonitoringPlan) -> list[_Asked]:
    return [
        _Asked(attribute, level, metric)
        for attribute, coded in now.attributes.items()
        for level in coded.levels
        if level in before.attributes[attribute].levels and level != MISSING
        for metric in plan.gaps.metrics
    ]


def _hidden(attribute: str, sides: Sequence[Rows], smallest: int) -> frozenset[str]:
    """Levels whose number is not told, then or now: the small ones, and the next where one would follow.

    The total is told, so a single hidden level is the rest of it; and of two levels one gap is the other's
    with its sign turned. The smallest shown level is hidden too until the hidden ones are at least two
    and hold ``smallest`` rows together.
    """
    hidden: set[str] = set()
    for side in sides:
        coded = side.attributes[attribute]
        counts = dict(zip(coded.levels, np.bincount(coded.code, minlength=len(coded.levels)), strict=True))
        small = {level for level, count in counts.items() if 0 < count < smallest}
        shown = sorted(set(counts) - small, key=lambda level: (counts[level], level))
        while (
            small
            and shown
            and (len(small) < _LEAST_HIDDEN or sum(counts[level] for level in small) < smallest)
        ):
            small.add(shown.pop(0))
        hidden |= small
    return frozenset(hidden)


def _finding(
    scribe: Scribe,
    name: str,
    one: _Asked,
    gaps: tuple[Triple, Triple, Triple],
    n: int,
    few: bool,
    plan: MonitoringPlan,
) -> Finding:
    about = f"{name}: {one.about}"
    if few:
        return scribe.write(
            about,
            CANNOT_TELL,
            f"{about}: not shown; fewer than {plan.gaps.smallest_cell} rows, or a smaller group's number "
            "would follow.",
        )
    then, today, (value, low, high) = gaps
    growth = one.growth(today, then)
    ends = f"{signed(low)} to {signed(high)}"
    said = f"{about}: {signed(value)} ({ends}) against everybody else, in the reference {signed(then[0])}."
    verdict = one.verdict(growth, plan.gaps.growth)
    return scribe.write(about, verdict, said, growth, limit=plan.gaps.growth, n=n)


def _row(name: str, one: _Asked, then: Triple, shown: tuple[Triple, int], few: bool) -> dict[str, Any]:
    (value, low, high), n = shown
    figures = {"n": n, "reference": then[0], "value": value, "low": low, "high": high}
    kept = {key: None if few else rounded(figure) if key != "n" else n for key, figure in figures.items()}
    return {"class_name": name, "attribute": one.attribute, "level": one.level, "metric": one.metric, **kept}


def _over_time(
    one: _Asked, periods: Mapping[str, Rows], threshold: float, plan: MonitoringPlan
) -> list[dict[str, Any]]:
    """The gap in each period that has enough of the group."""
    found = []
    for period, rows in periods.items():
        if one.level in _hidden(one.attribute, (rows,), plan.gaps.smallest_cell):
            continue
        gap = one.of(rows, threshold, plan.level)
        if gap is not None:
            ends = dict(zip(("value", "low", "high"), map(rounded, gap[0]), strict=True))
            found.append({"period": period, "n": gap[1], **ends})
    return found


def _side(part: pd.DataFrame, table: pd.DataFrame, plan: MonitoringPlan) -> Rows:
    levels = table.reindex(part["subject_id"]).fillna(MISSING).astype(str)
    return rows_of(part, {str(name): levels[name].to_numpy() for name in levels}, plan.seed)
