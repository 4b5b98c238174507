"""Whether an audit's intervals hold together, and whether as many more cases as it asks for settle a rule.

    python benchmarks/audit_joint.py [--simulations N] [--seed S]

Eight groups of 10 to 900 rows whose prevalence runs from 5 to 50 % and whose scores follow one law given the
label, so that misses, false alarms and AUROC are the same in all of them: how often *every* simultaneous
interval of a sample holds the truth (of each group's own figures, and of its differences from everybody
else), and how often Holm's permutation tests raise any alarm. Once with a row a subject, once with subjects
of one to five rows that share their label and half of their score. Then one rule on misses, where no group
differs: of its undecided findings, how many are settled in a new sample with as many more cases as the audit
asked for. The exit status is 1 where the intervals hold together in fewer than 94 % of the samples, the
alarms exceed 5 %, or fewer than 80 % are settled, each but for two standard errors of the simulation.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from clinimm.audit.engine.compare import Contrast, alone, difference, joint_level
from clinimm.audit.engine.counts import tables_of
from clinimm.audit.engine.measures import measure
from clinimm.audit.engine.resample import holm, permutation_p
from clinimm.audit.engine.rows import Coded, Rows
from clinimm.audit.policy import Policy
from clinimm.audit.table.judge import TableFinding, judge
from clinimm.audit.table.study import Study
from clinimm.audit.verdict import INCONCLUSIVE

_LEVEL, _ALPHA, _PROMISED = 0.95, 0.05, 0.8
_SIZES = (900, 500, 300, 150, 80, 40, 20, 10)
_PREVALENCES = (0.05, 0.5, 0.1, 0.3, 0.2, 0.5, 0.25, 0.5)
#: Standard deviations between the scores of those with and without the outcome; where a row is flagged.
_APART, _FLAGGED = 1.5, 0.75
_TRUTH = {
    "fnr": float(norm.cdf(_FLAGGED - _APART)),
    "fpr": float(norm.sf(_FLAGGED)),
    "auroc": float(norm.cdf(_APART / math.sqrt(2))),
}
_MARGIN = 0.1


@dataclass(frozen=True)
class Share:
    """How often something happened that ought to happen at least, or at most, so often."""

    name: str
    samples: int
    share: float
    wanted: float
    at_least: bool

    @property
    def error(self) -> float:
        """Standard error of the share."""
        return math.sqrt(max(self.share * (1 - self.share), 1e-4) / self.samples)

    @property
    def holds(self) -> bool:
        """Whether it is as wanted, but for two standard errors."""
        off = self.wanted - self.share if self.at_least else self.share - self.wanted
        return off <= 2 * self.error


def draw(generator: np.random.Generator, positives: np.ndarray, negatives: np.ndarray) -> Rows:
    """Rows of groups with so many positives and negatives, each a subject of its own."""
    size = np.stack([positives, negatives], axis=1).ravel()
    label = np.repeat(np.tile([1, 0], len(positives)), size).astype(np.uint8)
    group = np.repeat(np.repeat(np.arange(len(positives)), 2), size)
    score = _APART * label + generator.standard_normal(len(label))
    return _rows(label, score, group, None)


def draw_groups(generator: np.random.Generator, repeated: bool) -> Rows:
    """The eight groups; where repeated, a subject's rows share the label and half of the score."""
    group = np.repeat(np.arange(len(_SIZES)), _SIZES)
    times = generator.integers(1, 6, len(group)) if repeated else np.ones(len(group), dtype=int)
    label = (generator.random(len(group)) < np.array(_PREVALENCES)[group]).astype(np.uint8)
    subject = np.repeat(np.arange(len(group)), times)
    shared, own = generator.standard_normal(len(group)), generator.standard_normal(len(subject))
    noise = (shared[subject] + own) / math.sqrt(2) if repeated else own
    score = _APART * label[subject] + noise
    return _rows(label[subject], score, group[subject], subject if repeated else None)


def held_together(simulations: int, seed: int, repeated: bool) -> Iterator[Share]:
    """Families of intervals that all hold, and Holm's alarms, over samples of the eight groups."""
    generator = np.random.default_rng([seed, 31, repeated])
    held, alarms = np.zeros(2), 0
    for turn in range(simulations):
        rows = draw_groups(generator, repeated)
        own, gaps = _families(rows)
        held += [_all_inside(own, turn), _all_inside(gaps, turn)]
        tables = tables_of(rows.segments(rows.grouping(["group"])), _threshold())
        adjusted = holm([permutation_p(tables, name, 500, turn) for name in ("fnr", "fpr")])
        alarms += any(p is not None and p <= _ALPHA for p in adjusted)
    who = "subjects of 1 to 5 rows" if repeated else "a row a subject"
    names = (f"own figures of every group hold together, {who}", f"differences hold together, {who}")
    for name, count in zip(names, held, strict=True):
        yield Share(name, simulations, float(count) / simulations, _LEVEL - 0.01, at_least=True)
    yield Share(f"permutation tests, alarm in any, {who}", simulations, alarms / simulations, _ALPHA, False)


