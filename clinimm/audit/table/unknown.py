"""What an audit of a table cannot say: the other half of its result, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clinimm.audit.judge import INCONCLUSIVE
from clinimm.audit.policy import Policy
from clinimm.audit.table.judge import TableFinding
from clinimm.audit.table.read import AuditTable

_WORTH_SAYING = 0.005


def not_known(
    policy: Policy, table: AuditTable, findings: Sequence[TableFinding], missing: Sequence[dict[str, Any]]
) -> list[str]:
    """Sentences, those that bear on the verdict first."""
    said = [*_undecided(findings), *_hidden_by_missing(findings, missing), *_sources(policy, table)]
    if not table.rows.attributes:
        said.append("No attribute was looked at: nothing is said about any group.")
    if table.subjects is None:
        said.append("No column names the subject; rows of one person would make every interval too narrow.")
    elif table.rows.cluster is not None:
        said.append(
            "Subjects have several rows. Intervals allow for that; permutation tests are left out, "
            "because they cannot."
        )
    said.append(
        "Whether the label is fair: a diagnosis that one group gets less often when equally ill looks like "
        "good performance here. That needs an outcome from another source."
    )
    said.append(
        f"Other thresholds than {policy.table.threshold:g}, later patients and other hospitals, and whether "
        "these rows were kept out of training: the table does not tell."
    )
    return said


def _undecided(findings: Sequence[TableFinding]) -> list[str]:
    open_ones = [finding for finding in findings if finding.verdict == INCONCLUSIVE]
    if not open_ones:
        return []
    names = [
        f"{finding.attribute}: {finding.level}" for finding in open_ones if finding.attribute != "overall"
    ]
    distinct = list(dict.fromkeys(names))
    shown = "; ".join(distinct[:4]) + (f"; and {len(distinct) - 4} more" if len(distinct) > 4 else "")
    of = f" ({shown})" if distinct else ""
    counts = [finding.needed.count for finding in open_ones if finding.needed]
    more = ""
    if counts:
        least, most = min(counts), max(counts)
        shown_as = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        more = f" About {shown_as} more cases each would settle {len(counts)} of them."
    return [f"{len(open_ones)} of {len(findings)} checks are undecided{of}.{more}"]


def _hidden_by_missing(findings: Sequence[TableFinding], missing: Sequence[dict[str, Any]]) -> list[str]:
    said = []
    for row in missing:
        text = f"{row['attribute']} is missing in {row['n']:,} rows ({row['share']:.2%})"
        widest = max(
            (finding for finding in findings if finding.attribute == row["attribute"] and finding.allocation),
            key=lambda finding: finding.allocation[1] - finding.allocation[0] if finding.allocation else 0.0,
            default=None,
        )
        low, high = widest.allocation if widest is not None and widest.allocation is not None else (0.0, 0.0)
        if widest is not None and high - low > _WORTH_SAYING:
            text += (
                f"; were they known, the {widest.metric} {widest.stat} of {widest.level} could lie anywhere "
                f"from {low:+.3f} to {high:+.3f}"
            )
        said.append(text + ".")
    return said


def _sources(policy: Policy, table: AuditTable) -> list[str]:
    source = {
        name: policy.table.attributes[name].source if name in policy.table.attributes else "not_stated"
        for name in table.rows.attributes
    }
    said = []
    unstated = [name for name, value in source.items() if value == "not_stated"]
    if unstated:
        said.append(
            f"Who recorded {', '.join(unstated)}: self-report, registry, or somebody's guess is not stated."
        )
    for name in (name for name, value in source.items() if value == "inferred"):
        said.append(f"{name} was inferred, not reported: it is shown and never decides.")
    return said
