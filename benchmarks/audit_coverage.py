"""Whether the audit's 95 % intervals hold what they say, and whether equal error rates raise an alarm.

    python benchmarks/audit_coverage.py [--simulations N] [--seed S] [--only MEASURE ...]

Rates, their differences and ratios by exact enumeration of every possible outcome, for 5 to 500 positives
and rates of 1 to 50 %; beside them what a percentile bootstrap and a Wald interval would cover. AUROC,
average precision, Brier score, calibration and net benefit by simulation of rows with a known law, for
expected positives of 5 to 500 and prevalences of 1 to 50 %, well calibrated and not. Then groups with
equal error rates and unequal prevalence: how often the audit's permutation test and its simultaneous
intervals call that a difference, beside the test of shares of all rows that a tool in use makes. The exit
status is 1 where an interval covers less than 94 % (less two standard errors where simulated) or the
false alarms exceed alpha likewise.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TextIO

import numpy as np
from scipy.special import expit
from scipy.stats import binom, chi2_contingency, norm

from clinimm.audit.engine.calibration import CalibrationOf
from clinimm.audit.engine.compare import difference, joint_level
from clinimm.audit.engine.counts import tables_of
from clinimm.audit.engine.intervals import clopper_pearson, mover_difference, mover_ratio
from clinimm.audit.engine.measures import measure
from clinimm.audit.engine.resample import permutation_p
from clinimm.audit.engine.rows import Coded, Rows, Segments

_LEVEL, _WANTED = 0.95, 0.94
_SIZES = (5, 10, 20, 50, 100, 200, 500)
_ROWS_AT_ONCE = 4_000_000
_RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
_SIMULATED = (
    "auroc", "auprc", "brier", "ece", "observed_less_predicted", "calibration_intercept",
    "calibration_slope", "net_benefit", "net_benefit_less_treat_all",
)  # fmt: skip


@dataclass(frozen=True)
class Held:
    """How often an interval covered: the worst place of a grid, and the mean.

    Attributes:
        name: of the interval.
        places: of the grid.
        worst: least share covered, and ``where``.
        mean: share covered over the grid.
        slack: two standard errors of ``worst``, 0 where it is exact.
        width: mean width over the grid, NaN where it was not looked at.
    """

    name: str
    places: int
    worst: float
    where: str
    mean: float
    slack: float = 0.0
    width: float = math.nan

    @property
    def holds(self) -> bool:
        """Whether the worst place covers what is wanted, but for the simulation's own error."""
        return self.worst >= _WANTED - self.slack


def _worst(name: str, found: dict[str, float], slack: Callable[[float], float] = lambda value: 0.0) -> Held:
    where = min(found, key=found.__getitem__)
    values = np.array(list(found.values()))
    return Held(name, len(values), float(values.min()), where, float(values.mean()), slack(values.min()))


def exact_rates() -> Iterator[Held]:
    """One rate: every count of events, weighted by its probability."""
    for name, ends in (
        ("rate, Clopper-Pearson (ours)", lambda k, n: clopper_pearson(k, np.full(len(k), n), _LEVEL)),
        ("rate, percentile bootstrap", _percentile),
        ("rate, Wald", _wald),
    ):
        found = {}
        for n, p in itertools.product(_SIZES, _RATES):
            k = np.arange(n + 1.0)
            low, high = ends(k, n)
            inside = (low <= p + 1e-12) & (p <= high + 1e-12)
            found[f"n={n}, p={p}"] = float(binom.pmf(k, n, p)[inside].sum())
        yield _worst(name, found)


def exact_pairs() -> Iterator[Held]:
    """Difference and ratio of two independent rates: every pair of counts."""
    differences, ratios = {}, {}
    for n, m in itertools.product(_SIZES, _SIZES):
        first, second = _with_ends(n, True), _with_ends(m, False)
        low, high = mover_difference(first, second)
        with np.errstate(all="ignore"):
            least, most = mover_ratio(first, second)
        for p, q in itertools.product(_RATES, _RATES):
            weight = binom.pmf(np.arange(n + 1), n, p)[:, None] * binom.pmf(np.arange(m + 1), m, q)[None]
            where = f"n={n}, p={p} against n={m}, p={q}"
            differences[where] = float(weight[(low <= p - q + 1e-12) & (p - q <= high + 1e-12)].sum())
            inside = (least <= p / q + 1e-12) & (p / q <= most + 1e-12)
            ratios[where] = float(weight[inside].sum())
    yield _worst("difference of rates, MOVER (ours)", differences)
    yield _worst("ratio of rates, MOVER (ours)", ratios)


