"""The board: one HTML file without script, the same bytes for the same look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from clinimm.audit.engine.measures import MEASURES
from clinimm.monitor.charts import over_time, path, periods_of
from clinimm.monitor.finding import BREACH, CANNOT_TELL
from clinimm.monitor.run import EXIT_BREACH, EXIT_CANNOT_TELL
from clinimm.monitor.snapshot import PERIOD_CODES, period_name
from clinimm.report.page import asset, render

#: What the board draws over time.
_DRAWN = ("auroc", "sensitivity", "specificity", "ppv", "observed_less_predicted")
_MOST_FIELDS = 25
_MOST_GAPS = 6
PARTS = {
    "quality": "What arrives",
    "drift": "Fields, presence, case mix",
    "embeddings": "A modality as a whole",
    "predictions": "Predictions",
    "performance": "Performance",
    "estimate": "Performance (estimate)",
    "gaps": "Gaps between groups",
    "betting": "Patient by patient (e-value)",
    "cusum": "Patient by patient (CUSUM)",
    "objections": "Clinicians’ objections",
}
#: What a breach asks of people, in the order of urgency.
ASKED = {
    "roll_back": "Decide about a rollback",
    "recheck": "Look for the cause",
}
ACTS = {"observe": "observe", "recheck": "recheck", "roll_back": "propose a rollback"}


def board(content: Mapping[str, Any]) -> str:
    """The page for the content of ``monitor.json``."""
    classes = list(
        dict.fromkeys(row["class_name"] for row in (*content["performance"], *content["estimates"]))
    )
    return render(
        "board.html",
        more_style=asset("board.css"),
        board=content,
        tone={EXIT_BREACH: "fail", EXIT_CANNOT_TELL: "unsure"}.get(content["exit_status"], "pass"),
        title={EXIT_BREACH: "Breach", EXIT_CANNOT_TELL: "Cannot tell"}.get(content["exit_status"], "Quiet"),
        findings=sorted(content["findings"], key=_rank),
        parts=PARTS,
        alarming=sorted(
            (one for one in content["findings"] if one["alarms"]),
            key=lambda one: list(ASKED).index(one["act"]),
        ),
        asked=_asked(content["findings"]),
        acts=ACTS,
        measures=MEASURES,
        charts=[(name, _charts(name, content)) for name in classes],
        paths=[(one, _path(one)) for one in content["paths"]],
        gap_charts=_gap_charts(content),
        fields=sorted(content["fields"], key=lambda row: (not row["moved"], -row["distance"]))[:_MOST_FIELDS],
        more_fields=max(0, len(content["fields"]) - _MOST_FIELDS),
        objections=_objections(content["objections"]),
    )


def _asked(findings: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """What the plan asks of people, and for which parts."""
    found = []
    for act, words in ASKED.items():
        names = [PARTS[one["part"]] for one in findings if one["alarms"] and one["act"] == act]
        if names:
            found.append((words, list(dict.fromkeys(names))))
    return found


def _rank(finding: Mapping[str, Any]) -> int:
    if finding["alarms"] or finding["open"]:
        return 0 if finding["alarms"] else 1
    return {BREACH: 2, CANNOT_TELL: 3}.get(finding["verdict"], 4)


def _charts(name: str, content: Mapping[str, Any]) -> list[tuple[str, Markup]]:
    performance = [row for row in content["performance"] if row["class_name"] == name]
    estimates = [row for row in content["estimates"] if row["class_name"] == name]
    reference: dict[str, Any] = next((row for row in performance if row["period"] == "reference"), {})
    every = _every_period(content)
    found = []
    for measured in _DRAWN:
        measure = MEASURES[measured]
        periods = periods_of(measured, performance, estimates, every)
        if any(one and one["value"] is not None for _, *both in periods for one in both):
            value = (reference.get(measured) or {}).get("value")
            found.append(
                (measure.title, over_time(f"{measure.title} of {name}", periods, value, measure.scale))
            )
    return found


def _every_period(content: Mapping[str, Any]) -> list[str]:
    """Every period from the first day to the last: one in which nobody came leaves a gap in a chart."""
    if content["now"]["from"] is None:
        return []
    code = PERIOD_CODES[content["plan"]["period"]]
    first, last = (pd.Period(content["now"][end], code) for end in ("from", "to"))
    return [period_name(one) for one in pd.period_range(first, last)]


def _gap_charts(content: Mapping[str, Any]) -> list[tuple[str, Markup]]:
    """The groups that fare worst now, over time."""
    worst = sorted(
        (row for row in content["gaps"] if len(row["periods"]) > 1),
        key=lambda row: row["value"] * -MEASURES[row["metric"]].harm,
    )
    found = []
    for row in worst[:_MOST_GAPS]:
        label = f"{row['attribute']} = {row['level']}: {MEASURES[row['metric']].title}, {row['class_name']}"
        periods = [(one["period"], one, None) for one in row["periods"]]
        wide = 0.5 if all(abs(one["value"]) < 0.5 for one in row["periods"]) else 1.0
        found.append((label, over_time(f"Gap of {label}", periods, row["reference"], (-wide, wide))))
    return found


def _path(one: Mapping[str, Any]) -> Markup:
    alarmed = "alarmed" if one["alarm"] is not None else "no alarm"
    said = f"{one['about']}: {one['kind']} over {one['n']} patients, limit {one['limit']:g}, {alarmed}."
    return path(said, one["values"], one["limit"], one["alarm"], one["kind"] == "e-value")


def _objections(found: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if found is None:
        return None
    periods = [(row["period"], row, None) for row in found["periods"]]
    return {
        **found,
        "chart": over_time("Share of objections", periods, None, (0.0, 1.0)) if periods else None,
    }
