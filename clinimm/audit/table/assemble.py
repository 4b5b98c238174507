"""An audit as one plain value: figures, findings, and what is not known, of one outcome or of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from scipy.stats import chi2_contingency

from clinimm.audit.engine.figures import Figures
from clinimm.audit.engine.intervals import clopper_pearson
from clinimm.audit.engine.measures import MEASURES
from clinimm.audit.engine.resample import bootstrap_counts, holm, percentile_interval, permutation_p, rates_of
from clinimm.audit.groups import MISSING
from clinimm.audit.policy import Policy
from clinimm.audit.table.judge import Judgement, TableFinding, harm_of, judge
from clinimm.audit.table.list_groups import group_rows, in_json
from clinimm.audit.table.study import Study
from clinimm.audit.table.unknown import not_known
from clinimm.audit.verdict import EXIT_FAIL, EXIT_INCONCLUSIVE, EXIT_PASS, FAIL, INCONCLUSIVE, PASS
from clinimm.audit.waiver import Waiver
from clinimm.evaluate.estimate import rounded
from clinimm.provenance import code_version

SCHEMA = "clinimm.audit/2"
#: Rates whose groups are tested by permutation and checked by the bootstrap.
TESTED = ("fnr", "fpr", "ppv", "npv", "selection_rate")
_DRAWS_OF_CHECK = 1000


@dataclass(frozen=True)
class Part:
    """One outcome that is audited.

    Attributes:
        class_name: its name; the label's column for a table.
        study: its figures.
        how: how the threshold was chosen.
    """

    class_name: str
    study: Study
    how: str


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        content: everything, as ``audit.json`` holds it.
        studies: class -> the figures behind it.
        groups: a row for every group and intersection, also those that ``content`` leaves out.
    """

    content: dict[str, Any]
    studies: Mapping[str, Study]
    groups: Sequence[dict[str, Any]]

    @property
    def exit_status(self) -> int:
        """0 nothing blocks, 1 a rule is broken, 2 an undecided rule blocks."""
        return int(self.content["exit_status"])


def assemble(
    parts: Sequence[Part],
    policy: Policy,
    tested: Mapping[str, Any],
    waivers: Sequence[Waiver] = (),
    day: date | None = None,
) -> Audit:
    """Judge every class and say all that is known.

    Args:
        parts: at least one; all with the same attributes.
        policy: the rules.
        tested: what was audited: ``kind`` (``run`` or ``table``), ``file``, ``sha256``, ``subjects``,
            ``subject_known``.
        waivers: what may stand although it is broken or undecided.
        day: on which the waivers are looked at; none where there are no waivers.

    Raises:
        ConfigError: a rule compares with a level that the attribute does not have.
    """
    studies = {part.class_name: part.study for part in parts}
    judgement = judge(studies, policy, waivers, day)
    verdict, status, sentence = verdict_of_all(judgement.findings)
    missing = [row for name, study in studies.items() for row in _missing(name, study)]
    about = _tested(parts, policy, tested)
    groups = [row for name, study in studies.items() for row in group_rows(name, study, policy)]
    content = {
        "schema": SCHEMA,
        "code_version": code_version(),
        "run": None,
        "verdict": verdict,
        "exit_status": status,
        "blocks": status != EXIT_PASS,
        "sentence": sentence,
        "tested": about,
        "findings": [finding.as_json() for finding in judgement.findings],
        "worst": _worst(policy, judgement.findings),
        "not_known": not_known(about, judgement.findings, missing),
        "groups": [row for row in groups if in_json(row, policy)],
        "spread": [row for name, study in studies.items() for row in _spread(name, study, policy)],
        "missing": missing,
        "modalities": None,
        "signals": None,
        "mitigation": None,
        "waivers": [waiver.model_dump(mode="json") for waiver in waivers],
        "statistics": _statistics(parts[0].study, policy, judgement),
        "policy": {
            "path": None,
            "sha256": None,
            "rules": [rule.model_dump(mode="json") for rule in policy.rules],
        },
    }
    if waivers and day is not None:
        content["judged_on"] = day.isoformat()
    return Audit(content, studies, groups)