def simulated(
    simulations: int,
    seed: int,
    names: Sequence[str] = _SIMULATED,
    most_rows: int = 12_000,
    progress: TextIO | None = None,
) -> Iterator[Held]:
    """Figures of scores: each simulation is a group of one table; tables are made one after the other.

    Args:
        simulations: of each place of the grid.
        seed: of the draws.
        names: measures.
        most_rows: places that need more are left out.
        progress: where each place is told when it is done, so that a stopped run has told something.
    """
    found: dict[str, dict[str, float]] = {name: {} for name in names}
    reported: dict[str, list[float]] = {name: [] for name in names}
    widths: dict[str, list[float]] = {name: [] for name in names}
    for positives, prevalence in itertools.product(_SIZES, (0.01, 0.05, 0.2, 0.5)):
        rows = round(positives / prevalence)
        if rows > most_rows or rows < 2 * positives:
            continue
        for law in ((1.0, 0.0), (0.6, -0.3), (1.4, 0.3)):
            generator = np.random.default_rng([seed, positives, round(100 * prevalence), round(10 * law[0])])
            totals = {name: np.zeros(3) for name in names}  # known, inside, summed width
            left = simulations
            while left > 0:
                some = min(left, max(1, _ROWS_AT_ONCE // rows))
                for name, counts in _covered(_draw(generator, some, rows, prevalence, *law), law, names):
                    totals[name] += counts
                left -= some
            where = f"positives~{positives}, prevalence {prevalence}, slope {law[0]}"
            for name, (known, inside, width) in totals.items():
                reported[name].append(known / simulations)
                if known >= 0.5 * simulations:
                    found[name][where] = inside / known
                    widths[name].append(width / known)
            if progress is not None:
                covered = ", ".join(f"{name} {found[name].get(where, math.nan):.4f}" for name in names)
                print(f"{where}: {covered}", file=progress, flush=True)
    for name in names:
        error = lambda value: 2 * math.sqrt(value * (1 - value) / simulations)  # noqa: E731
        held = _worst(f"{name} (reported in {np.mean(reported[name]):.0%})", found[name], error)
        yield replace(held, width=float(np.mean(widths[name])))


def _covered(
    drawn: tuple[dict[str, np.ndarray | float], Segments], law: tuple[float, float], names: Sequence[str]
) -> Iterator[tuple[str, np.ndarray]]:
    """Of each measure, how many simulations have an interval, how many hold the truth, and summed widths."""
    truth, part = drawn
    figures = measure(part, 0.2, names)
    for name in names:
        low, high = figures[name].bounds(_LEVEL)
        known = ~np.isnan(low)
        true = _true_ece(part, *law) if name == "ece" else truth[name]
        inside = known & (low <= true) & (true <= high)
        yield name, np.array([known.sum(), inside.sum(), (high - low)[known].sum()])


def false_alarms(simulations: int, seed: int) -> list[tuple[str, float, bool]]:
    """Groups with equal sensitivity and specificity and prevalence of 10 and 50 %."""
    generator = np.random.default_rng([seed, 77])
    alarms = {
        "permutation test (ours)": 0,
        "simultaneous interval without 0 (ours)": 0,
        "test of FN over all rows": 0,
    }
    for turn in range(simulations):
        rows = _equal_rows(generator)
        grouping = rows.grouping(["group"])
        part = rows.segments(grouping)
        tables = tables_of(part, 0.5)
        p_value = permutation_p(tables, "fnr", 500, turn)
        alarms["permutation test (ours)"] += p_value is not None and p_value <= 0.05
        figures = measure(part, 0.5, ["fnr", "fpr"])
        contrasts = []
        for group in range(grouping.size):
            rest = measure(rows.part(grouping, np.arange(grouping.size) != group), 0.5, ["fnr", "fpr"])
            contrasts += [difference(figures[name], group, rest[name]) for name in ("fnr", "fpr")]
        level = joint_level(contrasts, _LEVEL, 1000, turn)
        ends = [contrast.bounds(level) for contrast in contrasts]
        alarms["simultaneous interval without 0 (ours)"] += any(low > 0 or high < 0 for low, high in ends)
        missed = tables.counts[:, 1, 0]
        table = np.array([missed, part.size - missed])
        alarms["test of FN over all rows"] += chi2_contingency(table).pvalue <= 0.05
    slack = 2 * math.sqrt(0.05 * 0.95 / simulations)
    return [
        (name, count / simulations, "ours" not in name or count / simulations <= 0.05 + slack)
        for name, count in alarms.items()
    ]


def main() -> int:
    """Print every table; 1 where something does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=_SIMULATED, help="simulate these measures alone")
    arguments = parser.parse_args()
    start = time.process_time()
    exact = [] if arguments.only else [*exact_rates(), *exact_pairs()]
    names = arguments.only or _SIMULATED
    rows = exact + list(simulated(arguments.simulations, arguments.seed, names, progress=sys.stderr))
    print("| 95 % interval | places | worst coverage | two standard errors | where | mean | mean width |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        error = f"{row.slack:.4f}" if row.slack else "exact"
        width = "" if math.isnan(row.width) else f"{row.width:.3f}"
        cells = (row.name, row.places, f"{row.worst:.4f}", error, row.where, f"{row.mean:.3f}", width)
        print(f"| {' | '.join(map(str, cells))} |")
    alarms = [] if arguments.only else false_alarms(arguments.simulations, arguments.seed)
    if alarms:
        print("\n| equal error rates, prevalence 10 and 50 %: alarm at 5 % | share of samples |\n|---|---|")
    for name, share, _ in alarms:
        print(f"| {name} | {share:.3f} |")
    peers = ("rate, percentile bootstrap", "rate, Wald")
    good = all(row.holds for row in rows if row.name not in peers) and all(fine for *_, fine in alarms)
    print(f"\n{'holds' if good else 'DOES NOT HOLD'}; {time.process_time() - start:.0f} processor seconds")
    return 0 if good else 1


def _with_ends(n: int, down: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    k = np.arange(n + 1.0)
    low, high = clopper_pearson(k, np.full(n + 1, float(n)), _LEVEL)
    shape = (-1, 1) if down else (1, -1)
    return (k / n).reshape(shape), low.reshape(shape), high.reshape(shape)


def _percentile(k: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    return binom.ppf(0.025, n, k / n) / n, binom.ppf(0.975, n, k / n) / n


def _wald(k: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    half = norm.ppf(0.975) * np.sqrt(k / n * (1 - k / n) / n)
    return k / n - half, k / n + half


def _law(prevalence: float, slope: float, shift: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits on a grid, their weights and the true risk, so that so many have the outcome."""
    spread = 1.3
    unit = np.linspace(-7, 7, 8001)
    weight = norm.pdf(unit)
    weight /= weight.sum()
    low, high = -12.0, 8.0
    for _ in range(60):
        middle = (low + high) / 2
        less = float(weight @ expit(shift + slope * (middle + spread * unit))) < prevalence
        low, high = (middle, high) if less else (low, middle)
    x = middle + spread * unit
    return x, weight, expit(shift + slope * x)


def _draw(  # the law of a simulation
    generator: np.random.Generator, simulations: int, rows: int, prevalence: float, slope: float, shift: float
) -> tuple[dict[str, np.ndarray | float], Segments]:
    x, weight, risk = _law(prevalence, slope, shift)
    drawn = x[4000] + 1.3 * generator.standard_normal((simulations, rows))
    label = (generator.random(drawn.shape) < expit(shift + slope * drawn)).astype(np.uint8)
    group = np.repeat(np.arange(simulations), rows)
    coded = Coded(group, tuple(str(number) for number in range(simulations)))
    table = Rows(label.ravel(), expit(drawn).ravel(), {"simulation": coded})
    predicted, flagged = expit(x), expit(x) >= 0.2
    of_positive, of_negative = weight * risk, weight * (1 - risk)
    true_positive = np.cumsum(of_positive[::-1])[::-1]
    precision = true_positive / (true_positive + np.cumsum(of_negative[::-1])[::-1])
    below = np.cumsum(of_negative) - of_negative / 2
    benefit = float(of_positive[flagged].sum() - of_negative[flagged].sum() * 0.25)
    in_the_large = np.linspace(-3, 3, 60001)
    expected = np.array([weight @ expit(shift_by + x) for shift_by in in_the_large[::100]])
    truth: dict[str, np.ndarray | float] = {
        "auroc": float(of_positive @ below / of_positive.sum() / of_negative.sum()),
        "auprc": float(of_positive @ precision / of_positive.sum()),
        "brier": float(weight @ (risk * (1 - predicted) ** 2 + (1 - risk) * predicted**2)),
        "calibration_slope": slope,
        "calibration_intercept": float(np.interp(prevalence, expected, in_the_large[::100])),
        "net_benefit": benefit,
        "net_benefit_less_treat_all": benefit - float(of_positive.sum() - of_negative.sum() * 0.25),
    }
    part = table.segments(table.grouping(["simulation"]))
    given = part.total(expit(shift + slope * part.logit)) - part.total(part.probability)
    truth["observed_less_predicted"] = given / part.size
    return truth, part


def _true_ece(part: Segments, slope: float, shift: float) -> np.ndarray:
    """The error over each group's own bins, given the scores."""
    edge, bins = CalibrationOf(part).bin_edges()
    off = np.concatenate([[0.0], np.cumsum(expit(shift + slope * part.logit) - part.probability)])
    summed = np.abs(np.diff(off[edge]))
    return np.bincount(np.repeat(np.arange(part.groups), bins), summed, minlength=part.groups) / part.size


def _equal_rows(generator: np.random.Generator) -> Rows:
    group = np.repeat([0, 1, 2], [400, 400, 1200])
    label = (generator.random(2000) < np.array([0.1, 0.5, 0.1])[group]).astype(np.uint8)
    flagged = generator.random(2000) < np.where(label == 1, 0.8, 0.1)
    return Rows(label, np.where(flagged, 0.9, 0.1), {"group": Coded(group, ("a", "b", "c"))})


if __name__ == "__main__":
    sys.exit(main())