def settled(simulations: int, seed: int) -> Iterator[Share]:
    """Undecided findings that a new sample with as many more cases as asked for decides."""
    generator = np.random.default_rng([seed, 32])
    policy = _policy()
    answers: dict[str, list[bool]] = {"group": [], "table": []}
    for _ in range(simulations):
        positives = np.array([generator.integers(200, 3000), generator.integers(10, 400)])
        negatives = 3 * positives
        findings = _judge(draw(generator, positives, negatives), policy)
        for finding in findings:
            if finding.verdict != INCONCLUSIVE or finding.needed is None or finding.level != "g1":
                continue
            grown = _grown(positives, finding)
            again = _judge(draw(generator, grown, 3 * grown), policy)
            verdict = next(one.verdict for one in again if one.level == "g1")
            answers[finding.needed.of].append(verdict != INCONCLUSIVE)
    for of, decided in answers.items():
        if decided:
            name = f"undecided, settled by as many more as needed ({of})"
            yield Share(name, len(decided), float(np.mean(decided)), _PROMISED, at_least=True)


def _grown(positives: np.ndarray, finding: TableFinding) -> np.ndarray:
    assert finding.needed is not None
    if finding.needed.of == "group":
        return positives + np.array([0, finding.needed.count])
    return np.ceil(positives * (1 + finding.needed.count / positives.sum())).astype(int)


def _policy() -> Policy:
    rule = {"id": "fnr", "metric": "fnr", "stat": "difference", "attribute": "group", "margin": _MARGIN}
    table = {"threshold": _threshold()}
    return Policy.model_validate({"schema": "clinimm.policy/1", "table": table, "rules": [rule]})


def _judge(rows: Rows, policy: Policy) -> tuple[TableFinding, ...]:
    return judge({"label": Study(rows, _threshold())}, policy).findings


def _families(rows: Rows) -> tuple[list[tuple[Contrast, float]], list[tuple[Contrast, float]]]:
    """Each group's own figures with the truth, and its differences from everybody else with theirs."""
    grouping = rows.grouping(["group"])
    figures = measure(rows.segments(grouping), _threshold(), list(_TRUTH))
    own = [
        (alone(figures[name], group), true) for name, true in _TRUTH.items() for group in range(grouping.size)
    ]
    gaps = []
    for group in range(grouping.size):
        rest = measure(rows.part(grouping, np.arange(grouping.size) != group), _threshold(), list(_TRUTH))
        gaps += [(difference(figures[name], group, rest[name]), 0.0) for name in _TRUTH]
    return own, gaps


def _all_inside(family: list[tuple[Contrast, float]], seed: int) -> bool:
    """Whether no interval of a family misses the truth; one that is not given misses nothing."""
    level = joint_level([contrast for contrast, _ in family], _LEVEL, 1000, seed)
    return not any(
        low > true + 1e-12 or high < true - 1e-12
        for (low, high), true in ((contrast.bounds(level), true) for contrast, true in family)
    )


def _rows(label: np.ndarray, score: np.ndarray, group: np.ndarray, subject: np.ndarray | None) -> Rows:
    names = tuple(f"g{number}" for number in range(group.max() + 1))
    return Rows(label, expit(score - 2.0), {"group": Coded(group, names)}, subject)


def _threshold() -> float:
    return float(expit(_FLAGGED - 2.0))


def main() -> int:
    """Print the shares; 1 where one is not as wanted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    start, found = time.process_time(), []
    print("| what | samples | share | standard error | wanted |\n|---|---|---|---|---|", flush=True)
    for row in _all(arguments.simulations, arguments.seed):
        wanted = f"{'at least' if row.at_least else 'at most'} {row.wanted:.2f}"
        line = f"| {row.name} | {row.samples} | {row.share:.3f} | {row.error:.3f} | {wanted} |"
        print(line, flush=True)
        found.append(row)
    good = all(row.holds for row in found)
    print(f"\n{'holds' if good else 'DOES NOT HOLD'}; {time.process_time() - start:.0f} processor seconds")
    return 0 if good else 1


def _all(simulations: int, seed: int) -> Iterator[Share]:
    yield from settled(simulations, seed)
    for repeated in (False, True):
        yield from held_together(simulations, seed, repeated)


if __name__ == "__main__":
    sys.exit(main())
