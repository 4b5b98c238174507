"""Findings from estimated performance: every one says that it is an estimate and what it rests on."""

from __future__ import annotations

from typing import Any

import pandas as pd

from clinimm.audit.engine.measures import MEASURES, measure
from clinimm.evaluate.estimate import rounded
from clinimm.monitor.expected import ASSUMPTION, Calibrations, Expected, expected_performance
from clinimm.monitor.finding import BREACH, CANNOT_TELL, QUIET, Finding, Scribe, Triple, beyond, shared_level
from clinimm.monitor.performance import difference, rows_of
from clinimm.monitor.plan import MonitoringPlan
from clinimm.monitor.snapshot import labelled, period_of


def check_estimate(
    name: str, before: pd.DataFrame, now: pd.DataFrame, threshold: float, plan: MonitoringPlan, looks: int
) -> tuple[list[Finding], list[dict[str, Any]]]:
    """Findings on one class, and the estimates by period for the board.

    A fall is measured from the reference's own estimate, so what the calibration cannot mend, and the same
    score brings along then and now, is no fall.
    """
    scribe = Scribe("estimate", plan.estimate, estimate=True)
    old = before[before["label"].notna()]
    positives = int(old["label"].sum())
    about = f"{name}: estimated performance"
    if min(len(old), len(now)) < plan.minimum or min(positives, len(old) - positives) < 2:
        return [scribe.too_few(about, len(now), len(old), plan.minimum)], []
    label, probability = old["label"].to_numpy(float), old["probability"].to_numpy(float)
    calibrations = Calibrations.fit(label, probability, plan.estimate.draws, plan.seed)
    level = shared_level(plan.estimate.alpha, looks)
    # Of the reference too: two numbers may not mend its calibration, and what they leave is no loss.
    then, expected = (
        expected_performance(calibrations, score, threshold, level, plan.seed)
        for score in (probability, now["probability"].to_numpy(float))
    )
    rows = rows_of(old, {}, plan.seed)
    figures = measure(rows.segments(rows.everybody()), threshold, ("auroc", "sensitivity"))
    limits = {"auroc": plan.performance.auroc_loss, "sensitivity": plan.performance.sensitivity_loss}
    found = []
    for measured, limit in limits.items():
        if measured in expected and measured in then:
            after = expected[measured]
            loss = difference(_triple(then[measured]), _triple(after))
            said = (
                _sentence(name, measured, after, loss, limit)
                + _on_reference(then[measured], float(figures[measured].value[0]))
                + _checked(measured, now, after, threshold, plan)
            )
            finding = scribe.write(
                f"{name}: {MEASURES[measured].title} (estimate)",
                beyond(loss, limit),
                said,
                loss,
                limit=limit,
                n=len(now),
                reference_n=len(old),
            )
            found.append(finding)
    return found, _series(name, now, calibrations, threshold, plan)


def _sentence(name: str, measured: str, expected: Expected, loss: Triple, limit: float) -> str:
    word = {
        BREACH: f"would mean a fall by more than {limit:g}",
        QUIET: f"means no fall by more than {limit:g}",
        CANNOT_TELL: f"leaves open whether it fell by {limit:g}",
    }[beyond(loss, limit)]
    return (
        f"{name}: estimated {MEASURES[measured].title} {expected.value:.3f} ({expected.low:.3f} to "
        f"{expected.high:.3f}), which {word}. An estimate without labels; it assumes that {ASSUMPTION}."
    )


def _triple(one: Expected) -> Triple:
    return one.value, one.low, one.high


def _on_reference(then: Expected, labels: float) -> str:
    """What it says of the reference, against whose estimate a fall is measured."""
    return f" Of the reference it says {then.value:.3f}, and the labels {labels:.3f}."


def _checked(
    measured: str, now: pd.DataFrame, expected: Expected, threshold: float, plan: MonitoringPlan
) -> str:
    """How the estimate fares against the labels that came."""
    final = labelled(now, plan)
    positives = int(final["label"].sum())
    if len(final) < plan.minimum or min(positives, len(final) - positives) < 2:
        return ""
    rows = rows_of(final, {}, plan.seed)
    value = float(measure(rows.segments(rows.everybody()), threshold, [measured])[measured].value[0])
    inside = "inside" if expected.low <= value <= expected.high else "outside"
    return f" The {len(final)} labels that came say {value:.3f}, {inside} the estimate's interval."


def _series(
    name: str, now: pd.DataFrame, calibrations: Calibrations, threshold: float, plan: MonitoringPlan
) -> list[dict[str, Any]]:
    found = []
    for period, rows in now.groupby(period_of(now["index_time"], plan), sort=True):
        if len(rows) < plan.minimum:
            continue
        score = rows["probability"].to_numpy(float)
        values = expected_performance(calibrations, score, threshold, plan.level, plan.seed)
        figures = {
            one.measure: {"value": rounded(one.value), "low": rounded(one.low), "high": rounded(one.high)}
            for one in values.values()
        }
        found.append({"class_name": name, "period": str(period), "n": len(rows), **figures})
    return found
