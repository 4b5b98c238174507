"""What the labels say as they come: discrimination, decisions, calibration and gaps, by period."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from clinimm.audit.engine.figures import Figures
from clinimm.audit.engine.intervals import mover_difference
from clinimm.audit.engine.measures import MEASURES, measure
from clinimm.audit.engine.rows import Coded, Rows
from clinimm.evaluate.estimate import rounded
from clinimm.monitor.finding import (
    BREACH,
    CANNOT_TELL,
    QUIET,
    Finding,
    Scribe,
    Triple,
    beyond,
    beyond_either_way,
    shared_level,
)
from clinimm.monitor.plan import MonitoringPlan
from clinimm.monitor.snapshot import labelled, last_final, period_of
from clinimm.report.words import signed

SHOWN = ("auroc", "sensitivity", "specificity", "ppv", "observed_less_predicted", "calibration_slope")
JUDGED = 3


def rows_of(table: pd.DataFrame, attributes: dict[str, np.ndarray], seed: int) -> Rows:
    """Labelled rows as the audit's engine takes them; a subject may have several."""
    coded = {name: _coded(values) for name, values in attributes.items()}
    subject = pd.factorize(table["subject_id"])[0]
    cluster = None if len(set(subject)) == len(subject) else subject.astype(np.int64)
    return Rows(
        table["label"].to_numpy().astype(np.uint8), table["probability"].to_numpy(float), coded, cluster, seed
    )


def check_performance(
    name: str, before: pd.DataFrame, now: pd.DataFrame, threshold: float, plan: MonitoringPlan, looks: int
) -> tuple[list[Finding], list[dict[str, Any]]]:
    """Findings on one class, and its figures by period for the board.

    Args:
        name: of the class.
        before, now: its rows.
        threshold: from which a row is flagged.
        plan: limits.
        looks: findings that share the part's alpha.
    """
    scribe = Scribe("performance", plan.performance)
    old, new = before[before["label"].notna()], labelled(now, plan)
    series = by_period(name, old, new, threshold, plan)
    if min(rarer(old), rarer(new)) < 2 or min(len(old), len(new)) < plan.minimum:
        said = (
            f"{name}: too few labels to tell: {len(new)} are final ({int(new['label'].sum())} positive) of "
            f"{len(now)} predictions, and the plan asks for {plan.minimum} and both outcomes"
            f"{_late(now, plan)}."
        )
        finding = scribe.write(f"{name}: labels", CANNOT_TELL, said, n=len(new), reference_n=len(old))
        return [finding], series
    figures = [_of_all(rows_of(part, {}, plan.seed), threshold, SHOWN) for part in (old, new)]
    level = shared_level(plan.performance.alpha, looks)
    limits = {"auroc": plan.performance.auroc_loss, "sensitivity": plan.performance.sensitivity_loss}
    found = [
        _loss(
            scribe,
            name,
            measured,
            figures[0][measured],
            figures[1][measured],
            level,
            limit,
            (len(new), len(old)),
        )
        for measured, limit in limits.items()
    ]
    gap = figures[1]["observed_less_predicted"].triple(1 - (1 - level) / 2)
    return [*found, _calibration(scribe, name, first(gap), plan, (len(new), len(old)))], series


def by_period(
    name: str, before: pd.DataFrame, now: pd.DataFrame, threshold: float, plan: MonitoringPlan
) -> list[dict[str, Any]]:
    """Every shown measure of the reference and of each period."""
    parts = [("reference", before)]
    parts += [
        (str(period), rows) for period, rows in now.groupby(period_of(now["index_time"], plan), sort=True)
    ]
    return [
        {
            "class_name": name,
            "period": period,
            "n": len(rows),
            "positives": int(rows["label"].sum()),
            **values,
        }
        for period, rows in parts
        if len(rows)
        for values in [_values(rows_of(rows, {}, plan.seed), threshold, plan)]
    ]


def _late(now: pd.DataFrame, plan: MonitoringPlan) -> str:
    """How many are old enough for a label and have none."""
    times = now["index_time"]
    if times.isna().all():
        return ""
    due = now[times <= last_final(now, plan)]
    late = f"; {int(due['label'].isna().sum())} of {len(due)} that are old enough have no label"
    if plan.drawn is not None or not plan.label_delay_days:
        return late
    newest = times.max().date().isoformat()
    return f"{late}. Their age is counted to the newest prediction, {newest}: if later, say --drawn DATE"


def _loss(
    scribe: Scribe,
    name: str,
    measured: str,
    old: Figures,
    new: Figures,
    level: float,
    limit: float,
    sizes: tuple[int, int],
) -> Finding:
    before, after = first(old.triple(level)), first(new.triple(level))
    loss = difference(before, after)
    verdict = beyond(loss, limit)
    title = MEASURES[measured].title
    word = {
        BREACH: "fell by more than",
        QUIET: "did not fall by more than",
        CANNOT_TELL: "may have fallen by",
    }
    said = (
        f"{name}: {title} {after[0]:.3f}, in the reference {before[0]:.3f}; it {word[verdict]} {limit:g} "
        f"(loss {signed(loss[1], 3)} to {signed(loss[2], 3)})."
    )
    return scribe.write(
        f"{name}: {title}", verdict, said, loss, limit=limit, n=sizes[0], reference_n=sizes[1]
    )


def _calibration(
    scribe: Scribe, name: str, gap: Triple, plan: MonitoringPlan, sizes: tuple[int, int]
) -> Finding:
    limit, (value, low, high) = plan.performance.calibration_gap, gap
    verdict = beyond_either_way(gap, limit)
    word = "more often than" if value > 0 else "less often than"
    ends = f"{signed(low, 3)} to {signed(high, 3)}"
    said = (
        f"{name}: the outcome comes {word} predicted, by {abs(value):.3f} ({ends}); the limit is {limit:g} "
    )
    said += "either way."
    return scribe.write(
        f"{name}: calibration", verdict, said, gap, limit=limit, n=sizes[0], reference_n=sizes[1]
    )


def _values(rows: Rows, threshold: float, plan: MonitoringPlan) -> dict[str, Any]:
    keys = ("value", "low", "high")
    return {
        name: dict(zip(keys, map(rounded, first(figures.triple(plan.level))), strict=True))
        for name, figures in _of_all(rows, threshold, SHOWN).items()
    }


def _of_all(rows: Rows, threshold: float, names: Sequence[str]) -> dict[str, Figures]:
    return measure(rows.segments(rows.everybody()), threshold, names)


def difference(one: Triple, two: Triple) -> Triple:
    """``one`` less ``two``, with MOVER's interval."""
    (a, b, c), (d, e, f) = (tuple(np.asarray(end) for end in side) for side in (one, two))
    low, high = mover_difference((a, b, c), (d, e, f))
    return one[0] - two[0], float(low), float(high)


def first(triple: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Triple:
    """The figures of the only group."""
    value, low, high = (float(one[0]) for one in triple)
    return value, low, high


def rarer(table: pd.DataFrame) -> int:
    """Rows of the rarer label."""
    positives = int(table["label"].sum())
    return min(positives, len(table) - positives)


def _coded(values: np.ndarray) -> Coded:
    codes, levels = pd.factorize(values, sort=True)
    return Coded(codes.astype(np.int16), tuple(str(level) for level in levels))
