"""The audit as one HTML file: no script, nothing fetched, every value escaped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clinimm.audit.engine.measures import MEASURES
from clinimm.audit.groups import MISSING
from clinimm.audit.verdict import FAIL, INCONCLUSIVE, PASS

_TEMPLATE = Path(__file__).with_name("page.html")
_WIDTH = 220
#: What the tables of groups show; the rest stands in the files beside the page.
_SHOWN = ("sensitivity", "specificity", "ppv", "auroc", "calibration_slope")
_MOST_CROSSED = 20
_MOST_GAPS = 20
#: How much the first screen (1280 by 800) holds; the rest follows below.
_FIRST = {"failing": 4, "rules": 3, "levels": 6, "worst": 2, "unknown": 5}
_GRAVEST_FIRST = (FAIL, INCONCLUSIVE, PASS)
_SOURCES = {
    "self_report": "self-reported",
    "registry": "from a registry",
    "inferred": "inferred, never decides",
    "not_stated": "source not stated",
}
_VERDICTS = {
    "pass": "Every group is shown to be within the margin: evidence of likeness, not lack of evidence.",
    "fail": "The whole interval of at least one group lies outside the margin.",
    "inconclusive": "This is not a pass: for some groups the data allow both answers.",
}


def audit_page(content: Mapping[str, Any]) -> str:
    """The page for the content of ``audit.json``, or of its published view."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "number": _number,
        "count": _count,
        "figure": _figure,
        "signed": _signed,
        "interval": _interval,
        "chance": _chance,
    }
    environment.globals |= {"needed": needed_words, "who": who, "bar": _bar, "figure_bar": _figure_bar}
    environment.globals |= {"by_verdict": _by_verdict}
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    rules = {rule["id"]: rule | {"words": rule_words(rule)} for rule in content["policy"]["rules"]}
    scales = {rule: _scale(content["findings"], rules[rule]) for rule in rules}
    return template.render(
        audit=content,
        rules=rules,
        scales=scales,
        width=_WIDTH,
        measures=MEASURES,
        shown=_SHOWN,
        sources=_SOURCES,
        meaning=_VERDICTS[content["verdict"]],
        published=content.get("published"),
        title=content["run"] or content["tested"]["file"],
        classes=[_of_class(content, row) for row in content["tested"]["classes"]],
        modalities=_modalities(content),
        most_crossed=_MOST_CROSSED,
        most=_FIRST,
        failing=[row for row in content["findings"] if row["verdict"] == FAIL and row["blocks"]],
        worst=sorted(content["worst"], key=lambda row: _gravity(content["findings"][row["finding"]])),
        nothing_shown=_nothing_shown(content),
        missing_level=MISSING,
    )


def rule_words(rule: Mapping[str, Any]) -> str:
    """A rule as one sentence.

    >>> rule_words({"metric": "fnr", "stat": "difference", "reference": "rest", "margin": 0.05,
    ...             "attribute": ["sex"]})
    'Missed (false negative rate): no group by sex more than 0.05 above everybody else.'
    """
    measure = MEASURES[rule["metric"]]
    title = measure.title[0].upper() + measure.title[1:]
    groups = ", ".join(name.replace("*", " × ").replace("_", " ") for name in rule["attribute"])
    whom = f"every group by {groups}" if groups else "the model as a whole"
    if rule["stat"] == "value":
        side, bound = ("above", rule["above"]) if rule["above"] is not None else ("below", rule["below"])
        return f"{title}: {whom} {side} {bound:g}."
    against = {"rest": "everybody else", "overall": "everybody"}.get(rule["reference"], rule["reference"])
    if rule["stat"] == "ratio":
        return f"{title}: no group by {groups} worse than {rule['margin']:g} to 1 against {against}."
    way = {1: "above", -1: "below", 0: "away from"}[measure.harm]
    return f"{title}: no group by {groups} more than {rule['margin']:g} {way} {against}."


def needed_words(finding: Mapping[str, Any]) -> str:
    """How much more evidence a finding needs, for a table's cell."""
    if finding["verdict"] != "inconclusive":
        return ""
    needed = finding["needed"]
    if needed is None:
        return "" if finding["n"] is None else "cannot be named"
    return f"about {needed['count']:,} {finding['unit']}" + (" in all" if needed["of"] == "table" else "")


def who(finding: Mapping[str, Any]) -> str:
    """``race: Asian``, or ``everybody``."""
    overall = finding["attribute"] == "overall"
    return "everybody" if overall else f"{finding['attribute'].replace('_', ' ')}: {finding['level']}"


