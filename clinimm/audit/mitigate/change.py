"""Before and after a mitigation, in absolute figures, for everybody.

Most ways to close a gap make somebody worse, and often everybody ("levelling down", Mittelstadt, Wachter
and Russell 2023; Pfohl et al., FAccT 2022). So a mitigation is not judged by the gap that it closes but by
what each group gets: misses, false alarms, net benefit and squared error before and after, on the same
people, with a paired interval. A group that is surely worse fails the mitigation unless somebody accepts
that by name and says why, or the whole interval lies within what is tolerated; a group that may be worse by
more than is tolerated leaves it undecided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int
from numpy import ndarray

from clinimm.audit.engine.intervals import t_of, z_of
from clinimm.audit.engine.rows import Rows
from clinimm.audit.verdict import FAIL, INCONCLUSIVE, PASS

#: Measure -> what it is called, its unit, and +1 where more is worse.
CHANGES: Mapping[str, tuple[str, str, int]] = {
    "fnr": ("missed", "positives", 1),
    "fpr": ("false alarms", "negatives", 1),
    "net_benefit": ("net benefit", "rows", -1),
    "brier": ("squared error of the risk", "rows", 1),
}


@dataclass(frozen=True)
class Predictions:
    """What a model, or a model and its mitigation, says of some rows.

    Attributes:
        probability: predicted risk.
        flagged: decision.
    """

    probability: Float64[ndarray, " row"]
    flagged: Bool[ndarray, " row"]


@dataclass(frozen=True)
class Change:
    """One measure of one group, before and after.

    Attributes:
        attribute, level: who; ``overall``, ``everybody`` for all.
        measure: a key of ``CHANGES``.
        n: rows that it counts.
        before, after: its value; NaN where nobody is counted.
        low, high: interval of after less before, paired, holding for all groups and measures together.
        verdict: ``better``, ``worse``, ``alike`` (within what is tolerated) or ``undecided``.
        accepted: why the group may become worse, where somebody said so.
    """

    attribute: str
    level: str
    measure: str
    n: int
    before: float
    after: float
    low: float
    high: float
    verdict: str
    accepted: str = ""

    @property
    def sentence(self) -> str:
        """The change for people."""
        title, unit, _ = CHANGES[self.measure]
        who = "everybody" if self.attribute == "overall" else f"{self.attribute} {self.level}"
        text = (
            f"{who}, {title}: {self.before:.3f} before, {self.after:.3f} after "
            f"({self.low:+.3f} to {self.high:+.3f}; {self.n:,} {unit}): {self.verdict}"
        )
        return f"{text}, accepted: {self.accepted}" if self.accepted else text


@dataclass(frozen=True)
class MitigationReport:
    """What a mitigation did to everybody.

    Attributes:
        changes: every measure of every group.
        gaps: attribute and measure -> largest less smallest group, before and after.
        verdict: ``fail`` where a group is surely worse and nobody said so; ``inconclusive`` where one
            may be, beyond what is tolerated; else ``pass``.
        levelled_down: attributes and measures whose gap shrank while a group became surely worse in the
            measure and none surely better, nor any surely better in net benefit.
    """

    changes: tuple[Change, ...]
    gaps: Mapping[tuple[str, str], tuple[float, float]]
    verdict: str
    levelled_down: tuple[tuple[str, str], ...]

    @property
    def sentences(self) -> list[str]:
        """The verdict and what it rests on, for people."""
        worse = [one.sentence for one in self.changes if one.verdict == "worse"]
        first = {
            FAIL: "The mitigation fails: somebody is served worse, and nobody said that this may be.",
            INCONCLUSIVE: "It cannot be told whether the mitigation makes somebody worse.",
            PASS: "No group is worse than is tolerated or was accepted.",
        }[self.verdict]
        down = [
            f"Levelling down: the gap in {CHANGES[measure][0]} by {attribute} went from "
            f"{self.gaps[attribute, measure][0]:.3f} to {self.gaps[attribute, measure][1]:.3f}: a group is "
            "surely worse, and none surely better."
            for attribute, measure in self.levelled_down
        ]
        return [first, *worse, *down]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "verdict": self.verdict,
            "sentences": self.sentences,
            "changes": [vars(one) | {"sentence": one.sentence} for one in self.changes],
            "gaps": [
                {"attribute": attribute, "measure": measure, "before": before, "after": after}
                for (attribute, measure), (before, after) in self.gaps.items()
            ],
            "levelled_down": [list(one) for one in self.levelled_down],
        }


def compare(
    rows: Rows,
    before: Predictions,
    after: Predictions,
    threshold: float,
    *,
    measures: Sequence[str] = tuple(CHANGES),
    tolerated: float = 0.02,
    accepted: Mapping[tuple[str, str, str], str] | None = None,
    level: float = 0.95,
) -> MitigationReport:
    """Compare a mitigation with what was there before, group by group.

    Args:
        rows: labels and attributes of rows that neither was fitted to.
        before, after: what each says of them, in the same order.
        threshold: probability at which net benefit weighs a false alarm.
        measures: keys of ``CHANGES``.
        tolerated: a group whose whole interval lies within it is alike, as a rule's margin has it. One that
            is surely worse, and not shown to be so little worse, fails.
        accepted: attribute, level and measure -> the reason why that group may become worse in it.
        level: of all intervals together (Šidák).
    """
    reasons = dict(accepted or {})
    groups = [("overall", "everybody", np.ones(rows.n, dtype=bool))]
    groups += [
        (name, one, column.code == place)
        for name, column in rows.attributes.items()
        for place, one in enumerate(column.levels)
    ]
    single = float(level ** (1 / (len(groups) * len(measures))))
    # A row may change the squared error by anything, the others only by so much, either way.
    steps = {"fnr": (1.0,), "fpr": (1.0,), "net_benefit": (1.0, threshold / (1 - threshold)), "brier": ()}
    found = []
    for attribute, one, member in groups:
        for measure in measures:
            counted, was, now = _values(rows, before, after, threshold, measure)
            here = member & counted
            cluster = None if rows.cluster is None else rows.cluster[here]
            low, high = paired_interval(now[here] - was[here], cluster, single, steps[measure])
            verdict = _verdict(low, high, CHANGES[measure][2], tolerated)
            reason = reasons.get((attribute, one, measure), "") if verdict in ("worse", "undecided") else ""
            first, second = (float(part[here].mean()) if here.any() else np.nan for part in (was, now))
            n = int(here.sum())
            found.append(Change(attribute, one, measure, n, first, second, low, high, verdict, reason))
    unsaid = {one.verdict for one in found if not one.accepted}
    verdict = FAIL if "worse" in unsaid else INCONCLUSIVE if "undecided" in unsaid else PASS
    gaps = _gaps(found, list(rows.attributes), measures)
    return MitigationReport(tuple(found), gaps, verdict, _levelled_down(found, gaps))


def paired_interval(
    difference: Float64[ndarray, " row"],
    cluster: Int[ndarray, " row"] | None,
    level: float,
    steps: Sequence[float],
) -> tuple[float, float]:
    """Interval of a mean of differences on the same people; NaN with fewer than two of them.

    Where a row can change only by certain steps, one of each is added either way. For rates (one step of 1)
    that is the adjusted interval of Bonett and Price (Stat Med 2012); it keeps its width where no decision
    changed, and with it the chance that it holds. Else Student's. Where subjects have several rows, both
    are of whole subjects.

    Args:
        difference: after less before.
        cluster: subject of each row; None where each is one of its own.
        level: of the interval.
        steps: sizes of a change, where only these can be; empty where any can.
    """
    n = len(difference)
    if n < 2:
        return np.nan, np.nan
    mean = float(difference.mean())
    effect, units = 1.0, n
    if cluster is not None:
        _, unit = np.unique(cluster, return_inverse=True)
        summed, units = np.bincount(unit, difference - mean), int(unit.max()) + 1
        of_rows = float(np.sum((difference - mean) ** 2))
        effect = max(1.0, float(np.sum(summed**2)) / of_rows) if of_rows > 0 else n / units
    if steps:
        few = n / effect
        every = few + 2 * len(steps)
        centre = mean * few / every
        squares = float(np.mean(difference**2)) * few + 2 * float(np.sum(np.square(steps)))
        half = z_of(level) * np.sqrt((squares / every - centre**2) / every)
        most = max(steps)
        return max(centre - half, -most), min(centre + half, most)
    error = np.sqrt(difference.var(ddof=1) / n * effect)
    half = float(t_of(level, np.array([units - 1.0]))[0]) * error
    return mean - half, mean + half


def _values(
    rows: Rows, before: Predictions, after: Predictions, threshold: float, measure: str
) -> tuple[Bool[ndarray, " row"], Float64[ndarray, " row"], Float64[ndarray, " row"]]:
    """Which rows count, and what each adds to the mean, before and after."""
    positive = rows.label == 1
    odds = threshold / (1 - threshold)

    def of(one: Predictions) -> ndarray:
        if measure == "fnr":
            return (~one.flagged).astype(float)
        if measure == "fpr":
            return one.flagged.astype(float)
        if measure == "brier":
            return (one.probability - rows.label) ** 2
        return one.flagged * np.where(positive, 1.0, -odds)

    counted = positive if measure == "fnr" else ~positive if measure == "fpr" else np.ones(rows.n, dtype=bool)
    return counted, of(before), of(after)


def _verdict(low: float, high: float, harm: int, tolerated: float) -> str:
    if np.isnan(low):
        return "undecided"
    least, most = (low, high) if harm > 0 else (-high, -low)
    if most < 0:
        return "better"
    if most <= tolerated:
        return "alike"
    return "worse" if least > 0 else "undecided"


def _gaps(
    found: Sequence[Change], attributes: Sequence[str], measures: Sequence[str]
) -> dict[tuple[str, str], tuple[float, float]]:
    gaps = {}
    for attribute in attributes:
        for measure in measures:
            own = [one for one in found if (one.attribute, one.measure) == (attribute, measure) and one.n]
            if len(own) > 1:
                before, after = [one.before for one in own], [one.after for one in own]
                gaps[attribute, measure] = (max(before) - min(before), max(after) - min(after))
    return gaps


def _levelled_down(
    found: Sequence[Change], gaps: Mapping[tuple[str, str], tuple[float, float]]
) -> tuple[tuple[str, str], ...]:
    down = []
    gained = {one.attribute for one in found if (one.measure, one.verdict) == ("net_benefit", "better")}
    for (attribute, measure), (before, after) in gaps.items():
        if attribute in gained:
            continue
        own = {one.verdict for one in found if (one.attribute, one.measure) == (attribute, measure) and one.n}
        if after < before and "worse" in own and "better" not in own:
            down.append((attribute, measure))
    return tuple(down)
