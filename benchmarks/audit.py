"""How long an audit of a table takes, beside fairlearn's MetricFrame, and whether both agree.

    python benchmarks/audit.py [--rounds N] [--rows N ...] [--peer-rows N] [--aequitas PYTHON]

Four attributes (6, 2, 6 and 4 levels) and a score. *Asked for*: every rate, AUROC with DeLong's
variance, Brier score, calibration error, intercept and slope with intervals, 1000 multinomial bootstrap
draws of four rates and a permutation test of 1000 draws, for each attribute. *Intersections*: every group
up to order four: *crossed rates*, counted measures with intervals and 1000 draws of four rates from one
joint count table, and all 17 measures. *Whole command*:
`clinimm audit-table` from dictionary-encoded Parquet to the content of its files, in this process.

fairlearn resamples rows: its time for 1000 draws is that of a few draws, scaled. On a small table it is
run to the end, and the ends of its percentile intervals are compared with those of the multinomial draws.
aequitas (crosstabs, disparities and parities, without any interval) needs pandas 2: give the PYTHON of an
environment that has it. *Counts* is our time for as much: the rates of each attribute, with intervals.
Processor seconds, one thread, best of N rounds; the load of the machine is printed. The limit is one sort
of the scores and one count of the rows for each attribute.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from scipy.special import expit

from clinimm.audit.engine.counts import Tables, tables_of
from clinimm.audit.engine.measures import counted, measure
from clinimm.audit.engine.resample import bootstrap_counts, permutation_p, rates_of
from clinimm.audit.engine.rows import Coded, Rows
from clinimm.audit.policy import Policy
from clinimm.audit.table.run import audit_table
from clinimm.audit.table.write import evidence

_LEVELS = {"race": 6, "sex": 2, "age_band": 6, "insurance": 4}
_RATES = ("fnr", "fpr", "ppv", "selection_rate")
_SCORES = ("auroc", "brier", "ece", "calibration_intercept", "calibration_slope")
_ASKED = (*_RATES, "sensitivity", "specificity", "npv", *_SCORES)
_DRAWS, _THRESHOLD = 1000, 0.3


def draw_rows(n: int, seed: int = 0) -> Rows:
    """A table whose groups do not differ."""
    generator = np.random.default_rng(seed)
    logit = generator.normal(-1.5, 1.3, n)
    label = (generator.random(n) < expit(0.8 * logit - 0.2)).astype(np.uint8)
    attributes = {
        name: Coded(
            generator.integers(0, count, n).astype(np.int8), tuple(f"{name} {k}" for k in range(count))
        )
        for name, count in _LEVELS.items()
    }
    return Rows(label, expit(logit), attributes)


def anew(work: Callable[[Rows], object], rows: Rows) -> None:
    """Do it on the same rows with nothing kept from an earlier round."""
    work(Rows(rows.label, rows.probability, rows.attributes))


def asked_for(rows: Rows) -> None:
    """What the issue names, for every attribute."""
    for name in rows.attributes:
        part = rows.segments(rows.grouping([name]))
        for figure in measure(part, _THRESHOLD, _ASKED).values():
            figure.bounds(0.95)
        tables = tables_of(part, _THRESHOLD)
        drawn = bootstrap_counts(tables, _DRAWS, 0)
        for rate in _RATES:
            np.quantile(rates_of(drawn, rate), [0.025, 0.975], axis=0)
        permutation_p(tables, "fnr", 1000, 0)


def intersections(rows: Rows) -> int:
    """All measures with intervals of every group and intersection; how many groups."""
    groups = 0
    for grouping in rows.groupings([1, 2, 3, 4]):
        for figure in measure(rows.segments(grouping), _THRESHOLD).values():
            figure.bounds(0.95)
        groups += grouping.size
    return groups


def crossed_rates(rows: Rows) -> None:
    """Rates with intervals and draws of every group and intersection, all from one joint count table."""
    counts = rows.atom_counts(_THRESHOLD)
    for grouping in rows.groupings([1, 2, 3, 4]):
        tables = Tables.of_atoms(rows, grouping, counts, _THRESHOLD)
        for name in (*_RATES, "sensitivity", "specificity", "npv", "net_benefit"):
            counted(tables, name).bounds(0.95)
        drawn = bootstrap_counts(tables, _DRAWS, 0)
        for name in _RATES:
            np.quantile(rates_of(drawn, name), [0.025, 0.975], axis=0)


def counts_only(rows: Rows) -> None:
    """Rates with intervals of each attribute: what a tool that only counts makes, and its intervals."""
    for name in rows.attributes:
        tables = Tables.of_atoms(rows, rows.grouping([name]), rows.atom_counts(_THRESHOLD), _THRESHOLD)
        for rate in (*_RATES, "sensitivity", "specificity", "npv"):
            counted(tables, rate).bounds(0.95)


def aequitas_seconds(rows: Rows, python: str, rounds: int) -> float:
    """aequitas' processor seconds on the same rows and attributes."""
    columns = {name: np.array(column.levels)[column.code] for name, column in rows.attributes.items()}
    columns |= {"score": (rows.probability >= _THRESHOLD).astype(int), "label_value": rows.label}
    script = Path(__file__).with_name("audit_aequitas.py")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        pd.DataFrame(columns).to_csv(path, index=False)
        command = [python, str(script), str(path), str(rounds)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(answer.stdout.split()[-1])


def write_table(rows: Rows, path: Path) -> None:
    """Dictionary-encoded Parquet."""
    columns = {
        "subject_id": pa.array(np.arange(rows.n)),
        "label": pa.array(rows.label),
        "probability": pa.array(rows.probability),
    }
    for name, column in rows.attributes.items():
        codes = pa.array(column.code.astype(np.int32))
        columns[name] = pa.DictionaryArray.from_arrays(codes, pa.array(column.levels))
    pyarrow.parquet.write_table(pa.table(columns), path)


def whole_command(path: Path) -> None:
    """Read, measure, judge and write, all in memory."""
    rule = {"id": "missed", "metric": "fnr", "stat": "difference", "attribute": list(_LEVELS), "margin": 0.05}
    table = {"threshold": _THRESHOLD, "draws": 1000, "permutations": 1000, "intersections": 2}
    policy = Policy.model_validate({"schema": "clinimm.policy/1", "table": table, "rules": [rule]})
    evidence(audit_table(path, policy), policy)


def limit(rows: Rows) -> None:
    """What nobody can leave out: sort the scores once, count every attribute's rows once."""
    np.argsort(rows.probability)
    flagged = rows.probability >= _THRESHOLD
    for column in rows.attributes.values():
        np.bincount((column.code.astype(np.int64) * 2 + rows.label) * 2 + flagged)


def best(work: Callable[[], object], rounds: int) -> float:
    """Least processor seconds of some rounds."""
    spent = []
    for _ in range(rounds):
        before = time.process_time()
        work()
        spent.append(time.process_time() - before)
    return min(spent)


def fairlearn_frame(rows: Rows, attribute: str, draws: int | None) -> object:
    """A MetricFrame of the four rates by one attribute."""
    from fairlearn.metrics import MetricFrame, false_negative_rate, false_positive_rate, selection_rate
    from sklearn.metrics import precision_score

    column = rows.attributes[attribute]
    more = {} if draws is None else {"n_boot": draws, "ci_quantiles": [0.025, 0.975], "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MetricFrame(
            metrics={
                "fnr": false_negative_rate,
                "fpr": false_positive_rate,
                "ppv": precision_score,
                "selection_rate": selection_rate,
            },
            y_true=rows.label.astype(int),
            y_pred=(rows.probability >= _THRESHOLD).astype(int),
            sensitive_features=np.array(column.levels)[column.code],
            **more,
        )


def peer_seconds(rows: Rows, draws: int = 3) -> float:
    """fairlearn's processor seconds for 1000 draws of all attributes, from so few."""
    total = 0.0
    for name in rows.attributes:
        plain = best(partial(fairlearn_frame, rows, name, None), 1)
        booted = best(partial(fairlearn_frame, rows, name, draws), 1)
        total += plain + max(booted - plain, 0.0) / draws * _DRAWS
    return total


def agreement(n: int) -> tuple[float, float, float, float]:
    """Largest distance of interval ends, its Monte Carlo error, and both times, on a run to the end."""
    rows = draw_rows(n)
    start = time.process_time()
    frame = fairlearn_frame(rows, "insurance", _DRAWS)
    theirs = time.process_time() - start
    low, high = (table.to_dict() for table in frame.by_group_ci)  # type: ignore[attr-defined]
    start = time.process_time()
    tables = tables_of(rows.segments(rows.grouping(["insurance"])), _THRESHOLD)
    drawn = bootstrap_counts(tables, _DRAWS, 0)
    ends = {rate: np.quantile(rates_of(drawn, rate), [0.025, 0.975], axis=0) for rate in _RATES}
    ours = time.process_time() - start
    levels = rows.attributes["insurance"].levels
    gap, error = 0.0, 0.0
    for rate in _RATES:
        spread = rates_of(drawn, rate).std(axis=0)
        for place, level in enumerate(levels):
            found = (
                abs(low[rate][level] - ends[rate][0][place]),
                abs(high[rate][level] - ends[rate][1][place]),
            )
            gap = max(gap, *found)
            # A 2.5 % quantile of 1000 normal draws has a standard error of 0.0844 standard deviations.
            error = max(error, float(spread[place]) * 0.0844 * np.sqrt(2))
    return gap, error, theirs, ours


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--peer-rows", type=int, default=1000)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--aequitas", metavar="PYTHON", help="an environment with aequitas and pandas 2")
    arguments = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}; processor seconds, one thread, best of {arguments.rounds}\n")
    print("| rows | asked for | limit | share | crossed rates | all measures | whole command | fairlearn |")
    print("|---|---|---|---|---|---|---|---|")
    counts: list[str] = []
    for n in arguments.rows:
        rows = draw_rows(n)
        bare = best(partial(limit, rows), arguments.rounds)
        asked = best(partial(anew, asked_for, rows), arguments.rounds)
        rates = best(partial(anew, crossed_rates, rows), arguments.rounds)
        crossed = best(partial(anew, intersections, rows), arguments.rounds)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "table.parquet"
            write_table(rows, path)
            whole = best(partial(whole_command, path), arguments.rounds)
        peer = "not run"
        if not arguments.no_peer and n <= 200_000:
            seconds = peer_seconds(rows)
            peer = f"{seconds:,.0f}, {seconds / asked:,.0f} times"
        cells = (
            f"{n:,}",
            f"{asked:.3f}",
            f"{bare:.3f}",
            f"{bare / asked:.0%}",
            f"{rates:.3f}",
            f"{crossed:.2f}",
        )
        print(f"| {' | '.join(cells)} | {whole:.2f} | {peer} |", flush=True)
        if arguments.aequitas:
            own = best(partial(anew, counts_only, rows), arguments.rounds)
            peers = aequitas_seconds(rows, arguments.aequitas, arguments.rounds)
            told = f"{n:,} rows, counts: aequitas {peers:.2f} s without intervals, ours {own:.4f} s with them"
            counts.append(f"{told}, {peers / own:,.0f} times.")
    for line in counts:
        print(f"\n{line}")
    groups = intersections(draw_rows(100_000))
    print(f"\nGroups and intersections: {groups}.")
    if not arguments.no_peer:
        gap, error, theirs, ours = agreement(arguments.peer_rows)
        print(
            f"To the end on {arguments.peer_rows:,} rows, one attribute, four rates: "
            f"fairlearn {theirs:.1f} s, ours {1e3 * ours:.1f} ms. Ends differ by at most {gap:.4f}; "
            f"the standard error of the difference of two ends from 1000 draws each is up to {error:.4f}."
        )


if __name__ == "__main__":
    main()
