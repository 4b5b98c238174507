"""Whether patients come as they should: dates that cannot be, months without anybody, parts that are gone."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace
from datetime import date

import pandas as pd

from clinimm.monitor.finding import BREACH, QUIET, Finding, Scribe
from clinimm.monitor.plan import MonitoringPlan
from clinimm.monitor.snapshot import PERIOD_CODES, Snapshot, period_name
from clinimm.report.words import plural

#: Fewer expected in a period can stay away by chance; of twenty, one time in five hundred million.
_EXPECTED = 20
_NAMED = 6


def without_future(now: Snapshot, day: date | None) -> tuple[Snapshot, int]:
    """The snapshot without rows dated after the day of the look, and how many those were.

    One such row would make every label count as final, because a label's age is counted from the newest.
    """
    if day is None:
        return now, 0
    late = now.rows["index_time"] >= pd.Timestamp(day, tz="UTC") + pd.Timedelta(days=1)
    return (now, 0) if not late.any() else (replace(now, rows=now.rows[~late]), int(late.sum()))


def check_arrival(reference: Snapshot, now: Snapshot, plan: MonitoringPlan, future: int) -> list[Finding]:
    """Findings that state facts; none of them is a test.

    Args:
        reference: how it was.
        now: how it is, without rows of the future.
        plan: limits.
        future: rows that were left out for their date.
    """
    scribe = Scribe("quality", plan.quality)
    return [_dates(scribe, now, plan, future), _parts(scribe, reference, now)]


def _dates(scribe: Scribe, now: Snapshot, plan: MonitoringPlan, future: int) -> Finding:
    rows = now.rows["index_time"]
    undated = int(rows.isna().sum()) if rows.notna().any() else 0
    empty = empty_periods(rows, plan)
    said = []
    if future:
        said.append(f"{plural(future, 'prediction')} dated in the future left out of everything below.")
    if undated:
        said.append(f"{plural(undated, 'prediction')} without an index time: no label of theirs is final.")
    if empty:
        many = f" and {len(empty) - _NAMED} more" if len(empty) > _NAMED else ""
        said.append(f"Nobody came in {', '.join(empty[:_NAMED])}{many}, though more than {_EXPECTED} should.")
    verdict = BREACH if said else QUIET
    text = " ".join(said) or "No date lies in the future, and no period is empty."
    return scribe.write("dates", verdict, text, n=len(rows))


def empty_periods(times: pd.Series, plan: MonitoringPlan) -> list[str]:
    """Periods between the first and the last in which nobody came, where many should have."""
    known = times.dropna()
    if known.empty:
        return []
    periods = known.dt.tz_localize(None).dt.to_period(PERIOD_CODES[plan.period])
    every = pd.period_range(periods.min(), periods.max())
    if len(known) / len(every) <= _EXPECTED:
        return []
    return [period_name(one) for one in every.difference(pd.PeriodIndex(periods.unique()))]


def _parts(scribe: Scribe, reference: Snapshot, now: Snapshot) -> Finding:
    gone = [
        *_gone("modality", sorted(reference.fields), now.fields),
        *_gone("class", reference.classes, now.classes),
        *_gone("attribute", list(map(str, reference.attributes.columns)), now.attributes.columns),
    ]
    n = now.rows["subject_id"].nunique()
    if gone:
        return scribe.write("parts", BREACH, f"No longer there at all: {', '.join(gone)}.", n=n)
    said = "Every modality, class and attribute of the reference is there."
    return scribe.write("parts", QUIET, said, n=n)


def _gone(kind: str, before: Sequence[str], now: Container[str]) -> list[str]:
    return [f"{kind} {name}" for name in before if name not in now]
