"""How well the model does for the groups that a subject belongs to, from the audit's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clinimm.audit.groups import NO_ATTRIBUTE, OVERALL, RENAMED
from clinimm.core.prediction import JOIN
from clinimm.report.facts import Hidden, RunFacts

#: What a rule's metric asks, for a reader who knows no metrics; others are called by their name.
_ASKED = {
    "auroc": "how well it orders patients",
    "fnr": "how many who have it are missed",
    "fpr": "how many who do not have it are flagged",
    "sensitivity": "how many who have it are found",
    "specificity": "how many who do not have it are left alone",
    "ppv": "how many of the flagged have it",
    "npv": "how many of those not flagged do not have it",
    "observed_less_predicted": "whether its percentages come true",
}
TOO_FEW = "too few patients to show"
GIVES_AWAY = "not shown: it would tell the size of a group with too few patients to show"
_SUPPRESSED = {"value": None, "low": None, "high": None, "reason": TOO_FEW}


@dataclass(frozen=True)
class Group:
    """One group that the subject belongs to.

    Attributes:
        name: such as ``sex: female``.
        n: labelled held-out subjects in it, ``–`` where too few to show.
        estimate: its AUROC as ``metrics.json`` writes estimates.
        warnings: what the audit found to be broken for this very group.
        unsettled: what the audit could not tell for it, in plain words.
    """

    name: str
    n: str
    estimate: Mapping[str, Any]
    warnings: tuple[str, ...]
    unsettled: tuple[str, ...] = ()


def patient_groups(
    facts: RunFacts, class_name: str, attributes: Mapping[str, Any], modalities_present: str
) -> list[Group]:
    """The audit's figures for this subject's groups; nothing before the audit.

    Args:
        facts: the run.
        class_name: the class that the page is about.
        attributes: the subject's row of ``cohort.parquet``.
        modalities_present: its key of ``predictions.parquet``.
    """
    levels = {
        RENAMED.get(name, name): str(value)
        for name, value in attributes.items()
        if name not in NO_ATTRIBUTE and not name.startswith("label:") and isinstance(value, str) and value
    }
    levels["modalities_present"] = modalities_present
    found = []
    for row in audit_rows(facts, class_name):
        if levels.get(row["attribute"]) == row["level"]:
            found.append(_group(facts, row, class_name))
    return found


def audit_rows(facts: RunFacts, class_name: str, hidden: Hidden = "small") -> list[dict[str, Any]]:
    """The audit's figures of everybody and of each group by one attribute, of one class.

    Groups that the page does not show have their name alone; reviewers see them in the audit.
    """
    return [
        {
            "attribute": row["attributes"][0] if row["attributes"] else OVERALL,
            "level": row["levels"][0] if row["levels"] else OVERALL,
            "small": row["small"],
            "suppressed": row[hidden],
            "n": None if row[hidden] else row["n"],
            "positives": None if row[hidden] else row["positives"],
            "figures": {}
            if row[hidden]
            else {name: _estimate(ends) for name, ends in row["figures"].items()},
        }
        for row in (facts.audit or {}).get("groups", ())
        if row["class_name"] == class_name and len(row["attributes"]) <= 1
    ]


def _estimate(ends: Sequence[float | None]) -> dict[str, Any]:
    value, low, high = ends
    reason = "too few patients of one outcome" if value is None or low is None else None
    return {"value": value, "low": low, "high": high, "reason": reason}


def _group(facts: RunFacts, row: Mapping[str, Any], class_name: str) -> Group:
    own = [
        finding
        for finding in (facts.audit or {}).get("findings", ())
        if (finding["class_name"], finding["attribute"], finding["level"])
        == (class_name, row["attribute"], row["level"])
    ]
    broken = tuple(facts.finding_text(finding) for finding in own if finding["verdict"] == "fail")
    open_metrics = [str(finding["metric"]) for finding in own if finding["verdict"] == "inconclusive"]
    unsettled = tuple(dict.fromkeys(_ASKED.get(name, name.replace("_", " ")) for name in open_metrics))
    estimate = _SUPPRESSED if row["suppressed"] else row["figures"]["auroc"]
    n = "–" if row["suppressed"] else str(row["n"])
    return Group(_name(facts, row), n, estimate, broken, unsettled)


def _name(facts: RunFacts, row: Mapping[str, Any]) -> str:
    if row["attribute"] != "modalities_present":
        return f"{str(row['attribute']).replace('_', ' ')}: {row['level']}"
    names = str(row["level"]).split(JOIN)
    if len(names) == len(facts.modalities):
        return "all sources present"
    lacking = [name for name in facts.modalities if name not in names]
    if len(lacking) < len(names):
        return "sources: all but " + ", ".join(facts.title(name) for name in lacking)
    return "sources: only " + ", ".join(facts.title(name) for name in names)


def range_of(groups: Sequence[Group]) -> tuple[Group, Group] | None:
    """The groups for which it works worst and best; None where fewer than two have a figure."""
    known = [group for group in groups if group.estimate.get("value") is not None]
    if len(known) < 2:
        return None
    known.sort(key=lambda group: (float(group.estimate["value"]), group.name))
    return known[0], known[-1]


def unsettled_of(groups: Sequence[Group]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Groups and what the audit could not tell for them; groups of which the same is open stand together."""
    found: dict[tuple[str, ...], list[str]] = {}
    for group in groups:
        if group.unsettled:
            found.setdefault(group.unsettled, []).append(group.name)
    return [(tuple(names), asked) for asked, names in found.items()]
