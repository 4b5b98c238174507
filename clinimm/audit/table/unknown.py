"""What an audit of a table cannot say: the other half of its result, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clinimm.audit.engine.measures import MEASURES
from clinimm.audit.table.judge import TableFinding
from clinimm.audit.table.list_groups import HAS
from clinimm.audit.verdict import INCONCLUSIVE

#: Begin what a published sentence leaves out, where a group is hidden.
NEEDED, MISSING_IN = " More cases needed: ", " is missing in "
_WORTH_SAYING = 0.005


def not_known(
    tested: Mapping[str, Any],
    findings: Sequence[TableFinding],
    missing: Sequence[dict[str, Any]],
) -> list[str]:
    """Sentences, those that bear on the verdict first."""
    said = [*_undecided(findings), *_hidden_by_missing(findings, missing, tested), *_sources(tested)]
    if not tested["attributes"]:
        said.append("No attribute was looked at: nothing is said about any group.")
    if not tested["subject_known"]:
        said.append("No column names the subject; rows of one person would make every interval too narrow.")
    said.append(
        "Whether the label is fair: a diagnosis that one group gets less often when equally ill looks like "
        "good performance here. That needs an outcome from another source."
    )
    said.append(_elsewhere(tested))
    return said


def _elsewhere(tested: Mapping[str, Any]) -> str:
    points = ", ".join(f"{row['threshold']:.4g}" for row in tested["classes"][:3])
    text = f"Other thresholds than {points}, later patients and other hospitals"
    if tested["kind"] == "table":
        return text + ", and whether these rows were kept out of training: the table does not tell."
    return text + ": these patients do not tell."


def _undecided(findings: Sequence[TableFinding]) -> list[str]:
    open_ones = [finding for finding in findings if finding.verdict == INCONCLUSIVE]
    if not open_ones:
        return []
    names = [
        f"{_plain(finding.attribute)}: {finding.level}"
        for finding in open_ones
        if finding.attribute != "overall"
    ]
    distinct = list(dict.fromkeys(names))
    shown = "; ".join(distinct[:4]) + (f"; and {len(distinct) - 4} more" if len(distinct) > 4 else "")
    of = f" ({shown})" if distinct else ""
    counts = [finding.needed.count for finding in open_ones if finding.needed]
    more = ""
    if counts:
        least, most = min(counts), max(counts)
        if least == most:
            more = f"{NEEDED}about {least:,} for each of {len(counts)} of them."
        else:
            more = f"{NEEDED}about {least:,} for the nearest, {most:,} for the furthest."
    return [f"{len(open_ones)} of {len(findings)} checks are undecided{of}.{more}"]


def _hidden_by_missing(
    findings: Sequence[TableFinding], missing: Sequence[dict[str, Any]], tested: Mapping[str, Any]
) -> list[str]:
    unit = "rows" if tested["kind"] == "table" else "subjects"
    said = []
    for row in missing:
        text = f"{_plain(row['attribute'])}{MISSING_IN}{row['n']:,} {unit} ({row['share']:.2%})"
        widest = max(
            (
                finding
                for finding in findings
                if (finding.class_name, finding.attribute) == (row["class_name"], row["attribute"])
                and finding.allocation
            ),
            key=lambda finding: finding.allocation[1] - finding.allocation[0] if finding.allocation else 0.0,
            default=None,
        )
        low, high = widest.allocation if widest is not None and widest.allocation is not None else (0.0, 0.0)
        if widest is not None and high - low > _WORTH_SAYING:
            title = MEASURES[widest.metric].title
            text += (
                f"; were they known, the {widest.stat} in {title} of {widest.level} could lie anywhere "
                f"from {low:+.3f} to {high:+.3f}"
            )
        said.append(text + ".")
    return said


def _sources(tested: Mapping[str, Any]) -> list[str]:
    source = {
        row["name"]: row["source"] for row in tested["attributes"] if not says_what_is_there(row["name"])
    }
    said = []
    unstated = ", ".join(_plain(name) for name, value in source.items() if value == "not_stated")
    if unstated:
        said.append(f"Who recorded {unstated}: self-report, registry, or somebody's guess is not stated.")
    for name in (name for name, value in source.items() if value == "inferred"):
        said.append(f"{_plain(name)} was inferred, not reported: it is shown and never decides.")
    return said


def says_what_is_there(name: str) -> bool:
    """Which modalities there are is read from the data, and recorded by nobody."""
    return name.startswith(HAS) or name == "modalities_present"


def _plain(name: str) -> str:
    """A column's name as people write it."""
    return name.replace("_", " ")
