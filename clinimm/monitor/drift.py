"""Whether what the model reads, and who comes, is what the reference held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from clinimm.monitor.finding import BREACH, QUIET, Finding, Scribe
from clinimm.monitor.mmd import discrepancy
from clinimm.monitor.plan import MonitoringPlan
from clinimm.monitor.snapshot import Snapshot
from clinimm.monitor.univariate import FieldTest, compare_fields, enough_draws
from clinimm.report.words import plural

PATTERN, CASE_MIX = "which modalities", "case mix"
_PATTERN_COLUMN = "modalities_present"
_NAMED = 4
_NOTHING = "(none)"


def check_drift(reference: Snapshot, now: Snapshot, plan: MonitoringPlan) -> tuple[list[Finding], list[dict]]:
    """Findings, and every field's test as a plain value.

    The alpha of the plan is shared by the families (a modality, the patterns of missingness, the case
    mix), and inside a family adjusted for all of its fields.
    """
    families = _families(reference, now)
    scribe = Scribe("drift", plan.drift)
    found, rows = [], []
    for place, (name, (before, after)) in enumerate(families.items()):
        if min(len(before), len(after)) < plan.minimum:
            found.append(scribe.too_few(name, len(after), len(before), plan.minimum))
            continue
        rules = plan.drift
        draws = enough_draws(rules.permutations, rules.alpha / len(families))
        tests = compare_fields(before, after, rules.adjust, draws, plan.seed + place)
        finding = _judge(scribe, name, tests, rules.alpha / len(families), plan, len(after), len(before))
        found.append(finding)
        rows += [_row(name, one, rules.alpha / len(families), rules.smallest) for one in tests]
    return found, rows


def check_embeddings(reference: Snapshot, now: Snapshot, plan: MonitoringPlan) -> list[Finding]:
    """Each modality as a whole; the plan's alpha is shared by the modalities (Bonferroni)."""
    pairs = {
        name: (before, after)
        for name in reference.fields
        if (before := _vectors(reference, name)) is not None and (after := _vectors(now, name)) is not None
        if before.shape[1] == after.shape[1]
    }
    scribe, rules = Scribe("embeddings", plan.embeddings), plan.embeddings
    found = []
    for place, (name, (before, after)) in enumerate(pairs.items()):
        if min(len(before), len(after)) < plan.minimum:
            found.append(scribe.too_few(name, len(after), len(before), plan.minimum))
            continue
        draws = enough_draws(rules.permutations, rules.alpha / len(pairs))
        one = discrepancy(before, after, draws, plan.seed + place, rules.most)
        adjusted = min(1.0, one.p_value * len(pairs))
        moved = adjusted <= rules.alpha
        word = "differs from" if moved else "is not told apart from"
        said = f"{name}: taken as a whole, the input {word} the reference (p = {adjusted:.2g}, MMD)."
        found.append(
            scribe.write(
                name,
                BREACH if moved else QUIET,
                said,
                (one.value, np.nan, np.nan),
                p_value=adjusted,
                limit=rules.alpha,
                n=one.n,
                reference_n=one.reference_n,
            )
        )
    return found


def _families(reference: Snapshot, now: Snapshot) -> Mapping[str, tuple[pd.DataFrame, pd.DataFrame]]:
    families = {
        name: (table, now.fields[name])
        for name, table in reference.fields.items()
        if name in now.fields and name != "people"
    }
    known = [name for name in reference.attributes.columns if name in now.attributes.columns]
    mix = [name for name in known if name != _PATTERN_COLUMN]
    sides = [
        pd.concat([one.attributes[mix].fillna("(missing)"), one.fields.get("people", pd.DataFrame())], axis=1)
        for one in (reference, now)
    ]
    if sides[0].shape[1]:
        families[CASE_MIX] = (sides[0], sides[1])
    if _PATTERN_COLUMN in known:
        families[PATTERN] = (_patterns(reference), _patterns(now))
    return families


def _patterns(snapshot: Snapshot) -> pd.DataFrame:
    """Which modalities each predicted subject has: the pattern, and each modality by itself."""
    pattern = snapshot.attributes[_PATTERN_COLUMN].dropna().astype(str)
    names = sorted({name for one in pattern for name in one.split("+")} - {"none"})
    own = {f"has {name}": pattern.map(lambda one, n=name: str(n in one.split("+"))) for name in names}
    return pd.DataFrame({"pattern": pattern, **own})


def _vectors(snapshot: Snapshot, name: str) -> np.ndarray | None:
    if name in snapshot.vectors:
        return snapshot.vectors[name]
    numbers = snapshot.fields.get(name, pd.DataFrame()).select_dtypes("number")
    return numbers.to_numpy(float) if numbers.shape[1] > 1 else None


def _judge(
    scribe: Scribe,
    name: str,
    tests: Sequence[FieldTest],
    alpha: float,
    plan: MonitoringPlan,
    n: int,
    reference_n: int,
) -> Finding:
    if not tests:
        return scribe.write(name, QUIET, f"{name}: no field varies.", n=n, reference_n=reference_n)
    sure = [one for one in tests if one.adjusted <= alpha]
    moved = sorted((one for one in sure if one.distance > plan.drift.smallest), key=lambda one: -one.distance)
    nearest = moved[0] if moved else min(tests, key=lambda one: (one.adjusted, -one.distance))
    if moved:
        listed = ", ".join(f"{one.name} ({one.distance:.2f})" for one in moved[:_NAMED])
        more = f" and {len(moved) - _NAMED} more" if len(moved) > _NAMED else ""
        said = (
            f"{name}: {plural(len(moved), 'field')} of {len(tests)} moved: {listed}{more}; distance 0 to 1."
        )
    elif sure:
        said = f"{name}: {plural(len(sure), 'field')} of {len(tests)} moved, none by more than "
        said += f"{plan.drift.smallest:g}; the most by {max(one.distance for one in sure):.2f}."
    else:
        said = f"{name}: no field of {len(tests)} is told apart from the reference (smallest p = "
        said += f"{nearest.adjusted:.2g}, {nearest.name})."
    return scribe.write(
        name,
        BREACH if moved else QUIET,
        said,
        (nearest.distance, np.nan, np.nan),
        p_value=nearest.adjusted,
        limit=plan.drift.smallest,
        n=n,
        reference_n=reference_n,
    )


def _row(family: str, one: FieldTest, alpha: float, smallest: float) -> dict:
    return {
        "family": family,
        "field": one.name,
        "distance": round(one.distance, 4),
        "p_value": float(f"{one.p_value:.3g}"),
        "adjusted": float(f"{one.adjusted:.3g}"),
        "n": one.n,
        "reference_n": one.reference_n,
        "moved": one.adjusted <= alpha and one.distance > smallest,
    }
