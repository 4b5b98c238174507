"""What arrives: the model itself, refusals, flags, fields that went missing, units that changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from clinimm.monitor.finding import BREACH, QUIET, Finding, Scribe, Triple, beyond, share_growth, shared_level
from clinimm.monitor.plan import MonitoringPlan
from clinimm.monitor.snapshot import Intake, Snapshot
from clinimm.report.words import percent, plural

_FEWEST_VALUES = 20
_NAMED = 5


def check_quality(
    reference: Snapshot, now: Snapshot, plan: MonitoringPlan, deployed: str | None
) -> list[Finding]:
    """Findings on what arrives.

    Args:
        reference: how it was.
        now: how it is.
        plan: limits.
        deployed: digest of the model that should be in use; None where nobody says.
    """
    scribe = Scribe("quality", plan.quality)
    modalities = [name for name in reference.fields if name in now.fields]
    shares = 2 + len(modalities)  # refused, flagged, and the worst field of each modality
    level = shared_level(plan.quality.alpha, shares)
    found = [_model(scribe, now, deployed)]
    if reference.intake is not None and now.intake is not None:
        found += _intake(scribe, reference.intake, now.intake, plan, level)
    for name in modalities:
        found.append(_missing(scribe, name, reference.fields[name], now.fields[name], plan, level))
    return found


def _model(scribe: Scribe, now: Snapshot, deployed: str | None) -> Finding:
    others = [digest for digest in now.models if digest != deployed]
    n = now.rows["subject_id"].nunique()
    if deployed is not None and others:
        names = ", ".join(digest[:16] for digest in others)
        said = f"Predictions come from model {names}, and {deployed[:16]} should be in use."
        return scribe.write("model", BREACH, said, n=n)
    if len(now.models) > 1:
        said = f"Predictions come from {len(now.models)} models; figures below mix them."
        return scribe.write("model", BREACH, said, n=n)
    named = f"model {now.models[0][:16]}" if now.models else "a model without a digest"
    return scribe.write("model", QUIET, f"All predictions come from {named}.", n=n)


def _intake(scribe: Scribe, before: Intake, now: Intake, plan: MonitoringPlan, level: float) -> list[Finding]:
    """Files and events of one subject may all go together, so a share is as sure as its subjects make it."""
    rules = plan.quality
    refused = share_growth(
        _as_subjects(now.refused, now.files, now.independent),
        _as_subjects(before.refused, before.files, before.independent),
        level,
    )
    said = f"Refused files: {_grew(now.refused, now.files, before.refused, before.files)}"
    if grown := _reasons(before, now):
        said += f" More than before for: {grown}."
    found = [_share(scribe, "refused files", refused, rules.refused_growth, said, now.files, before.files)]
    flagged, flags = _flagged(now), _flagged(before)
    growth = share_growth(
        _as_subjects(*flagged, now.independent), _as_subjects(*flags, before.independent), level
    )
    said = f"Flagged events: {_grew(*flagged, *flags)}"
    found.append(_share(scribe, "flagged events", growth, rules.flagged_growth, said, flagged[1], flags[1]))
    return [*found, *_units(scribe, before.units, now.units, plan), _codes(scribe, before, now)]


def _flagged(intake: Intake) -> tuple[int, int]:
    events = sum(intake.events.values())
    return min(sum(intake.flags.values()), events), events


def _as_subjects(count: int, n: int, independent: float) -> tuple[float, float]:
    """The same share of so many as are independent."""
    few = min(1.0, independent / n) if n else 1.0
    return count * few, n * few


def _share(
    scribe: Scribe, about: str, growth: Triple, limit: float, said: str, n: int, reference_n: int
) -> Finding:
    return scribe.write(about, beyond(growth, limit), said, growth, limit=limit, n=n, reference_n=reference_n)


def _grew(count: int, n: int, before: int, reference_n: int) -> str:
    return (
        f"{percent(count / n if n else None, 1)} ({count:,} of {n:,}), in the reference "
        f"{percent(before / reference_n if reference_n else None, 1)} ({before:,} of {reference_n:,})."
    )


def _reasons(before: Intake, now: Intake) -> str:
    growth = {
        code: count / max(now.files, 1) - before.refusals.get(code, 0) / max(before.files, 1)
        for code, count in now.refusals.items()
    }
    return ", ".join(
        sorted((code for code in growth if growth[code] > 0), key=lambda code: -growth[code])[:_NAMED]
    )


def _units(scribe: Scribe, before: pd.DataFrame, now: pd.DataFrame, plan: MonitoringPlan) -> list[Finding]:
    """Codes that came in units that the reference never had, or on another scale in the same unit."""
    rules, problems = plan.quality, []
    known = {str(code): rows.set_index("unit") for code, rows in before.groupby("code", sort=True)}
    codes = [code for code in sorted(map(str, now["code"].unique())) if code in known]
    for code in codes:
        rows, old = now[now["code"] == code].set_index("unit"), known[code]
        if rows["count"].sum() < _FEWEST_VALUES or old["count"].sum() < _FEWEST_VALUES:
            continue
        strange = rows.index.difference(old.index)
        share = float(rows.loc[strange, "count"].sum() / rows["count"].sum())
        if share > rules.unit_share:
            said = f"{code}: {percent(share)} of the values come in {', '.join(map(str, strange))}; the "
            said += f"reference had {', '.join(map(str, old.index))}."
            figure = (share, np.nan, np.nan)
            problems.append(
                scribe.write(
                    f"unit of {code}",
                    BREACH,
                    said,
                    figure,
                    limit=rules.unit_share,
                    n=int(rows["count"].sum()),
                )
            )
        problems += _scales(scribe, code, rows, old, rules.scale_factor)
    if problems or not codes:
        return problems
    said = f"The units of {plural(len(codes), 'code')} are those of the reference, and so are their scales."
    return [
        scribe.write("units", QUIET, said, n=int(now["count"].sum()), reference_n=int(before["count"].sum()))
    ]


def _scales(scribe: Scribe, code: str, rows: pd.DataFrame, old: pd.DataFrame, factor: float) -> list[Finding]:
    found = []
    for unit in rows.index.intersection(old.index):
        few = min(rows.loc[unit, "count"], old.loc[unit, "count"]) < _FEWEST_VALUES
        before, after = float(old.loc[unit, "median"]), float(rows.loc[unit, "median"])
        if few or before <= 0 or after <= 0:
            continue
        ratio = after / before
        middle, other = rows.loc[unit], old.loc[unit]
        apart = middle["low"] > other["high"] or middle["high"] < other["low"]
        if apart and max(ratio, 1 / ratio) > factor:
            said = (
                f"{code}: the median is {after:.4g} {unit}, in the reference {before:.4g}, {ratio:.3g} times "
                "as much. Is it another unit under the same name?"
            )
            figure = (ratio, np.nan, np.nan)
            found.append(
                scribe.write(
                    f"scale of {code}", BREACH, said, figure, limit=factor, n=int(rows.loc[unit, "count"])
                )
            )
    return found


def _codes(scribe: Scribe, before: Intake, now: Intake) -> Finding:
    counts = before.units.groupby("code")["count"].sum()
    expected = counts * now.files / max(before.files, 1)
    gone = sorted(set(expected.index[expected >= _FEWEST_VALUES]) - set(now.units["code"]))
    n = int(now.units["code"].nunique())
    if not gone:
        said = f"Every code that the reference had often is still there ({plural(n, 'code')})."
        return scribe.write("codes", QUIET, said, n=n, reference_n=len(counts))
    said = f"{plural(len(gone), 'code')} with numbers no longer come: {_listed(gone)}."
    return scribe.write("codes", BREACH, said, n=n, reference_n=len(counts))


def _missing(
    scribe: Scribe,
    modality: str,
    before: pd.DataFrame,
    now: pd.DataFrame,
    plan: MonitoringPlan,
    level: float,
) -> Finding:
    """The field that went missing most surely; Bonferroni over the modality's fields."""
    about = f"{modality}: missing fields"
    if min(len(before), len(now)) < plan.minimum:
        return scribe.too_few(about, len(now), len(before), plan.minimum)
    names = list(before.columns)
    each = 1 - (1 - level) / max(len(names), 1)
    growth = {
        name: share_growth(
            (int(now[name].isna().sum()) if name in now else len(now), len(now)),
            (int(before[name].isna().sum()), len(before)),
            each,
        )
        for name in names
    }
    worst = max(names, key=lambda name: growth[name][1])
    limit = plan.quality.missing_growth
    over = [name for name in names if beyond(growth[name], limit) == BREACH]
    value = growth[worst][0]
    if over:
        said = (
            f"{modality}: {plural(len(over), 'field')} went missing: {_listed(over)}; most surely {worst}, "
        )
        said += f"by {percent(value)} of the subjects."
    else:
        said = f"{modality}: no field is surely missing by {percent(limit)} more; the nearest is {worst}, "
        said += f"{100 * value:+.0f} points."
    verdict = BREACH if over else QUIET
    return scribe.write(about, verdict, said, growth[worst], limit=limit, n=len(now), reference_n=len(before))


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(map(str, names[:_NAMED])) + (f" and {more} more" if more > 0 else "")
