"""Simulated models with known faults: which tool sees which fault, and which alarms where there is none.

    python benchmarks/planted_bias.py [--replicates N] [--aequitas PYTHON] [--out FILE]

Fifty models (``planted_models.py``), each drawn N times. Every tool gets the same table, threshold and margin
(0.05), once with the attributes and once with all their pairs as well:

    CliniMM rules    ``audit-table``'s verdict on FNR, FPR and observed less predicted: a fail
    CliniMM slices   the slice search at alpha 0.05; with each modality's own prediction as well, at a third
    CliniMM outcome  label validity at alpha 0.05, given an outcome that did not make the label
    fairlearn        MetricFrame: difference of FNR or FPR between any two groups above 0.05
    aequitas         parity of FNR or FPR with the largest group by the 80 % rule (needs pandas 2: give the
                     PYTHON of an environment that has it; left out otherwise)
    bootstrap        percentile interval of FNR or FPR, group less rest, 500 draws of rows: excludes 0

Tools that know no missing values get them as a level. Any alarm counts, on whatever group. Rows
are appended to FILE, and one that is there is not made again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from scipy.stats import beta

sys.path.insert(0, str(Path(__file__).parent))
from planted_models import KINDS, LEVELS, THRESHOLD, Planted, draw, models

from clinimm.audit.detect.label import label_validity
from clinimm.audit.detect.slices import find_slices
from clinimm.audit.engine.counts import tables_of
from clinimm.audit.engine.resample import bootstrap_counts, rates_of
from clinimm.audit.engine.rows import Coded, Rows
from clinimm.audit.policy import Policy
from clinimm.audit.table.judge import judge
from clinimm.audit.table.study import Study
from clinimm.audit.verdict import FAIL

_MARGIN, _ALPHA, _DRAWS = 0.05, 0.05, 299
_TOOLS = (
    "CliniMM rules",
    "CliniMM rules, pairs",
    "CliniMM slices",
    "CliniMM slices, each modality",
    "CliniMM outcome",
    "CliniMM rules (pairs) or any detector",
    "fairlearn > 0.05",
    "fairlearn > 0.05, pairs",
    "aequitas 80 %",
    "aequitas 80 %, pairs",
    "bootstrap",
    "bootstrap, pairs",
)
_PAIRS = [*LEVELS, *("*".join(pair) for pair in itertools.combinations(LEVELS, 2))]

Table = dict[str, np.ndarray]


def rows_of(table: Table, column: str = "probability") -> Rows:
    attributes = {}
    for name, levels in LEVELS.items():
        known, code = np.unique(np.where(table[name] == "", "(missing)", table[name]), return_inverse=True)
        assert set(known) <= {*levels, "(missing)"}
        attributes[name] = Coded(code.astype(np.int64), tuple(str(level) for level in known))
    return Rows(table["label"].astype(np.uint8), table[column], attributes)


def rules_fail(rows: Rows, groups: list[str]) -> bool:
    names = ("fnr", "fpr", "observed_less_predicted")
    rules = [
        {
            "id": name.replace("_", "-"),
            "metric": name,
            "stat": "difference",
            "attribute": groups,
            "margin": _MARGIN,
        }
        for name in names
    ]
    policy = Policy.model_validate(
        {"schema": "clinimm.policy/1", "table": {"threshold": THRESHOLD, "draws": 1000}, "rules": rules}
    )
    findings = judge({"": Study(rows, THRESHOLD)}, policy).findings
    return any(finding.verdict == FAIL for finding in findings)


def detectors(table: Table, rows: Rows, seed: int) -> dict[str, bool]:
    def sliced(which: Rows, alpha: float) -> bool:
        return find_slices(which, THRESHOLD, alpha=alpha, draws=_DRAWS, seed=seed).raised

    fused = sliced(rows, _ALPHA)
    thirds = [sliced(rows_of(table, column), _ALPHA / 3) for column in ("image", "record")]
    return {
        "CliniMM slices": fused,
        "CliniMM slices, each modality": any(thirds) or (fused and sliced(rows, _ALPHA / 3)),
        "CliniMM outcome": label_validity(rows, table["illness"], level=1 - _ALPHA).raised,
    }


def fairlearn_alarm(table: Table, groups: list[str]) -> bool:
    from fairlearn.metrics import MetricFrame, false_negative_rate, false_positive_rate

    metrics = {"fnr": false_negative_rate, "fpr": false_positive_rate}
    decision = (table["probability"] >= THRESHOLD).astype(int)
    for group in groups:
        crossed = np.array(
            ["".join(each) for each in zip(*(table[one] for one in group.split("*")), strict=True)]
        )
        frame = MetricFrame(
            metrics=metrics, y_true=table["label"], y_pred=decision, sensitive_features=crossed
        )
        if (frame.difference() > _MARGIN).any():
            return True
    return False


def bootstrap_alarm(rows: Rows, groups: list[str], seed: int) -> bool:
    for group in groups:
        tables = tables_of(rows.segments(rows.grouping(group.split("*"))), THRESHOLD)
        drawn = bootstrap_counts(tables, 500, seed)
        for rate in ("fnr", "fpr"):
            rest = rates_of(drawn.sum(axis=1, keepdims=True) - drawn, rate)
            gap = rates_of(drawn, rate) - rest
            with np.errstate(all="ignore"):
                low, high = np.nanquantile(gap, [0.025, 0.975], axis=0)
            if ((low > 0) | (high < 0)).any():
                return True
    return False


def one(model: Planted, replicate: int) -> dict[str, bool]:
    table = draw(model, replicate)
    rows = rows_of(table)
    found = {
        "CliniMM rules": rules_fail(rows, list(LEVELS)),
        "CliniMM rules, pairs": rules_fail(rows, _PAIRS),
    } | detectors(table, rows, replicate)
    found["CliniMM rules (pairs) or any detector"] = (
        found["CliniMM rules, pairs"] or found["CliniMM slices, each modality"] or found["CliniMM outcome"]
    )
    for suffix, groups in (("", list(LEVELS)), (", pairs", _PAIRS)):
        found[f"fairlearn > 0.05{suffix}"] = fairlearn_alarm(table, groups)
        found[f"bootstrap{suffix}"] = bootstrap_alarm(rows, groups, replicate)
    return {name: bool(value) for name, value in found.items()}


def key(model: Planted, replicate: int) -> str:
    return f"{model.kind}/{model.name}/{model.n}/{replicate}"


def run(out: Path, replicates: int, said: Callable[[str], None]) -> None:
    done = set(read(out))
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a", encoding="utf-8") as stream:
        for replicate in range(replicates):
            for model in models():
                name = key(model, replicate)
                if name not in done:
                    row = {"key": name, "kind": model.kind, "n": model.n, "alarms": one(model, replicate)}
                    stream.write(json.dumps(row) + "\n")
                    stream.flush()
            said(f"replicate {replicate + 1} of {replicates}")


def read(path: Path) -> dict[str, dict]:
    if not path.is_file():
        return {}
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found: dict[str, dict] = {}
    for row in rows:
        found.setdefault(row["key"], row | {"alarms": {}})["alarms"].update(row["alarms"])
    return found


def interval(alarms: int, n: int) -> tuple[float, float]:
    """Clopper and Pearson."""
    low = 0.0 if alarms == 0 else float(beta.ppf(0.025, alarms, n - alarms + 1))
    return low, 1.0 if alarms == n else float(beta.ppf(0.975, alarms + 1, n - alarms))


def markdown(rows: Iterable[dict]) -> str:
    """Share of alarms of each tool by kind of fault, with interval and n."""
    rows = list(rows)
    counts = {kind: sum(row["kind"] == kind for row in rows) for kind in KINDS}
    head = ["tool", *(f"{kind} (n {counts[kind]})" for kind in KINDS)]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for tool in _TOOLS:
        cells = [tool]
        for kind in KINDS:
            said = [row["alarms"][tool] for row in rows if row["kind"] == kind and tool in row["alarms"]]
            if not said:
                cells.append("")
                continue
            low, high = interval(sum(said), len(said))
            cells.append(f"{np.mean(said):.2f} ({low:.2f}–{high:.2f})")
        if any(cells[1:]):
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def by_model(rows: Iterable[dict]) -> str:
    """The same for each model, of CliniMM's tools alone: where it misses."""
    rows = list(rows)
    tools = _TOOLS[:6]
    lines = [f"| model | n | draws | {' | '.join(tool.removeprefix('CliniMM ') for tool in tools)} |"]
    lines.append(f"|{'---|' * (3 + len(tools))}")
    for model in models():
        own = [row for row in rows if row["key"].startswith(f"{model.kind}/{model.name}/{model.n}/")]
        if own:
            shares = [f"{sum(row['alarms'][tool] for row in own)}" for tool in tools]
            lines.append(f"| {model.kind}: {model.name} | {model.n} | {len(own)} | {' | '.join(shares)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--replicates", type=int, default=10)
    parser.add_argument("--aequitas", metavar="PYTHON", help="an environment with aequitas and pandas 2")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/planted_bias.jsonl"))
    asked = parser.parse_args()
    run(asked.out, asked.replicates, lambda text: print(text, file=sys.stderr, flush=True))
    if asked.aequitas:
        script = Path(__file__).with_name("planted_aequitas.py")
        subprocess.run([asked.aequitas, str(script), str(asked.replicates), str(asked.out)], check=True)
    rows = read(asked.out).values()
    print(markdown(rows))
    print()
    print(by_model(rows))
    clean = [row["alarms"] for row in rows if row["kind"] == "none"]
    bounded = ("CliniMM rules", "CliniMM rules, pairs", "CliniMM slices", "CliniMM outcome")
    worst = {tool: interval(sum(row[tool] for row in clean), len(clean))[0] for tool in bounded}
    return int(any(low > _ALPHA for low in worst.values()))


if __name__ == "__main__":
    raise SystemExit(main())
