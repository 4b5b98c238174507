"""Bias by modality: the audit again for every subset of modalities, and what each adds to a gap.

A subset is what the model answers when all other modalities are hidden from it; a subject that has
none of a subset gets what the model answers when it sees nothing. All subsets are of the same subjects
at the same threshold, so gaps can be compared subject by subject.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clinimm.audit.engine.compare import Contrast
from clinimm.audit.engine.linear import fixed, linear_interval
from clinimm.audit.engine.measures import MEASURES
from clinimm.audit.policy import Policy, Rule
from clinimm.audit.table.assemble import verdict_of_all
from clinimm.audit.table.judge import Judgement, judge
from clinimm.audit.table.study import Place, Study
from clinimm.audit.verdict import FAIL, INCONCLUSIVE, PASS
from clinimm.evaluate.estimate import rounded
from clinimm.evaluate.shapley import value_weights

_NOTE = (
    "Every subset is of the same subjects at the same threshold; who has nothing of a subset gets what the "
    "model answers when it sees nothing. Intervals here are each for itself, and nothing here decides."
)


@dataclass(frozen=True)
class Coalitions:
    """The figures of every subset of modalities.

    Attributes:
        names: the modalities; bit ``m`` of a coalition's number says whether ``names[m]`` is seen.
        studies: class -> the figures of each coalition, from nothing to all.
    """

    names: tuple[str, ...]
    studies: Mapping[str, Sequence[Study]]

    @property
    def everything(self) -> int:
        """The number of the coalition of all."""
        return 2 ** len(self.names) - 1

    def members(self, coalition: int) -> list[str]:
        """The names in a coalition."""
        return [name for bit, name in enumerate(self.names) if coalition >> bit & 1]


@dataclass(frozen=True)
class _Gap:
    """One rule's gap of one group, for each coalition, turned so that more is worse for the group."""

    head: dict[str, Any]
    contrasts: tuple[Contrast, ...]
    cases: float

    @property
    def values(self) -> list[float]:
        return [contrast.value for contrast in self.contrasts]


def by_modality(coalitions: Coalitions, policy: Policy) -> dict[str, Any]:
    """The part ``modalities`` of ``audit.json``.

    The amplification index of a group is its gap from all modalities less its largest gap from one
    alone: above zero, putting them together makes the gap larger than any part explains. Its
    interval holds for the smallest of the paired differences, each at a level that allows for their
    number (Bonferroni). Shares are exact Shapley values of the gap (Shapley 1953).
    """
    gaps = [gap for gap in _gaps(coalitions, policy) if np.all(np.isfinite(gap.values))]
    level = policy.statistics.level
    proper = range(1, coalitions.everything)
    small = [
        {"class_name": name, "attribute": attribute}
        for name, studies in coalitions.studies.items()
        for attribute in _with_small_counts(studies, policy)
    ]
    return {
        "names": list(coalitions.names),
        "small": small,
        "note": _NOTE,
        "subsets": [_audited(coalitions, coalition, policy) for coalition in sorted(proper, key=_order)],
        "amplification": [_amplification(coalitions, gap, level) for gap in gaps],
        "shares": [_shares(coalitions, gap, level) for gap in gaps],
    }


def _with_small_counts(studies: Sequence[Study], policy: Policy) -> list[str]:
    """The groupings of the rules in which some subset of sources makes a count too small to publish."""
    groupings = {
        place.attribute: place.grouping for rule in policy.rules for place in studies[-1].places(rule)
    }
    found = []
    for attribute, grouping in groupings.items():
        counts = np.stack([study.tables(grouping).counts // study.rows.repeats for study in studies])
        if ((counts > 0) & (counts < policy.table.published_minimum)).any():
            found.append(attribute)
    return found


def _order(coalition: int) -> tuple[int, int]:
    return coalition.bit_count(), coalition


def _audited(coalitions: Coalitions, coalition: int, policy: Policy) -> dict[str, Any]:
    studies = {name: of_class[coalition] for name, of_class in coalitions.studies.items()}
    judgement = judge(studies, policy)
    verdict, _, _ = verdict_of_all(judgement.findings)
    counts = {
        one: sum(row.verdict == one for row in judgement.findings) for one in (PASS, FAIL, INCONCLUSIVE)
    }
    return {
        "modalities": coalitions.members(coalition),
        "verdict": verdict,
        "passed": counts[PASS],
        "failed": counts[FAIL],
        "inconclusive": counts[INCONCLUSIVE],
        "joint_level": judgement.joint_level,
        "findings": _short(judgement),
    }


def _short(judgement: Judgement) -> list[dict[str, Any]]:
    return [
        {
            "class_name": row.class_name,
            "rule": row.rule,
            "attribute": row.attribute,
            "level": row.level,
            "verdict": row.verdict,
            "value": rounded(row.value),
            "low": rounded(row.low),
            "high": rounded(row.high),
        }
        for row in judgement.findings
    ]


def _gaps(coalitions: Coalitions, policy: Policy) -> list[_Gap]:
    found = []
    for name, studies in coalitions.studies.items():
        whole = studies[coalitions.everything]
        for rule in policy.rules:
            if rule.stat == "difference":
                found += [_gap(name, studies, rule, place) for place in whole.places(rule)]
    return found


def _gap(name: str, studies: Sequence[Study], rule: Rule, place: Place) -> _Gap:
    whole = studies[-1]
    contrasts = [study.contrast(rule, place) for study in studies]
    harm = MEASURES[rule.metric].harm or (1 if contrasts[-1].value >= 0 else -1)
    if harm < 0:
        contrasts = [_turned(contrast) for contrast in contrasts]
    contrasts[0] = fixed(contrasts[0])
    cases = float(whole.figures(place.grouping, rule.metric).n[place.group])
    head = {
        "class_name": name,
        "rule": rule.id,
        "metric": rule.metric,
        "attribute": place.attribute,
        "level": place.level,
    }
    return _Gap(head, tuple(contrasts), whole.cases(rule.metric, cases))


def _turned(contrast: Contrast) -> Contrast:
    def bounds(level: float) -> tuple[float, float]:
        low, high = contrast.bounds(level)
        return -high, -low

    influence: Callable[[], np.ndarray] = lambda: -contrast.influence()  # noqa: E731
    return Contrast(-contrast.value, bounds, influence)


def _amplification(coalitions: Coalitions, gap: _Gap, level: float) -> dict[str, Any]:
    count = len(coalitions.names)
    fused = gap.contrasts[-1]
    each = 1 - (1 - level) / count
    singles = [gap.contrasts[1 << bit] for bit in range(count)]
    over = [linear_interval((fused, single), np.array([1.0, -1.0]), gap.cases, each) for single in singles]
    largest = int(np.argmax([single.value for single in singles]))
    index = [min(row[end] for row in over) for end in range(3)]
    return gap.head | {
        "fused": [rounded(end) for end in (fused.value, *fused.bounds(level))],
        "largest_single": {"modality": coalitions.names[largest], "value": rounded(singles[largest].value)},
        "index": [rounded(end) for end in index],
    }


def _shares(coalitions: Coalitions, gap: _Gap, level: float) -> dict[str, Any]:
    count = len(coalitions.names)
    ends = np.zeros(2**count)
    ends[-1], ends[0] = 1.0, -1.0
    figure = lambda weights: [  # noqa: E731
        rounded(end) for end in linear_interval(gap.contrasts, weights, gap.cases, level)
    ]
    return gap.head | {
        "total": figure(ends),
        "nothing": rounded(gap.contrasts[0].value),
        "of": {name: figure(value_weights(bit, count)) for bit, name in enumerate(coalitions.names)},
    }
