"""Drift of gaps: does the distance between a group and everybody else change over time?

A gap that was within the margin when a model was approved may open afterwards: another scanner at
one site, another coding habit. Each period has the gap with its interval; a line through the periods
and the spread around their mean say whether it moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from numpy import ndarray
from scipy.stats import chi2, norm

from clinimm.audit.detect.slices import one_row_a_subject
from clinimm.audit.engine.compare import difference
from clinimm.audit.engine.counts import RATES
from clinimm.audit.engine.figures import Figures
from clinimm.audit.engine.intervals import z_of
from clinimm.audit.engine.measures import MEASURES, measure
from clinimm.audit.engine.resample import holm
from clinimm.audit.engine.rows import Coded, Rows

_FEWEST = 5.0
#: No attribute is called so: a column cannot be without a name.
_PERIOD = ""


@dataclass(frozen=True)
class PeriodGap:
    """A group less everybody else in one period.

    Attributes:
        period: its name.
        n: what the measure counts of the group in the period.
        value, low, high: the gap; NaN where it cannot be told.
    """

    period: str
    n: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class GapDrift:
    """The gap of one group in one measure over the periods.

    Attributes:
        metric: a name in ``MEASURES``.
        attribute, level: the group, compared with everybody else.
        periods: in order of time.
        slope, low, high: change of the gap from one period to the next; NaN with fewer than three periods.
        p: that a gap that does not move has so steep a line, or periods so far apart (the smaller of the
            two tests, doubled), corrected (Holm) for all groups and measures.
        trend: whether the line, not the spread, gave ``p``.
    """

    metric: str
    attribute: str
    level: str
    periods: tuple[PeriodGap, ...]
    slope: float
    low: float
    high: float
    p: float
    trend: bool

    def raised(self, alpha: float = 0.05) -> bool:
        """Whether the gap is shown to move."""
        return self.p <= alpha

    @property
    def sentence(self) -> str:
        """The finding for people, at an alpha of 5 %."""
        return self.said(0.05)

    def said(self, alpha: float) -> str:
        """The finding for people."""
        known = [period for period in self.periods if period.value == period.value]
        who = f"{MEASURES[self.metric].title}, {self.attribute} {self.level} less others"
        if len(known) < 2:
            return f"{who}: too few cases in the periods to say whether the gap moves."
        ends = f"{known[0].value:+.3f} in {known[0].period}, {known[-1].value:+.3f} in {known[-1].period}"
        change = f"{self.slope:+.4f} a period ({self.low:+.4f} to {self.high:+.4f})"
        if not self.raised(alpha):
            return f"{who}: {ends}; no movement is shown ({change}, p {self.p:.3f})."
        how = "moves in one direction" if self.trend else "moves, not in one direction"
        return f"{who}: the gap {how}: {ends}; {change}, p {self.p:.3f}."


def drift_of_gaps(
    rows: Rows,
    period: Coded,
    threshold: float,
    metrics: Sequence[str] = ("fnr", "fpr"),
    *,
    attributes: Sequence[str] | None = None,
    level: float = 0.95,
) -> list[GapDrift]:
    """The gap of every group in every period, and whether it moves.

    A period counts where the group and everybody else have five cases of the measure's unit. Where
    subjects have several rows, one of each is drawn: five rows of one person are one case, and periods
    are taken as independent.

    Args:
        rows: what is audited.
        period: of each row; its levels in order of time.
        threshold: probability from which a row is flagged.
        metrics: names in ``MEASURES``.
        attributes: whose groups are compared; all of them.
        level: of the intervals, each for itself.
    """
    names = list(attributes if attributes is not None else rows.attributes)
    rows = one_row_a_subject(rows, {_PERIOD: period}, rows.seed)
    period = rows.attributes[_PERIOD]
    wanted = [
        (metric, name, one) for metric in metrics for name in names for one in rows.attributes[name].levels
    ]
    gaps: dict[tuple[str, str, str], list[tuple[PeriodGap, float]]] = {key: [] for key in wanted}
    for place, title in enumerate(period.levels):
        part = _part(rows, np.flatnonzero(period.code == place))
        for name in names:
            found = _gaps(part, name, threshold, metrics, title, level)
            for metric in metrics:
                for one in rows.attributes[name].levels:
                    nothing = PeriodGap(title, 0, np.nan, np.nan, np.nan), np.nan
                    gaps[metric, name, one].append(found.get((metric, one), nothing))
    drifts = [_drift(key, points, level) for key, points in gaps.items()]
    corrected = holm([drift.p if np.isfinite(drift.p) else None for drift in drifts])
    return [
        GapDrift(**(vars(drift) | {"p": 1.0 if p is None else p}))
        for drift, p in zip(drifts, corrected, strict=True)
    ]


def _part(rows: Rows, take: Int[ndarray, " kept"]) -> Rows:
    attributes = {name: Coded(column.code[take], column.levels) for name, column in rows.attributes.items()}
    flagged = None if rows.flagged is None else rows.flagged[take]
    return Rows(rows.label[take], rows.probability[take], attributes, None, rows.seed, flagged)


def _gaps(
    part: Rows, name: str, threshold: float, metrics: Sequence[str], title: str, level: float
) -> dict[tuple[str, str], tuple[PeriodGap, float]]:
    """(measure, level) -> gap in one period and its standard error."""
    found: dict[tuple[str, str], tuple[PeriodGap, float]] = {}
    if part.n == 0:
        return found
    grouping = part.grouping([name])
    own = measure(part.segments(grouping), threshold, metrics)
    for place, (one,) in enumerate(grouping.levels):
        others = np.arange(grouping.size) != place
        if not others.any():
            continue
        rest = measure(part.part(grouping, others), threshold, metrics)
        for metric in metrics:
            figures, against = own[metric], rest[metric]
            n = figures.n[place]
            if min(n, against.n[0]) < _FEWEST:
                continue
            contrast = difference(figures, place, against)
            low, high = contrast.bounds(level)
            error = float(np.hypot(_error(figures, place), _error(against, 0)))
            found[metric, one] = PeriodGap(title, round(float(n)), contrast.value, low, high), error
    return found


def _error(figures: Figures, place: int) -> float:
    """Standard error; of rates with one event and one other added, or none would weigh infinitely."""
    error = float(figures.standard_error[place])
    if figures.measure not in RATES:
        return error
    n, value = float(figures.n[place]), float(figures.value[place])
    share = (value * n + 1) / (n + 2)
    plain = np.sqrt(value * (1 - value) / n)
    effect = error / plain if plain > 0 else 1.0
    return float(np.sqrt(share * (1 - share) / n) * max(effect, 1.0))


def _drift(key: tuple[str, str, str], points: list[tuple[PeriodGap, float]], level: float) -> GapDrift:
    periods = tuple(point for point, _ in points)
    value, error = np.array([point.value for point in periods]), np.array([each for _, each in points])
    known = np.isfinite(value) & np.isfinite(error) & (error > 0)
    if known.sum() < 3:
        return GapDrift(*key, periods, np.nan, np.nan, np.nan, np.nan, False)
    time, weight = np.flatnonzero(known).astype(float), 1 / error[known] ** 2
    mean, centre = np.average(value[known], weights=weight), np.average(time, weights=weight)
    spread = float(np.sum(weight * (time - centre) ** 2))
    slope = float(np.sum(weight * (time - centre) * (value[known] - mean))) / spread
    half = z_of(level) / np.sqrt(spread)
    of_line = 2 * norm.sf(abs(slope) * np.sqrt(spread))
    of_spread = chi2.sf(np.sum(weight * (value[known] - mean) ** 2), known.sum() - 1)
    p = min(1.0, 2 * float(min(of_line, of_spread)))
    return GapDrift(*key, periods, slope, slope - half, slope + half, p, bool(of_line <= of_spread))
