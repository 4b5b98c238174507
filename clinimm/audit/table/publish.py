"""The published view: the same audit without any count from 1 to below the minimum."""

from __future__ import annotations

from typing import Any

import numpy as np

from clinimm.audit.groups import MISSING
from clinimm.audit.policy import Policy
from clinimm.audit.table.run import TableAudit, shown_groupings
from clinimm.audit.table.study import Place
from clinimm.audit.table.suppress import hidden_groups, indicators


def published(audit: TableAudit, policy: Policy) -> dict[str, Any]:
    """The content that may leave the house: small groups hidden, and what would give them away.

    Hidden groups keep their names and lose every number; findings on them keep the verdict. Spread,
    missing values and sentences that quote a hidden group are left out.
    """
    content = audit.content
    hidden = hidden_names(audit, policy)
    missing_hidden = {attribute for attribute, level in hidden if level == MISSING}
    return content | {
        "tested": _tested(content["tested"], missing_hidden),
        "groups": [_group(row, hidden) for row in content["groups"]],
        "findings": [_finding(row, hidden) for row in content["findings"]],
        "worst": [
            row for row in content["worst"] if not _is_hidden(content["findings"][row["finding"]], hidden)
        ],
        "spread": [
            row
            for row in content["spread"]
            if not {(row["attribute"], row[end]) for end in ("lowest", "highest")} & hidden
        ],
        "missing": [row for row in content["missing"] if row["attribute"] not in missing_hidden],
        "not_known": _sentences(content, hidden),
        "published": {
            "minimum": policy.table.published_minimum,
            "hidden_groups": len(hidden),
            "note": "Groups are hidden where a count lies below the minimum, or would follow from others.",
        },
    }


def hidden_names(audit: TableAudit, policy: Policy) -> set[tuple[str, str]]:
    """Attribute and level of every hidden group, as findings name them."""
    groupings = shown_groupings(audit.study, policy)
    members = indicators([one.of_atom for one in groupings], [one.size for one in groupings])
    counts = np.concatenate([audit.study.tables(one).counts.reshape(-1, 4) for one in groupings])
    hidden = hidden_groups(members, counts, policy.table.published_minimum)
    places = [Place(one, group) for one in groupings for group in range(one.size)]
    return {(place.attribute, place.level) for place, out in zip(places, hidden, strict=True) if out}


def _tested(tested: dict[str, Any], missing_hidden: set[str]) -> dict[str, Any]:
    rows = [row | {"missing": None} if row["name"] in missing_hidden else row for row in tested["attributes"]]
    return tested | {"attributes": rows}


def _group(row: dict[str, Any], hidden: set[tuple[str, str]]) -> dict[str, Any]:
    name = " × ".join(row["attributes"]) or "overall", " × ".join(row["levels"]) or "everybody"
    if name not in hidden:
        return row
    return row | {"n": None, "positives": None, "counts": None, "figures": None}


def _finding(row: dict[str, Any], hidden: set[tuple[str, str]]) -> dict[str, Any]:
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


def _is_hidden(row: dict[str, Any], hidden: set[tuple[str, str]]) -> bool:
    """Whether a finding tells of a hidden group, as the one judged or as its reference."""
    return not hidden.isdisjoint({(row["attribute"], row["level"]), (row["attribute"], row["reference"])})


def _sentences(content: dict[str, Any], hidden: set[tuple[str, str]]) -> list[str]:
    """Sentences on missing values quote counts and bounds, from which a hidden group could follow."""
    return [text for text in content["not_known"] if " is missing in " not in text or not hidden]