def verdict_of_all(findings: Sequence[TableFinding]) -> tuple[str, int, str]:
    """The worst finding, the exit status and the sentence for people."""
    gating = [finding for finding in findings if finding.gates]
    failed = [finding for finding in gating if finding.verdict == FAIL]
    undecided = [finding for finding in gating if finding.verdict == INCONCLUSIVE]
    passed = len(gating) - len(failed) - len(undecided)
    counts = f"{passed} of {len(gating)} checks pass, {len(failed)} fail, {len(undecided)} are inconclusive"
    if any(finding.blocks for finding in failed):
        return FAIL, EXIT_FAIL, f"{_what_failed(failed)}: {counts}."
    if any(finding.blocks for finding in undecided):
        return INCONCLUSIVE, EXIT_INCONCLUSIVE, f"The data cannot show that every rule holds: {counts}."
    if failed:
        return FAIL, EXIT_PASS, f"A rule is broken and stands under a waiver: {counts}."
    if undecided:
        text = f"No rule is broken, but the data cannot show that all hold: {counts}."
        return INCONCLUSIVE, EXIT_PASS, text
    return PASS, EXIT_PASS, f"Every rule is shown to hold: {counts}."


def _what_failed(failed: Sequence[TableFinding]) -> str:
    if all(finding.attribute == "overall" for finding in failed):
        return "The model as a whole is worse than the policy allows"
    return "At least one group is served worse than the policy allows"


def _tested(parts: Sequence[Part], policy: Policy, tested: Mapping[str, Any]) -> dict[str, Any]:
    rows = parts[0].study.rows
    repeats = rows.cluster is not None and rows.repeats == 1
    return dict(tested) | {
        "rows": rows.n,
        "subjects_repeat": repeats,
        "repeats": rows.repeats,
        "classes": [_class_row(part) for part in parts],
        "attributes": [
            {
                "name": name,
                "levels": list(column.levels),
                "source": policy.table.attributes[name].source
                if name in policy.table.attributes
                else "not_stated",
                "missing": parts[0].study.subjects((np.array(column.levels) == MISSING)[column.code].sum()),
            }
            for name, column in rows.attributes.items()
        ],
    }


def _class_row(part: Part) -> dict[str, Any]:
    study = part.study
    cells = study.tables(study.grouping("")).counts[0]
    return {
        "class_name": part.class_name,
        "threshold": rounded(study.threshold),
        "how": part.how,
        "n": study.subjects(cells.sum()),
        "positives": study.subjects(cells[1].sum()),
        "prevalence": rounded(float(cells[1].sum() / cells.sum())),
        "flagged": study.subjects(cells[:, 1].sum()),
    }


def _spread(class_name: str, study: Study, policy: Policy) -> list[dict[str, Any]]:
    """For each attribute and rate: best and worst group, and whether chance alone would do it."""
    found = []
    for name in study.rows.attributes:
        grouping = study.grouping(name)
        tables = study.tables(grouping)
        for metric in TESTED:
            figures = study.figures(grouping, metric)
            known = np.flatnonzero(~np.isnan(figures.value))
            if len(known) < 2:
                continue
            p = permutation_p(tables, metric, policy.table.permutations, policy.table.seed)
            order = known[np.argsort(figures.value[known], kind="stable")]
            found.append(
                {
                    "class_name": class_name,
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


def _missing(class_name: str, study: Study) -> list[dict[str, Any]]:
    """Whether those without an attribute differ in the outcome; subjects with several rows count each row."""
    found = []
    for name in study.rows.attributes:
        grouping = study.grouping(name)
        levels = [level[0] for level in grouping.levels]
        if MISSING not in levels or len(levels) < 2:
            continue
        counts = study.tables(grouping).counts / study.rows.repeats
        lost = counts[levels.index(MISSING)]
        by_label = np.array([lost.sum(axis=1), (counts.sum(axis=0) - lost).sum(axis=1)])
        low, high = clopper_pearson(by_label[:, 1], by_label.sum(axis=1), 0.95)
        alone = study.rows.cluster is None or study.rows.repeats > 1
        tested = alone and (by_label.sum(axis=0) > 0).all()
        found.append(
            {
                "class_name": class_name,
                "attribute": name,
                "n": round(lost.sum()),
                "share": rounded(float(lost.sum() / counts.sum())),
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
        "minimum_cell": policy.statistics.minimum_cell,
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
