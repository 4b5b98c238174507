"""The audit as one HTML file: no script, nothing fetched, every value escaped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from clinimm.audit.engine.measures import MEASURES
from clinimm.audit.groups import MISSING
from clinimm.audit.table.list_groups import HAS
from clinimm.audit.templates import environment
from clinimm.audit.verdict import FAIL, INCONCLUSIVE, PASS

_WIDTH = 220
#: What the tables of groups show; the rest stands in the files beside the page.
_SHOWN = ("sensitivity", "specificity", "ppv", "auroc", "calibration_slope")
_MOST_CROSSED = 20
_MOST_GAPS = 20
#: How much the first screen (1280 by 800) holds; the rest follows below.
_FIRST = {"failing": 4, "measures": 3, "rules": 3, "levels": 6, "attributes": 6, "worst": 2, "unknown": 5}
#: From so many rules on, a list of them with their answers stands before their tables.
_MANY_RULES = 4
_GRAVEST_FIRST = (FAIL, INCONCLUSIVE, PASS)
_SOURCES = {
    "self_report": "self-reported",
    "registry": "from a registry",
    "inferred": "inferred, never decides",
    "not_stated": "source not stated",
}
_VERDICTS = {
    "pass": "Every group is shown to be within the margin: evidence of likeness, not lack of evidence.",
    "fail": "Even the better end of an interval is worse than the policy allows: hardly by chance.",
    "inconclusive": "This is not a pass: for some groups the data allow both answers.",
}
#: Each measure for a reader who knows none of them.
_MEANINGS = {
    "sensitivity": "Of those who have the outcome, the share that is flagged.",
    "specificity": "Of those who do not have it, the share that is not flagged.",
    "ppv": "Of those who are flagged, the share that has the outcome.",
    "npv": "Of those who are not flagged, the share that does not have it.",
    "fnr": "Of those who have the outcome, the share that is not flagged.",
    "fpr": "Of those who do not have the outcome, the share that is flagged.",
    "selection_rate": "The share of all that is flagged.",
    "prevalence": "The share of all that has the outcome.",
    "auroc": "The chance that somebody with the outcome gets a higher risk than somebody without: 0.5 is a "
    "coin, 1 is perfect.",
    "auprc": "Positive predictive value over all thresholds: the prevalence is a coin, 1 is perfect.",
    "brier": "Mean squared distance of the risk from what happened: 0 is perfect.",
    "ece": "Mean distance between predicted risk and what happened, in bins of equal size: 0 is perfect.",
    "observed_less_predicted": "Share with the outcome less mean risk: above 0 the risks are too low.",
    "calibration_intercept": "Whether risks are too low (above 0) or too high (below 0) on average.",
    "calibration_slope": "Whether risks are too extreme (below 1) or too timid (above 1).",
    "net_benefit": "Found less false alarms, these weighed by the threshold, for each person tested.",
    "net_benefit_less_treat_all": "The same, less that of flagging everybody: above 0 the model is of use.",
}


def audit_page(content: Mapping[str, Any]) -> str:
    """The page for the content of ``audit.json``, or of its published view."""
    templates = environment()
    templates.filters |= {
        "number": _number,
        "count": _count,
        "figure": _figure,
        "signed": _signed,
        "interval": _interval,
        "chance": _chance,
        "percent": _percent,
    }
    templates.globals |= {"needed": needed_words, "who": who, "bar": _bar, "figure_bar": _figure_bar}
    templates.globals |= {"by_verdict": _by_verdict, "whom": whom}
    template = templates.get_template("page.html")
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
        failing=_failing(content["findings"]),
        asked=asked_words(content["policy"]["rules"]),
        at_a_glance=_at_a_glance(content) if len(rules) >= _MANY_RULES else [],
        meanings={name: text for name, text in _MEANINGS.items() if name in _named(content)},
        worst=sorted(content["worst"], key=lambda row: _badness(row, content["findings"], rules)),
        nothing_shown=_nothing_shown(content),
        missing_level=MISSING,
        has=[row["name"] for row in content["tested"]["attributes"] if row["name"].startswith(HAS)],
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


def asked_words(rules: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rules as sentences; those that ask the same of other groups as one.

    >>> rule = {"metric": "fnr", "stat": "difference", "reference": "rest", "margin": 0.05}
    >>> asked_words([rule | {"attribute": ["sex"]}, rule | {"attribute": ["race", "sex"]}])
    ['Missed (false negative rate): no group by sex, race more than 0.05 above everybody else.']
    """
    merged: dict[tuple[Any, ...], dict[str, Any]] = {}
    for rule in rules:
        bounds = tuple(rule.get(name) for name in ("metric", "stat", "reference", "margin", "above", "below"))
        found = merged.setdefault((*bounds, not rule["attribute"]), dict(rule) | {"attribute": []})
        found["attribute"] += [name for name in rule["attribute"] if name not in found["attribute"]]
    return [rule_words(rule) for rule in merged.values()]


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


def whom(finding: Mapping[str, Any], rule: Mapping[str, Any]) -> str:
    """A group under its rule's heading: the level alone where the rule is on one attribute."""
    return str(finding["level"]) if len(rule["attribute"]) == 1 else who(finding)


def _failing(findings: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """What is broken and blocks, measure by measure: ``(metric, findings)``."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in findings:
        if row["verdict"] == FAIL and row["blocks"]:
            found.setdefault(row["metric"], []).append(row)
    return list(found.items())


def _at_a_glance(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each rule with how many of its groups got which answer, the gravest first."""
    rows = []
    for place, rule in enumerate(content["policy"]["rules"]):
        answers = [row["verdict"] for row in content["findings"] if row["rule"] == rule["id"]]
        counts = {verdict: answers.count(verdict) for verdict in _GRAVEST_FIRST}
        rows.append({"place": place + 1, "words": rule_words(rule), "id": rule["id"], "counts": counts})
    return sorted(rows, key=lambda row: tuple(-count for count in list(row["counts"].values())[:2]))


def _named(content: Mapping[str, Any]) -> set[str]:
    """The measures that the page names."""
    ruled = {rule["metric"] for rule in content["policy"]["rules"]}
    return ruled | set(_SHOWN) | {row["metric"] for row in content["spread"]}


def _badness(
    row: Mapping[str, Any], findings: Sequence[Mapping[str, Any]], rules: Mapping[str, Mapping[str, Any]]
) -> tuple[int, float]:
    """Sorts the gravest answer first, then what lies the most margins beyond what is tolerated."""
    finding = findings[row["finding"]]
    return _gravity(finding), -_margins(finding, rules[row["rule"]])


def _margins(finding: Mapping[str, Any], rule: Mapping[str, Any]) -> float:
    """The better end of an interval in units of the margin; 1 is the margin itself."""
    low, high, harm = finding["low"], finding["high"], MEASURES[rule["metric"]].harm
    if low is None or high is None:
        return -math.inf
    if rule["stat"] == "value":  # a bound has no margin: just outside, or not
        return 1.0 if finding["verdict"] == FAIL else 0.0
    if not rule["margin"] or rule["margin"] == 1:
        return 0.0
    unit = rule["margin"]
    if rule["stat"] == "ratio":
        low, high, unit = (math.log(max(end, 1e-9)) for end in (low, high, 1 / rule["margin"]))
    return max(low / unit if harm >= 0 else -math.inf, -high / unit if harm <= 0 else -math.inf)


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


def _percent(share: float) -> str:
    """A share, its sign never on a line of its own."""
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


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
