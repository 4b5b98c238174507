"""``clinimm audit-table``: a table in, everything that is known of its groups out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from clinimm.audit.groups import OVERALL
from clinimm.audit.policy import Policy
from clinimm.audit.table.assemble import Audit, Part, assemble
from clinimm.audit.table.read import AuditTable, read_audit_table
from clinimm.audit.table.study import CROSS, CROSSED, Study
from clinimm.audit.waiver import Waiver
from clinimm.core.errors import ConfigError


def audit_table(path: Path, policy: Policy, waivers: Sequence[Waiver] = (), day: date | None = None) -> Audit:
    """Audit a table of predictions.

    Args:
        path: Parquet or CSV with one row a prediction.
        policy: rules, and the threshold in its ``table`` part.
        waivers: what may stand although it is broken or undecided.
        day: on which the waivers are looked at; none where there are no waivers.

    Raises:
        ConfigError: the policy names no threshold, or a level that the table does not have.
        DataError: the table cannot be audited; says why and what to do.
    """
    if policy.table.threshold is None:
        raise ConfigError("no threshold: give --threshold, or `table: {threshold: ...}` in the policy.")
    _refuse_unclear(policy)
    table = read_audit_table(path, policy.table, attributes_of(policy))
    subjects = table.rows.n if table.subjects is None else table.subjects
    study = Study(table.rows, policy.table.threshold)
    part = Part(policy.table.columns.label, study, "given")
    return assemble([part], policy, _tested(table, policy, subjects), waivers, day)


def attributes_of(policy: Policy) -> list[str]:
    """The columns that a policy looks at: those of its rules and those that it shows."""
    ruled = [part.strip() for rule in policy.rules for name in rule.attribute for part in name.split(CROSS)]
    return list(dict.fromkeys([*ruled, *(policy.attributes or ())]))


def _refuse_unclear(policy: Policy) -> None:
    """Attributes that would be judged twice, or could be taken for something else.

    Raises:
        ConfigError: names the first.
    """
    for rule in policy.rules:
        seen: set[frozenset[str]] = set()
        for name in rule.attribute:
            parts = [part.strip() for part in name.split(CROSS)]
            if "" in parts:
                raise ConfigError(
                    f"attribute {name!r}: a name is missing; give one such as race, or race*sex."
                )
            if len(set(parts)) < len(parts):
                raise ConfigError(f"attribute {name}: the same attribute twice.")
            if frozenset(parts) in seen:
                raise ConfigError(f"attribute {name} is asked for twice in rule {rule.id}.")
            seen.add(frozenset(parts))
    for name in attributes_of(policy):
        if name == OVERALL or CROSSED in name:
            raise ConfigError(
                f"{name} cannot be an attribute's name: it has a meaning in the evidence; rename it."
            )


def _tested(table: AuditTable, policy: Policy, subjects: int) -> dict[str, Any]:
    return {
        "kind": "table",
        "file": table.name,
        "sha256": table.sha256,
        "subjects": subjects,
        "subject_known": table.subjects is not None,
        "columns": policy.table.columns.model_dump(),
    }
