"""Which groups are shown, and the row of counts and figures of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from clinimm.audit.engine.measures import measure
from clinimm.audit.engine.rows import Grouping
from clinimm.audit.policy import Policy
from clinimm.audit.table.study import CROSS, Study
from clinimm.audit.table.suppress import hidden_groups, indicators
from clinimm.evaluate.estimate import rounded

_CELLS = {
    "true_positive": (1, 1),
    "false_negative": (1, 0),
    "false_positive": (0, 1),
    "true_negative": (0, 0),
}
#: Attributes that say whether one modality is there; crossing them with all others would only repeat
#: ``modalities_present``.
HAS = "has "
#: Up to so many attributes, ``audit.json`` holds even the smallest group; ``groups.csv`` holds all.
_ALL_IN_JSON = 2
#: So many rows go through the measures at once, each row once a grouping.
_ROWS_AT_ONCE = 2_000_000


def shown_groupings(study: Study, policy: Policy, orders: int) -> list[Grouping]:
    """Everybody, every attribute, every combination of up to ``orders``, and those that rules judge."""
    rows = study.rows
    crossed = [
        name
        for name, column in rows.attributes.items()
        if len(column.levels) > 1 and not name.startswith(HAS)
    ]
    found = [study.grouping(""), *(study.grouping(name) for name in rows.attributes)]
    for order in range(2, min(orders, len(crossed)) + 1):
        found += [study.grouping(CROSS.join(names)) for names in rows.combinations(crossed, order)]
    judged = [study.grouping(name) for rule in policy.rules for name in rule.attribute if study.knows(name)]
    return list({one.attributes: one for one in [*found, *judged]}.values())


def in_json(row: dict[str, Any], policy: Policy) -> bool:
    """Whether ``audit.json`` holds a row: of three attributes and more, only groups that are not small.

    An intersection that a rule judges is always there.
    """
    if len(row["attributes"]) <= _ALL_IN_JSON or not row["small"]:
        return True
    return row["attributes"] in [
        [part.strip() for part in name.split(CROSS)] for rule in policy.rules for name in rule.attribute
    ]


def group_rows(class_name: str, study: Study, policy: Policy) -> Iterator[dict[str, Any]]:
    """A row for everybody, for each group and for each intersection."""
    groupings = shown_groupings(study, policy, policy.table.intersections)
    withheld = _withheld(study, [one for one in groupings if len(one.attributes) <= 1], policy)
    at_once = max(1, _ROWS_AT_ONCE // study.rows.n)
    for first in range(0, len(groupings), at_once):
        for row in _rows(class_name, study, policy, groupings[first : first + at_once]):
            name = tuple(row["attributes"]), tuple(row["levels"])
            yield row | {"withheld": row["small"] or name in withheld}


def _withheld(
    study: Study, groupings: Sequence[Grouping], policy: Policy
) -> set[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Groups by one attribute whose size the model card does not tell: small, or giving one away."""
    members = indicators([one.of_atom for one in groupings], [one.size for one in groupings])
    rows = np.concatenate([study.tables(one).counts.sum(axis=(1, 2)) for one in groupings])
    sizes = np.array([study.subjects(int(count)) for count in rows])
    hidden = hidden_groups(members, sizes[:, None], policy.statistics.minimum_cell)
    names = [(tuple(one.attributes), tuple(levels)) for one in groupings for levels in one.levels]
    return {name for name, out in zip(names, hidden, strict=True) if out}


def _rows(
    class_name: str, study: Study, policy: Policy, groupings: Sequence[Grouping]
) -> Iterator[dict[str, Any]]:
    columns = _columns(study, groupings, policy.statistics.level)
    counts = np.concatenate([study.tables(grouping).counts for grouping in groupings])
    names = [(grouping.attributes, levels) for grouping in groupings for levels in grouping.levels]
    for group, (attributes, levels) in enumerate(names):
        cells = counts[group]
        n = study.subjects(cells.sum())
        yield {
            "class_name": class_name,
            "attributes": list(attributes),
            "levels": list(levels),
            "n": n,
            "positives": study.subjects(cells[1].sum()),
            "small": n < policy.statistics.minimum_cell,
            "counts": {name: _count(cells[cell], study.rows.repeats) for name, cell in _CELLS.items()},
            "figures": {
                name: [rounded(float(end)) for end in column[group]] for name, column in columns.items()
            },
        }


def _columns(
    study: Study, groupings: Sequence[Grouping], level: float
) -> dict[str, Float64[ndarray, "group end"]]:
    """Value, low and high of every measure of every group: one pass for all groupings together."""
    figures = measure(study.rows.stacked(groupings), study.threshold)
    found = {name: np.stack([one.value, *one.bounds(level)], axis=1) for name, one in figures.items()}
    if study.rows.repeats > 1:
        each = [study.figures(grouping, "auroc") for grouping in groupings]
        found["auroc"] = np.concatenate([np.stack([one.value, *one.bounds(level)], axis=1) for one in each])
    return found


def _count(rows: int, repeats: int) -> int | float:
    """Subjects in a cell; a mean over repeats where there are several."""
    return int(rows) if repeats == 1 else round(int(rows) / repeats, 3)
