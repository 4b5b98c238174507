"""The published view: the same audit without any count from 1 to below the minimum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from clinimm.audit.groups import EVERYBODY, MISSING, OVERALL
from clinimm.audit.policy import Policy
from clinimm.audit.table.assemble import Audit
from clinimm.audit.table.list_groups import shown_groupings
from clinimm.audit.table.study import CROSSED, NO_LEVEL, Place, Study
from clinimm.audit.table.suppress import hidden_groups, indicators
from clinimm.audit.table.unknown import MISSING_IN, NEEDED

#: Class, attribute and level of a group.
_Name = tuple[str, str, str]


def published(audit: Audit, policy: Policy) -> dict[str, Any]:
    """The content that may leave the house: small groups hidden, and what would give them away.

    Hidden groups keep their names and lose every number; findings on them keep the verdict. A group that is
    hidden for one class is hidden for all, as its size is that of every class. Groups by more attributes
    than the policy publishes, spread, missing values, gaps by modality, sentences that tell of a hidden
    group, and what detectors and mitigations found are left out.
    """
    content = audit.content
    hidden: set[_Name] = set()
    shown: set[_Name] = set()
    for name, places in hidden_places(audit.studies, policy).items():
        for place, out in places:
            (hidden if out else shown).add((name, place.attribute, place.level))
    partly = {(name, attribute) for name, attribute, _ in hidden}
    missing_hidden = {attribute for _, attribute, level in hidden if level == MISSING}
    groups = [row for row in audit.groups if _name(row) in hidden | shown]
    return content | {
        "tested": _tested(content["tested"], missing_hidden, hidden),
        "groups": [_group(row, hidden) for row in groups],
        "findings": [_finding(row, hidden) for row in content["findings"]],
        "worst": [
            row for row in content["worst"] if not _is_hidden(content["findings"][row["finding"]], hidden)
        ],
        "spread": [row for row in content["spread"] if (row["class_name"], row["attribute"]) not in partly],
        "missing": [row for row in content["missing"] if row["attribute"] not in missing_hidden],
        "not_known": _sentences(content, hidden),
        "modalities": _modalities(content["modalities"], partly),
        "signals": None,
        "mitigation": None,
        "published": {
            "minimum": policy.table.published_minimum,
            "hidden_groups": len(hidden),
            "note": "Groups are hidden where a count lies below the minimum, would follow from others, or "
            "could be bounded below the minimum by others, counts not being negative.",
        },
    }


def hidden_places(studies: Mapping[str, Study], policy: Policy) -> dict[str, list[tuple[Place, bool]]]:
    """Class -> every group that the published view names, and whether its numbers are hidden.

    A group that must be hidden for one class is hidden for all: the classes share its size, and where
    each subject has one of them, their outcomes add up to it.
    """
    first = next(iter(studies.values()))
    orders = min(policy.table.published_intersections, policy.table.intersections)
    groupings = shown_groupings(first, policy, orders)
    members = indicators([one.of_atom for one in groupings], [one.size for one in groupings])
    counts = [
        np.concatenate([study.tables(one).counts.reshape(-1, 4) for one in groupings]) // study.rows.repeats
        for study in studies.values()
    ]
    hidden = np.zeros(len(members), dtype=bool)
    everybody = members.all(axis=1)
    while True:
        each = [hidden_groups(members, cells, policy.table.published_minimum, hidden) for cells in counts]
        found = np.any(each, axis=0) & ~everybody
        if len(each) == 1 or (found == hidden).all():
            break
        hidden = found
    places = [Place(one, group) for one in groupings for group in range(one.size)]
    return {
        name: list(zip(places, map(bool, own), strict=True)) for name, own in zip(studies, each, strict=True)
    }


def _tested(tested: dict[str, Any], missing_hidden: set[str], hidden: set[_Name]) -> dict[str, Any]:
    """What was tested, without the counts of everybody where everybody's table is hidden."""
    attributes = [
        row | {"missing": None} if row["name"] in missing_hidden else row for row in tested["attributes"]
    ]
    classes = [
        row
        | (
            dict.fromkeys(("positives", "prevalence", "flagged"))
            if (row["class_name"], OVERALL, EVERYBODY) in hidden
            else {}
        )
        for row in tested["classes"]
    ]
    return tested | {"attributes": attributes, "classes": classes}


def _name(row: dict[str, Any]) -> _Name:
    attributes, levels = CROSSED.join(row["attributes"]), CROSSED.join(row["levels"])
    return row["class_name"], attributes or OVERALL, levels or EVERYBODY


def _group(row: dict[str, Any], hidden: set[_Name]) -> dict[str, Any]:
    if _name(row) not in hidden:
        return row
    return row | {"n": None, "positives": None, "counts": None, "figures": None}


def _finding(row: dict[str, Any], hidden: set[_Name]) -> dict[str, Any]:
    if not _is_hidden(row, hidden):
        return row | {"allocation": None}
    numbers = ("value", "low", "high", "group_value", "reference_value", "n", "count", "needed", "allocation")
    name = f"{row['attribute']}: {row['level']}"
    return (
        row
        | dict.fromkeys(numbers)
        | {
            "pointwise": [None, None],
            "sentence": f"{row['metric']}, {name}: {row['verdict']}; hidden because a group is small",
        }
    )


def _is_hidden(row: dict[str, Any], hidden: set[_Name]) -> bool:
    """Whether a finding tells of a hidden group, as the one judged or as its reference."""
    start = row["class_name"], row["attribute"]
    told = {(*start, row["level"]), (*start, row["reference"])}
    if row["reference"] in NO_LEVEL:
        told.add((row["class_name"], OVERALL, EVERYBODY))
    return not hidden.isdisjoint(told)


def _modalities(part: dict[str, Any] | None, partly: set[tuple[str, str]]) -> dict[str, Any] | None:
    """Gaps by attributes of which nothing is hidden, and no small count appears from any subset of sources.

    With the sizes of the groups, a rate of the model that sees less tells its counts as well. The audits
    of the subsets keep their verdicts.
    """
    if part is None:
        return None
    closed = partly | {(row["class_name"], row["attribute"]) for row in part["small"]}
    told = lambda row: (row["class_name"], row["attribute"]) in closed  # noqa: E731
    subsets = [
        row
        | {
            "findings": [
                one | (dict.fromkeys(("value", "low", "high")) if told(one) else {})
                for one in row["findings"]
            ]
        }
        for row in part["subsets"]
    ]
    kept = {key: [row for row in part[key] if not told(row)] for key in ("amplification", "shares")}
    return part | kept | {"subsets": subsets}


def _sentences(content: dict[str, Any], hidden: set[_Name]) -> list[str]:
    """Sentences on missing values, and on how many more are needed, quote counts of hidden groups."""
    if not hidden:
        return list(content["not_known"])
    return [text.partition(NEEDED)[0] for text in content["not_known"] if MISSING_IN not in text]
