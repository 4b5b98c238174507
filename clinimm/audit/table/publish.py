"""The published view: the same audit without any count from 1 to below the minimum."""

from __future__ import annotations

from typing import Any

import numpy as np

from clinimm.audit.groups import EVERYBODY, MISSING, OVERALL
from clinimm.audit.policy import Policy
from clinimm.audit.table.assemble import Audit
from clinimm.audit.table.list_groups import shown_groupings
from clinimm.audit.table.study import CROSSED, Place, Study
from clinimm.audit.table.suppress import hidden_groups, indicators

#: Class, attribute and level of a group.
_Name = tuple[str, str, str]


def published(audit: Audit, policy: Policy) -> dict[str, Any]:
    """The content that may leave the house: small groups hidden, and what would give them away.

    Hidden groups keep their names and lose every number; findings on them keep the verdict. Groups by
    more attributes than the policy publishes, spread, missing values, gaps by modality, sentences that tell
    of a hidden group, and what detectors and mitigations found are left out.
    """
    content = audit.content
    hidden: set[_Name] = set()
    shown: set[_Name] = set()
    for name, study in audit.studies.items():
        for place, out in places_of(study, policy):
            (hidden if out else shown).add((name, place.attribute, place.level))
    missing_hidden = {attribute for _, attribute, level in hidden if level == MISSING}
    groups = [row for row in audit.groups if _name(row) in hidden | shown]
    return content | {
        "tested": _tested(content["tested"], missing_hidden),
        "groups": [_group(row, hidden) for row in groups],
        "findings": [_finding(row, hidden) for row in content["findings"]],
        "worst": [
            row for row in content["worst"] if not _is_hidden(content["findings"][row["finding"]], hidden)
        ],
        "spread": [
            row
            for row in content["spread"]
            if not {(row["class_name"], row["attribute"], row[end]) for end in ("lowest", "highest")} & hidden
        ],
        "missing": [row for row in content["missing"] if row["attribute"] not in missing_hidden],
        "not_known": _sentences(content, hidden),
        "modalities": _modalities(content["modalities"], hidden),
        "signals": None,
        "mitigation": None,
        "published": {
            "minimum": policy.table.published_minimum,
            "hidden_groups": len(hidden),
            "note": "Groups are hidden where a count lies below the minimum, would follow from others, or "
            "could be bounded below the minimum by others, counts not being negative.",
        },
    }


def places_of(study: Study, policy: Policy) -> list[tuple[Place, bool]]:
    """Every group that the published view names, and whether its numbers are hidden."""
    orders = min(policy.table.published_intersections, policy.table.intersections)
    groupings = shown_groupings(study, policy, orders)
    members = indicators([one.of_atom for one in groupings], [one.size for one in groupings])
    cells = [study.tables(one).counts.reshape(-1, 4) for one in groupings]
    counts = np.concatenate(cells) // study.rows.repeats
    hidden = hidden_groups(members, counts, policy.table.published_minimum)
    places = [Place(one, group) for one in groupings for group in range(one.size)]
    return list(zip(places, map(bool, hidden), strict=True))


def _tested(tested: dict[str, Any], missing_hidden: set[str]) -> dict[str, Any]:
    rows = [row | {"missing": None} if row["name"] in missing_hidden else row for row in tested["attributes"]]
    return tested | {"attributes": rows}


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
    return not hidden.isdisjoint({(*start, row["level"]), (*start, row.get("reference", ""))})


def _modalities(part: dict[str, Any] | None, hidden: set[_Name]) -> dict[str, Any] | None:
    """Gaps of groups that are shown; the audits of the subsets keep their verdicts and lose their numbers."""
    if part is None:
        return None
    subsets = [
        row
        | {
            "findings": [
                one | (dict.fromkeys(("value", "low", "high")) if _is_hidden(one, hidden) else {})
                for one in row["findings"]
            ]
        }
        for row in part["subsets"]
    ]
    kept = {
        key: [row for row in part[key] if not _is_hidden(row, hidden)] for key in ("amplification", "shares")
    }
    return part | kept | {"subsets": subsets}


def _sentences(content: dict[str, Any], hidden: set[_Name]) -> list[str]:
    """Sentences on missing values quote counts and bounds, from which a hidden group could follow."""
    return [text for text in content["not_known"] if " is missing in " not in text or not hidden]