def _by_verdict(findings: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What is broken first, then what is open; otherwise in the audit's order."""
    return sorted(findings, key=_gravity)


def _gravity(finding: Mapping[str, Any]) -> int:
    return _GRAVEST_FIRST.index(finding["verdict"])


def _nothing_shown(content: Mapping[str, Any]) -> bool:
    """Whether the published view had to hide every group that it names."""
    groups = [row for row in content["groups"] if row["attributes"]]
    return bool(content.get("published") and groups) and all(row["figures"] is None for row in groups)


def _of_class(content: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of one class: everybody, each attribute, and the intersections that fare worst."""
    groups = [group for group in content["groups"] if group["class_name"] == row["class_name"]]
    return {
        **row,
        "overall": groups[0],
        "marginals": _marginals(groups),
        "crossed": _crossed(groups),
    }


def _modalities(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """Amplification and shares of each gap side by side; the most surely amplified first."""
    part = content["modalities"]
    if part is None:
        return None
    pairs = [
        {**one, "total": other["total"], "of": other["of"], "nothing": other["nothing"]}
        for one, other in zip(part["amplification"], part["shares"], strict=True)
    ]
    pairs.sort(key=lambda row: (-(row["index"][1] or 0.0), row["rule"], row["attribute"], row["level"]))
    return {**part, "gaps": pairs[:_MOST_GAPS], "more": max(0, len(pairs) - _MOST_GAPS)}


def _marginals(groups: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in groups:
        if len(row["attributes"]) == 1:
            found.setdefault(row["attributes"][0], []).append(row)
    return found


def _crossed(groups: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The intersections whose sensitivity is surely low, worst upper end first."""
    rows = [row for row in groups if len(row["attributes"]) > 1 and row["figures"] is not None]
    rows = [row for row in rows if not row["small"]]
    known = [row for row in rows if row["figures"]["sensitivity"][2] is not None]
    order = sorted(
        known, key=lambda row: (row["figures"]["sensitivity"][2], row["attributes"], row["levels"])
    )
    return order[:_MOST_CROSSED]


def _scale(findings: Sequence[Mapping[str, Any]], rule: Mapping[str, Any]) -> tuple[float, float]:
    """Ends of the axis on which a rule's findings are drawn."""
    rows = [row for row in findings if row["rule"] == rule["id"]]
    ends = [row[key] for row in rows for key in ("value", "low", "high") if row[key] is not None]
    if rule["stat"] == "value":
        ends += [bound for bound in (rule["above"], rule["below"]) if bound is not None]
        return (min(ends), max(ends)) if min(ends) < max(ends) else (min(ends) - 0.1, max(ends) + 0.1)
    if rule["stat"] == "ratio":
        return 0.0, min(max([*ends, 1 / rule["margin"] * 1.2]), 4.0)
    reach = max([abs(end) for end in ends] + [rule["margin"] * 1.5])
    return -reach, reach


def _bar(
    finding: Mapping[str, Any], rule: Mapping[str, Any], scale: tuple[float, float]
) -> dict[str, float | None] | None:
    """Positions of a finding's bar, of what is tolerated, and of no difference, in pixels."""
    if finding["value"] is None or finding["low"] is None:
        return None
    harm = MEASURES[rule["metric"]].harm
    if rule["stat"] == "value":
        low = rule["above"] if rule["above"] is not None else -math.inf
        high, middle = (rule["below"] if rule["below"] is not None else math.inf), None
    elif rule["stat"] == "ratio":
        low = rule["margin"] if harm <= 0 else -math.inf
        high, middle = (1 / rule["margin"] if harm >= 0 else math.inf), 1.0
    else:
        low = -rule["margin"] if harm <= 0 else -math.inf
        high, middle = (rule["margin"] if harm >= 0 else math.inf), 0.0
    most = finding["high"] if finding["high"] is not None else math.inf
    places = {"value": finding["value"], "low": finding["low"], "high": most, "least": low, "most": high}
    drawn: dict[str, float | None] = {name: _place(value, scale) for name, value in places.items()}
    drawn["middle"] = None if middle is None else _place(middle, scale)
    return drawn


def _figure_bar(figure: Sequence[float | None], name: str) -> dict[str, float] | None:
    if any(end is None for end in figure):
        return None
    scale = MEASURES[name].scale
    return {
        key: _place(float(end or 0.0), scale)
        for key, end in zip(("value", "low", "high"), figure, strict=True)
    }


def _place(value: float, scale: tuple[float, float]) -> float:
    share = (value - scale[0]) / (scale[1] - scale[0])
    return round(min(max(share, 0.0), 1.0) * _WIDTH, 1)


def _number(value: float | None, sign: bool = False) -> str:
    return "–" if value is None else f"{value:{'+' if sign else ''}.3f}"


def _chance(value: float) -> str:
    return "<0.001" if value < 0.0005 else _number(value)


def _count(value: int | None) -> str:
    return "hidden" if value is None else f"{value:,}"


def _interval(finding: Mapping[str, Any], signed: bool) -> str:
    if finding["value"] is None or finding["low"] is None:
        return "hidden" if finding["n"] is None else "not estimable"
    high = "any" if finding["high"] is None else _number(finding["high"], signed)
    return f"{_number(finding['value'], signed)} ({_number(finding['low'], signed)} to {high})"


def _signed(figure: Sequence[float | None]) -> str:
    value, low, high = figure
    if value is None or low is None or high is None:
        return "–"
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f})"


def _figure(figure: Sequence[float | None]) -> str:
    value, low, high = figure
    if value is None:
        return "–"
    if low is None or high is None:
        return f"{value:.2f} (too few)"
    return f"{value:.2f} ({low:.2f} to {high:.2f})"
