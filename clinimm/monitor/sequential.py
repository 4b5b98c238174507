"""Patient by patient, in order of index time: bets on misses and false alarms, and CUSUM charts.

A subject counts once, with the first row that the question is about: the rows of one subject go together,
so a second miss of the same person is not the evidence that a bet would take it for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from clinimm.audit.engine.intervals import clopper_pearson
from clinimm.monitor.betting import Bet, bet
from clinimm.monitor.cusum import Chart, chart, simulated_limit
from clinimm.monitor.expected import Recalibration
from clinimm.monitor.finding import BREACH, QUIET, Finding, Scribe
from clinimm.monitor.plan import MonitoringPlan
from clinimm.monitor.snapshot import labelled, last_final
from clinimm.report.words import percent

_POINTS = 240
_FEWEST = 10


def check_sequence(
    name: str, before: pd.DataFrame, now: pd.DataFrame, threshold: float, plan: MonitoringPlan, classes: int
) -> tuple[list[Finding], list[dict[str, Any]]]:
    """Findings on one class, and the paths for the board."""
    old, new = before[before["label"].notna()], labelled(now, plan)
    if len(old) < plan.minimum or not 0 < old["label"].sum() < len(old):
        said = f"{name}: patient by patient"
        return [Scribe("betting", plan.betting).too_few(said, len(new), len(old), plan.minimum)], []
    late = _without_label(now, plan)
    bets = [
        (replace(finding, sentence=finding.sentence + late), path)
        for finding, path in _bets(name, old, new, threshold, plan, plan.betting.alpha / (2 * classes))
    ]
    charts = _charts(name, old, new, plan)
    return [one for one, _ in (*bets, *charts)], [path for _, path in (*bets, *charts) if path]


def _without_label(now: pd.DataFrame, plan: MonitoringPlan) -> str:
    """What a bet assumes of those whose label is late: that it is no other than the labels that came."""
    times = now["index_time"]
    due = now if times.isna().all() else now[times <= last_final(now, plan)]
    missing = int(due["label"].isna().sum())
    if not missing:
        return ""
    return (
        f" {missing:,} of {len(due):,} that are old enough have no label; if labels of one kind come sooner, "
        "the bound on false alarms does not hold."
    )


def _bets(
    name: str, old: pd.DataFrame, new: pd.DataFrame, threshold: float, plan: MonitoringPlan, alpha: float
) -> list[tuple[Finding, dict[str, Any]]]:
    rules, scribe = plan.betting, Scribe("betting", plan.betting)
    jobs = []
    for word, growth, column, keeps in (
        (
            "missed among those with the outcome",
            rules.missed_growth,
            "missed",
            lambda rows: rows["label"] == 1,
        ),
        (
            "false alarms among the flagged",
            rules.false_alarm_growth,
            "false_alarm",
            lambda rows: rows["probability"] >= threshold,
        ),
    ):
        sides = [rows[keeps(rows)].drop_duplicates("subject_id") for rows in (old, new)]
        events = [
            (rows["probability"] < threshold if column == "missed" else rows["label"] == 0).to_numpy(float)
            for rows in sides
        ]
        jobs.append((word, growth, events, sides[1]["index_time"]))
    found: list[tuple[Finding, dict[str, Any]]] = []
    for word, growth, (then, events), times in jobs:
        about = f"{name}: {word}"
        bound = _bound(then, growth, alpha / 2)
        if min(len(then), len(events)) < _FEWEST or bound >= 1:
            found.append((scribe.too_few(about, len(events), len(then), _FEWEST), {}))
            continue
        one = bet(events, bound, alpha / 2)
        finding = _told(scribe, about, one, events, bound, times, len(then), rules.alpha)
        found.append((finding, _path(about, "e-value", one.wealth, one.needed, one.alarm, times)))
    return found


def _bound(then: np.ndarray, growth: float, alpha: float) -> float:
    """The reference's share and the margin, or as high as the reference's own share may be.

    A small reference does not know its share: without the second, an unlucky one would alarm for ever.
    Half of the alpha is spent on that, half on the bet.
    """
    if not len(then):
        return 1.0
    _, upper = clopper_pearson(np.asarray(then.sum()), np.asarray(len(then)), 1 - 2 * alpha)
    return max(float(then.mean()) + growth, float(upper))


def _told(
    scribe: Scribe,
    about: str,
    one: Bet,
    events: np.ndarray,
    bound: float,
    times: pd.Series,
    reference_n: int,
    alpha: float,
) -> Finding:
    share = float(events.mean())
    said = f"{about}: {percent(share)} of {len(events)}; the bound is {percent(bound)}. "
    if one.alarm is None:
        said += f"The e-value never reached {one.needed:.3g} (highest {one.highest:.3g})."
    else:
        said += f"The e-value reached {one.needed:.3g} at number {one.alarm + 1}{_day(times, one.alarm)}."
    return scribe.write(
        about,
        QUIET if one.alarm is None else BREACH,
        said,
        (share, np.nan, np.nan),
        limit=bound,
        # Adjusted for the bets beside it: at most the plan's alpha exactly where the bet alarms.
        p_value=min(1.0, one.p_value * one.needed * alpha),
        n=len(events),
        reference_n=reference_n,
    )


def _charts(
    name: str, old: pd.DataFrame, new: pd.DataFrame, plan: MonitoringPlan
) -> list[tuple[Finding, dict[str, Any]]]:
    rules, scribe = plan.cusum, Scribe("cusum", plan.cusum)
    old, new = old.drop_duplicates("subject_id"), new.drop_duplicates("subject_id")
    if len(new) < _FEWEST or not 0 < old["label"].sum() < len(old):
        return [(scribe.too_few(f"{name}: outcomes against predicted", len(new), len(old), _FEWEST), {})]
    calibration = Recalibration.fit(old["label"].to_numpy(float), old["probability"].to_numpy(float))
    expected = calibration.of(old["probability"].to_numpy(float))
    risk, outcome = calibration.of(new["probability"].to_numpy(float)), new["label"].to_numpy(float)
    found: list[tuple[Finding, dict[str, Any]]] = []
    for word, odds_ratio in (("more", rules.odds_ratio), ("fewer", 1 / rules.odds_ratio)):
        limit = simulated_limit(expected, odds_ratio, rules.run_length, rules.streams, plan.seed)
        one = chart(outcome, risk, odds_ratio, limit)
        about = f"{name}: {word} outcomes than predicted"
        finding = _charted(scribe, about, one, rules.run_length, new["index_time"], len(new), len(old))
        found.append((finding, _path(about, "CUSUM", one.path, limit, one.alarm, new["index_time"])))
    return found


def _charted(
    scribe: Scribe, about: str, one: Chart, run_length: int, times: pd.Series, n: int, reference_n: int
) -> Finding:
    highest = float(one.path.max())
    said = f"{about} (CUSUM): "
    if one.alarm is None:
        said += f"highest {highest:.2f}, limit {one.limit:.2f}."
    else:
        said += f"over the limit of {one.limit:.2f} at patient {one.alarm + 1}{_day(times, one.alarm)}."
    said += f" Without a change it alarms once in about {run_length:,} patients, were the calibration "
    said += f"known; it was estimated from {reference_n:,}, and the fewer, the more often it alarms."
    return scribe.write(
        about,
        QUIET if one.alarm is None else BREACH,
        said,
        (highest, np.nan, np.nan),
        limit=one.limit,
        n=n,
        reference_n=reference_n,
    )


def _day(times: pd.Series, place: int) -> str:
    at = times.iloc[place]
    return "" if pd.isna(at) else f" ({at.date().isoformat()})"


def _path(
    about: str, kind: str, values: np.ndarray, limit: float, alarm: int | None, times: pd.Series
) -> dict[str, Any]:
    """At most so many points as a figure can show, always with the highest."""
    step = max(1, -(-len(values) // _POINTS))
    kept = [float(values[start : start + step].max()) for start in range(0, len(values), step)]
    return {
        "about": about,
        "kind": kind,
        "values": [round(one, 4) for one in kept],
        "limit": round(limit, 4),
        "alarm": None if alarm is None else alarm // step,
        "n": len(values),
        "from": _iso(times.min()),
        "to": _iso(times.max()),
    }


def _iso(time: pd.Timestamp) -> str | None:
    return None if pd.isna(time) else time.date().isoformat()
