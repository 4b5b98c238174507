"""What the model says now, before any label: its distribution, the share flagged, the prevalence implied."""

from __future__ import annotations

import numpy as np
import pandas as pd

from clinimm.monitor.finding import BREACH, CANNOT_TELL, QUIET, Finding, Scribe, Verdict
from clinimm.monitor.label_shift import ASSUMPTION, estimate_shift
from clinimm.monitor.plan import MonitoringPlan
from clinimm.monitor.univariate import compare_fields, enough_draws
from clinimm.report.words import percent


def check_predictions(
    name: str, before: pd.DataFrame, now: pd.DataFrame, threshold: float, plan: MonitoringPlan, looks: int
) -> list[Finding]:
    """Findings on one class.

    Args:
        name: of the class.
        before, now: its rows, one a subject and index time.
        threshold: from which a row is flagged.
        plan: limits.
        looks: findings that share the part's alpha.
    """
    scribe = Scribe("predictions", plan.predictions)
    one, two = before.drop_duplicates("subject_id"), now.drop_duplicates("subject_id")
    if min(len(one), len(two)) < plan.minimum:
        return [scribe.too_few(f"{name}: predictions", len(two), len(one), plan.minimum)]
    alpha = plan.predictions.alpha / looks
    return [
        _moved(scribe, name, one, two, threshold, plan, alpha),
        _prevalence(
            Scribe("predictions", plan.predictions, estimate=True), name, one, two, threshold, plan, alpha
        ),
    ]


def _moved(
    scribe: Scribe,
    name: str,
    before: pd.DataFrame,
    now: pd.DataFrame,
    threshold: float,
    plan: MonitoringPlan,
    alpha: float,
) -> Finding:
    """The test of Lipton et al.: have the model's outputs moved? Probability and flag, adjusted together."""
    sides = [
        pd.DataFrame(
            {
                "predicted risk": rows["probability"].to_numpy(),
                "flagged": (rows["probability"] >= threshold).astype(str).to_numpy(),
            }
        )
        for rows in (before, now)
    ]
    draws = enough_draws(plan.drift.permutations, alpha)
    tests = compare_fields(sides[0], sides[1], "max_t", draws, plan.seed)
    about = f"{name}: predictions"
    if not tests:
        return scribe.write(
            about, QUIET, f"{name}: all predictions are equal.", n=len(now), reference_n=len(before)
        )
    first = min(tests, key=lambda one: (one.adjusted, -one.distance))
    over = [one for one in tests if one.adjusted <= alpha and one.distance > plan.predictions.smallest]
    shares = [float((rows["probability"] >= threshold).mean()) for rows in (before, now)]
    said = (
        f"{name}: {'the predictions moved' if over else 'the predictions are not surely elsewhere'} "
        f"(distance {first.distance:.2f}, p = {first.adjusted:.2g}); flagged are {percent(shares[1])}, in "
        f"the reference {percent(shares[0])}."
    )
    return scribe.write(
        about,
        BREACH if over else QUIET,
        said,
        (first.distance, np.nan, np.nan),
        p_value=first.adjusted,
        limit=plan.predictions.smallest,
        n=len(now),
        reference_n=len(before),
    )


def _prevalence(
    scribe: Scribe,
    name: str,
    before: pd.DataFrame,
    now: pd.DataFrame,
    threshold: float,
    plan: MonitoringPlan,
    alpha: float,
) -> Finding:
    about = f"{name}: prevalence (estimate)"
    known = before[before["label"].notna()]
    if len(known) < plan.minimum:
        return scribe.too_few(about, len(now), len(known), plan.minimum)
    flags = (known["probability"] >= threshold).to_numpy(), (now["probability"] >= threshold).to_numpy()
    shift = estimate_shift(known["label"].to_numpy() == 1, *flags, 1 - alpha, plan.seed)
    if shift is None:
        said = f"{name}: an estimate of the prevalence is not possible: decisions hardly depend on the label."
        return scribe.write(about, CANNOT_TELL, said, n=len(now), reference_n=len(known))
    limit = plan.predictions.prevalence_change
    away = (
        min(abs(shift.change_low), abs(shift.change_high))
        if shift.change_low * shift.change_high > 0
        else 0.0
    )
    inside = max(abs(shift.change_low), abs(shift.change_high)) <= limit
    verdict: Verdict = BREACH if away > limit else QUIET if inside else CANNOT_TELL
    said = (
        f"{name}: estimated prevalence {percent(shift.prevalence)} ({percent(shift.low)} to "
        f"{percent(shift.high)}), in the reference {percent(shift.reference)}. An estimate without "
        f"labels, if {ASSUMPTION}."
    )
    figure = (shift.change, shift.change_low, shift.change_high)
    return scribe.write(about, verdict, said, figure, limit=limit, n=len(now), reference_n=len(known))
