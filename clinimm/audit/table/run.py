"""The audit of a table: figures, findings, and what is not known, as one plain value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import chi2_contingency

from clinimm.audit.audit import EXIT_FAIL, EXIT_INCONCLUSIVE, EXIT_PASS
from clinimm.audit.engine.figures import Figures
from clinimm.audit.engine.intervals import clopper_pearson
from clinimm.audit.engine.measures import MEASURES
from clinimm.audit.engine.resample import bootstrap_counts, holm, percentile_interval, permutation_p, rates_of
from clinimm.audit.engine.rows import Grouping
from clinimm.audit.groups import MISSING
from clinimm.audit.judge import FAIL, INCONCLUSIVE, PASS
from clinimm.audit.policy import Policy
from clinimm.audit.table.judge import Judgement, TableFinding, harm_of, judge
from clinimm.audit.table.read import AuditTable, read_audit_table
from clinimm.audit.table.study import CROSS, Study
from clinimm.audit.table.unknown import not_known
from clinimm.audit.waiver import Waiver
from clinimm.core.errors import ConfigError
from clinimm.evaluate.estimate import rounded
from clinimm.provenance import code_version

SCHEMA = "clinimm.audit-table/1"
#: Rates whose groups are tested by permutation and checked by the bootstrap.
TESTED = ("fnr", "fpr", "ppv", "npv", "selection_rate")
_DRAWS_OF_CHECK = 1000


@dataclass(frozen=True)
class TableAudit:
    """What an audit of a table found.

    Attributes:
        content: everything, as ``audit.json`` holds it.
        study: the figures behind it.
    """

    content: dict[str, Any]
    study: Study

    @property
    def exit_status(self) -> int:
        """0 nothing blocks, 1 a rule is broken, 2 an undecided rule blocks."""
        return int(self.content["exit_status"])


def audit_table(
    path: Path, policy: Policy, waivers: Sequence[Waiver] = (), day: date | None = None
) -> TableAudit:
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
    table = read_audit_table(path, policy.table, attributes_of(policy))
    study = Study(table.rows, policy.table.threshold)
    judgement = judge(study, policy, waivers, day)
    verdict, status, sentence = _verdict(judgement.findings)
    tested = _tested(table, policy)
    groups = _groups(study, policy)
    spread = _spread(study, policy)
    missing = _missing(study)
    content = {
        "schema": SCHEMA,
        "code_version": code_version(),
        "verdict": verdict,
        "exit_status": status,
        "blocks": status != EXIT_PASS,
        "sentence": sentence,
        "tested": tested,
        "findings": [finding.as_json() for finding in judgement.findings],
        "worst": _worst(policy, judgement.findings),
        "not_known": not_known(policy, table, judgement.findings, missing),
        "groups": groups,
        "spread": spread,
        "missing": missing,
        "waivers": [waiver.model_dump(mode="json") for waiver in waivers],
        "statistics": _statistics(study, policy, judgement),
        "policy": {"rules": [rule.model_dump(mode="json") for rule in policy.rules]},
    }
    if waivers and day is not None:
        content["judged_on"] = day.isoformat()
    return TableAudit(content, study)


def attributes_of(policy: Policy) -> list[str]:
    """The columns that a policy looks at: those of its rules and those that it shows."""
    ruled = [part.strip() for rule in policy.rules for name in rule.attribute for part in name.split(CROSS)]
    return list(dict.fromkeys([*ruled, *(policy.attributes or ())]))


def _verdict(findings: Sequence[TableFinding]) -> tuple[str, int, str]:
    gating = [finding for finding in findings if finding.gates]
    failed = [finding for finding in gating if finding.verdict == FAIL]
    undecided = [finding for finding in gating if finding.verdict == INCONCLUSIVE]
    passed = len(gating) - len(failed) - len(undecided)
    counts = f"{passed} of {len(gating)} checks pass, {len(failed)} fail, {len(undecided)} are inconclusive"
    if any(finding.blocks for finding in failed):
        return FAIL, EXIT_FAIL, f"At least one group is served worse than the policy allows: {counts}."
    if any(finding.blocks for finding in undecided):
        return INCONCLUSIVE, EXIT_INCONCLUSIVE, f"The data cannot show that every rule holds: {counts}."
    if failed:
        return FAIL, EXIT_PASS, f"A rule is broken and stands under a waiver: {counts}."
    if undecided:
        return (
            INCONCLUSIVE,
            EXIT_PASS,
            f"No rule is broken, but the data cannot show that all hold: {counts}.",
        )
    return PASS, EXIT_PASS, f"Every rule is shown to hold: {counts}."


def _tested(table: AuditTable, policy: Policy) -> dict[str, Any]:
    rows = table.rows
    positives = int(rows.label.sum())
    return {
        "file": table.name,
        "sha256": table.sha256,
        "rows": rows.n,
        "subjects": rows.n if table.subjects is None else table.subjects,
        "subjects_repeat": rows.cluster is not None,
        "positives": positives,
        "prevalence": rounded(positives / rows.n),
        "flagged": int((rows.probability >= (policy.table.threshold or 0.0)).sum()),
        "threshold": policy.table.threshold,
        "columns": policy.table.columns.model_dump(),
        "attributes": [
            {
                "name": name,
                "levels": list(column.levels),
                "source": policy.table.attributes[name].source
                if name in policy.table.attributes
                else "not_stated",
                "missing": int((np.array(column.levels) == MISSING)[column.code].sum()),
            }
            for name, column in rows.attributes.items()
        ],
    }


def shown_groupings(study: Study, policy: Policy) -> list[Grouping]:
    """Everybody, every attribute, every combination that the policy shows, and those that it judges."""
    orders = range(1, min(policy.table.intersections, len(study.rows.attributes)) + 1)
    found = [study.grouping("")]
    found += [study.grouping(CROSS.join(one.attributes)) for one in study.rows.groupings(list(orders))]
    judged = [study.grouping(name) for rule in policy.rules for name in rule.attribute]
    return list({one.attributes: one for one in [*found, *judged]}.values())


def _groups(study: Study, policy: Policy) -> list[dict[str, Any]]:
    level = policy.statistics.level
    rows = []
    for grouping in shown_groupings(study, policy):
        counts = study.tables(grouping).counts
        figures = {name: study.figures(grouping, name) for name in MEASURES}
        ends = {name: figure.bounds(level) for name, figure in figures.items()}
        for group, levels in enumerate(grouping.levels):
            cells = counts[group]
            rows.append(
                {
                    "attributes": list(grouping.attributes),
                    "levels": list(levels),
                    "n": int(cells.sum()),
                    "positives": int(cells[1].sum()),
                    "counts": {
                        "true_positive": int(cells[1, 1]),
                        "false_negative": int(cells[1, 0]),
                        "false_positive": int(cells[0, 1]),
                        "true_negative": int(cells[0, 0]),
                    },
                    "figures": {
                        name: [
                            rounded(float(figures[name].value[group])),
                            rounded(float(ends[name][0][group])),
                            rounded(float(ends[name][1][group])),
                        ]
                        for name in MEASURES
                    },
                }
            )
    return rows


def _spread(study: Study, policy: Policy) -> list[dict[str, Any]]:
    """For each attribute and rate: best and worst group, and whether chance alone would do it."""
    found = []
    for name in study.rows.attributes:
        grouping = study.grouping(name)
        tables = study.tables(grouping)
        for metric in TESTED:
            figures = study.figures(grouping, metric)
            known = np.flatnonzero(~np.isnan(figures.value))
            p = permutation_p(tables, metric, policy.table.permutations, policy.table.seed)
            if len(known) < 2:
                continue
            order = known[np.argsort(figures.value[known], kind="stable")]
            found.append(
                {
                    "attribute": name,
                    "metric": metric,
                    "lowest": grouping.levels[order[0]][0],
                    "highest": grouping.levels[order[-1]][0],
                    "difference": rounded(float(figures.value[order[-1]] - figures.value[order[0]])),
                    "ratio": _ratio(figures, int(order[0]), int(order[-1])),
                    "p": p,
                }
            )
    for row, p in zip(found, holm([row["p"] for row in found]), strict=True):
        row["p_holm"], row["p"] = rounded(p), rounded(row["p"])
    return found


def _ratio(figures: Figures, low: int, high: int) -> float | None:
    return rounded(float(figures.value[low] / figures.value[high])) if figures.value[high] > 0 else None


def _missing(study: Study) -> list[dict[str, Any]]:
    """Whether those without an attribute differ in the outcome; subjects with several rows count each row."""
    found = []
    for name in study.rows.attributes:
        grouping = study.grouping(name)
        levels = [level[0] for level in grouping.levels]
        if MISSING not in levels or len(levels) < 2:
            continue
        counts = study.tables(grouping).counts
        lost = counts[levels.index(MISSING)]
        by_label = np.array([lost.sum(axis=1), (counts.sum(axis=0) - lost).sum(axis=1)]).astype(float)
        low, high = clopper_pearson(by_label[:, 1], by_label.sum(axis=1), 0.95)
        tested = study.rows.cluster is None and (by_label.sum(axis=0) > 0).all()
        found.append(
            {
                "attribute": name,
                "n": int(lost.sum()),
                "share": rounded(float(lost.sum() / study.rows.n)),
                "prevalence": [
                    rounded(float(end)) for end in (by_label[0, 1] / by_label[0].sum(), low[0], high[0])
                ],
                "prevalence_of_others": [
                    rounded(float(end)) for end in (by_label[1, 1] / by_label[1].sum(), low[1], high[1])
                ],
                "p": rounded(float(chi2_contingency(by_label).pvalue)) if tested else None,
            }
        )
    return found


def _worst(policy: Policy, findings: Sequence[TableFinding]) -> list[dict[str, Any]]:
    """The group of each rule that is most surely worse."""
    found = []
    for rule in policy.rules:
        of_rule = [
            (harm_of(finding, rule), place)
            for place, finding in enumerate(findings)
            if finding.rule == rule.id
        ]
        known = [pair for pair in of_rule if np.isfinite(pair[0])]
        if known:
            found.append({"rule": rule.id, "finding": max(known, key=lambda pair: (pair[0], -pair[1]))[1]})
    return found


def _statistics(study: Study, policy: Policy, judgement: Judgement) -> dict[str, Any]:
    table = policy.table
    return {
        "level": policy.statistics.level,
        "joint_level": judgement.joint_level,
        "judged_together": len(judgement.findings),
        "draws": table.draws,
        "permutations": table.permutations,
        "seed": table.seed,
        "published_minimum": table.published_minimum,
        "bootstrap_check": _bootstrap_check(study, policy),
        "methods": {name: study.figures(study.grouping(""), name).method for name in MEASURES},
    }


def _bootstrap_check(study: Study, policy: Policy) -> dict[str, Any]:
    """The closed form beside a bootstrap of the same rates: largest distance between their ends."""
    worst, compared = 0.0, 0
    for name in study.rows.attributes:
        grouping = study.grouping(name)
        tables = study.tables(grouping)
        drawn = bootstrap_counts(tables, _DRAWS_OF_CHECK, policy.table.seed)
        for metric in TESTED:
            low, high = percentile_interval(rates_of(drawn, metric), tables, metric, policy.statistics.level)
            ends = study.figures(grouping, metric).bounds(policy.statistics.level)
            known = ~np.isnan(low)
            compared += int(known.sum())
            if known.any():
                gap = np.maximum(np.abs(low - ends[0]), np.abs(high - ends[1]))[known]
                worst = max(worst, float(gap.max()))
    return {"draws": _DRAWS_OF_CHECK, "intervals": compared, "largest_distance": rounded(worst)}
