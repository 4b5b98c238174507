"""The audit: predictions, cohort, policy and threshold in, verdict out. A pure function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from clinimm.audit.groups import Audited, Cell, attributes_of, cell_of, overall_cell
from clinimm.audit.judge import FAIL, INCONCLUSIVE, PASS, Finding, judge_rule
from clinimm.audit.policy import HARM, Policy, Rule
from clinimm.core.errors import ConfigError
from clinimm.evaluate.operating import OperatingPoint
from clinimm.evaluate.panel import Panel, panel_of

SCHEMA = "clinimm.audit/1"
EXIT_PASS, EXIT_FAIL, EXIT_INCONCLUSIVE, EXIT_BAD_INPUT = 0, 1, 2, 3


@dataclass(frozen=True)
class ClassAudit:
    """The groups of one class."""

    class_name: str
    threshold: float
    overall: Cell
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class AuditResult:
    """What an audit found.

    Attributes:
        verdict: the worst finding: ``fail``, then ``inconclusive``, then ``pass``.
        exit_status: 0 nothing blocks, 1 a rule is broken, 2 an inconclusive rule blocks. (3, bad
            input or policy, is an error and never a result.)
        sentence: the result for people.
        findings: one a rule and group.
        classes: figures of every group.
    """

    verdict: str
    exit_status: int
    sentence: str
    findings: tuple[Finding, ...]
    classes: tuple[ClassAudit, ...]

    @property
    def blocks(self) -> bool:
        """Whether the model's alias must not move."""
        return self.exit_status != EXIT_PASS

    def as_json(self) -> dict[str, Any]:
        """Plain values for ``audit.json``."""
        return {
            "schema": SCHEMA,
            "verdict": self.verdict,
            "exit_status": self.exit_status,
            "blocks": self.blocks,
            "sentence": self.sentence,
            "findings": [finding.as_json() for finding in self.findings],
            "classes": [
                {
                    "class_name": part.class_name,
                    "threshold": part.threshold,
                    "groups": [_cell_json(cell) for cell in (part.overall, *part.cells)],
                }
                for part in self.classes
            ],
        }


def audit_predictions(
    predictions: pd.DataFrame,
    cohort: pd.DataFrame,
    policy: Policy,
    threshold: float | Mapping[str, OperatingPoint],
    classes: Sequence[str] | None = None,
    kind: str = "binary",
) -> AuditResult:
    """Audit held-out predictions.

    Args:
        predictions: columns of ``core.prediction``, the fused model's held-out rows. Under repeated
            cross-validation figures are means over repeats and the subject is the unit.
        cohort: columns of ``cohort.parquet``.
        policy: the rules.
        threshold: probability from which a subject is flagged, or the operating point of each class.
        classes: the task's classes; those in the table where not given.
        kind: ``binary``, ``multiclass`` or ``multilabel``; each class is audited one-versus-rest.

    Raises:
        ConfigError: a rule that only ``clinimm audit-table`` can judge.
        DataError: no row has a label, or a predicted subject is not in the cohort.
    """
    for rule in policy.rules:
        _check_judged_here(rule)
    names = tuple(classes) if classes else tuple(sorted(predictions["class_name"].unique().tolist()))
    panel = panel_of(predictions, names, kind)
    parts, findings = [], []
    for index, name in enumerate(names):
        chosen = threshold[name] if isinstance(threshold, Mapping) else OperatingPoint(threshold, "given")
        audited = _audited(panel.one(index), chosen, cohort, predictions)
        parts.append(_class_audit(audited, name, chosen.threshold, policy))
        for rule in policy.rules:
            findings += judge_rule(rule, audited, policy.statistics)
    return _result(findings, parts)


def _check_judged_here(rule: Rule) -> None:
    crossed = any("*" in attribute for attribute in rule.attribute)
    if rule.metric in HARM and rule.stat != "ratio" and rule.reference in ("rest", "overall") and not crossed:
        return
    raise ConfigError(
        f"rule {rule.id}: {rule.stat} of {rule.metric} against {rule.reference} is judged by "
        "`clinimm audit-table` only; a pipeline's audit takes values and differences of "
        f"{', '.join(HARM)} against rest or overall, one attribute at a time."
    )


def _audited(
    panel: Panel, chosen: OperatingPoint, cohort: pd.DataFrame, predictions: pd.DataFrame
) -> Audited:
    return Audited(panel, chosen.decisions(panel), attributes_of(cohort, predictions, panel))


def _class_audit(audited: Audited, name: str, threshold: float, policy: Policy) -> ClassAudit:
    statistics = policy.statistics
    ruled = [attribute for rule in policy.rules for attribute in rule.attribute]
    asked = list(audited.attributes) if policy.attributes is None else [*policy.attributes, *ruled]
    shown = [attribute for attribute in dict.fromkeys(asked) if attribute in audited.attributes]
    cells = [
        cell_of(audited, attribute, level, statistics.level, statistics.minimum_cell)
        for attribute in shown
        for level in audited.levels(attribute)
    ]
    return ClassAudit(name, threshold, overall_cell(audited, statistics.level), tuple(cells))


def _result(findings: Sequence[Finding], parts: Sequence[ClassAudit]) -> AuditResult:
    of = {
        verdict: [row for row in findings if row.verdict == verdict] for verdict in (FAIL, INCONCLUSIVE, PASS)
    }
    blocking = [row for row in of[INCONCLUSIVE] if row.blocks]
    if of[FAIL]:
        verdict, status = FAIL, EXIT_FAIL
        text = f"The audit failed: {_list(of[FAIL])}."
    elif blocking:
        verdict, status = INCONCLUSIVE, EXIT_INCONCLUSIVE
        text = f"The audit is inconclusive and blocks registration: {_list(blocking)}."
    elif of[INCONCLUSIVE]:
        verdict, status = INCONCLUSIVE, EXIT_PASS
        text = "No rule is broken, but the data cannot show that all hold"
        text += (
            f" ({len(of[PASS])} of {len(findings)} checks pass, {len(of[INCONCLUSIVE])} are inconclusive)."
        )
    else:
        verdict, status = PASS, EXIT_PASS
        text = f"The audit passed: all {len(findings)} checks hold."
    return AuditResult(verdict, status, text, tuple(findings), tuple(parts))


def _list(findings: Sequence[Finding], most: int = 3) -> str:
    shown = "; ".join(finding.sentence for finding in findings[:most])
    return shown + (f"; and {len(findings) - most} more" if len(findings) > most else "")


def _cell_json(cell: Cell) -> dict[str, Any]:
    return {
        "attribute": cell.attribute,
        "level": cell.level,
        "n": cell.n,
        "positives": cell.positives,
        "suppressed": cell.suppressed,
        "figures": {name: value.as_json() for name, value in cell.figures.items()},
    }
