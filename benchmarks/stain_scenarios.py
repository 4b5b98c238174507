"""What whole runs for virtual staining say of simulated hospitals whose truth is known.

    .venv/bin/python benchmarks/stain_scenarios.py [SCENARIO ...] [--seed N] [--out FILE]

Each row is one hospital, simulated, ingested, registered, trained on, stained, measured and audited by the
product's own stages (only the MLflow registry and the pages are left out), on one thread. Where the stain
follows from the slide it must be found learnable, where it is a toss for each nucleus it must not, and where
a fact of the record decides it, the record must be shown to add something. Rows are appended to ``--out``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scenarios import private_machine

ROOT = Path(__file__).parents[1]
PIPELINE = ROOT / "pipelines" / "virtual_staining.yaml"
#: The measures on which a verdict rests.
DECIDING = ("region_correlation", "cell_auroc", "dice")
_ALWAYS = ("ingest.workers=1", "ingest.validate_fhir=none", "explain.subjects=1", "report.patients=0")

Stains = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Plan:
    """How one scenario is run.

    Attributes:
        subjects: patients of the hospital.
        fractions: of the split by subject; "not learnable" needs held-out subjects, a record's effect
            needs subjects to learn it from.
        steps: of training, a member.
        shows: what it must show, in words.
        holds: whether the stains' results show it.
    """

    subjects: int
    fractions: dict[str, float]
    steps: int
    shows: str
    holds: Callable[[Stains], bool]


def _verdicts(stains: Stains) -> set[str]:
    return {stain["verdict"] for stain in stains.values()}


def _record_helps(stains: Stains) -> bool:
    """The interval of a deciding measure of Ki-67 lies above zero, and that of cytokeratin's does not."""
    helped = {
        name: any(gain["low"] is not None and gain["low"] > 0 for gain in stain["record_adds"].values())
        for name, stain in stains.items()
    }
    return helped["KI67"] and not helped["PANCK"]


_MANY_HELD_OUT = {"train": 0.35, "tuning": 0.15, "held_out": 0.5}
PLANS = {
    "stain_determined": Plan(
        40, _MANY_HELD_OUT, 300, "both stains learnable", lambda stains: _verdicts(stains) == {"learnable"}
    ),
    "stain_undetermined": Plan(
        40,
        _MANY_HELD_OUT,
        300,
        "no stain learnable",
        lambda stains: "learnable" not in _verdicts(stains),
    ),
    "stain_by_record": Plan(
        100,
        {"train": 0.6, "tuning": 0.15, "held_out": 0.25},
        600,
        "the record adds to KI67, not to PANCK",
        _record_helps,
    ),
}


def write_cohort(folder: Path, fractions: dict[str, float]) -> Path:
    """The pipeline's cohort file with another split."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    value = yaml.load((PIPELINE.parent / "cohorts" / "virtual_staining.yaml").read_text(encoding="utf-8"))
    value["split"] = {"kind": "subject", "fractions": dict(fractions)}
    path = folder / "cohort.yaml"
    with path.open("w", encoding="utf-8") as stream:
        yaml.dump(value, stream)
    return path


def do(scenario: str, seed: int, work: Path | None, settings: Sequence[str]) -> dict[str, Any]:
    """One row, in a folder that is removed afterwards."""
    from clinimm.config import load_pipeline
    from clinimm.cost import measured
    from clinimm.pipeline import run_pipeline
    from clinimm.progress import Progress
    from clinimm.provenance import code_version
    from clinimm.simulate.hospital import simulate
    from clinimm.workspace import Workspace

    plan = PLANS[scenario]
    overrides = [f"staining.steps={plan.steps}", *_ALWAYS, *settings]
    with tempfile.TemporaryDirectory(dir=work, prefix="stain-") as name, measured() as cost:
        folder = Path(name)
        with private_machine(folder):
            progress = Progress(quiet=False)
            simulate(folder / "hospital", plan.subjects, seed, scenario, progress, workers=1)
            own = [f"runs_dir={folder / 'runs'}", f"cohort={write_cohort(folder, plan.fractions)}"]
            sources = f"sources=[{{kind: local, root: '{folder / 'hospital'}'}}]"
            config = load_pipeline(PIPELINE, [*own, sources, f"seed={seed}", *overrides])
            run_pipeline(config, until_stage="audit", progress=progress)
            stains = read_run(Workspace(config).root)
    row = {"scenario": scenario, "seed": seed, "code": code_version(), "overrides": overrides}
    return {
        **row,
        "plan": {**asdict(plan), "holds": plan.holds(stains)},
        "stains": stains,
        "cost": dict(cost),
    }


def read_run(run: Path) -> Stains:
    """What a finished run says of each stain: verdict, deciding measures, and what the record adds."""
    metrics = json.loads((run / "evaluate" / "metrics.json").read_text(encoding="utf-8"))
    found = {}
    for name, stain in metrics["stains"].items():
        verdict = stain["verdict"]
        adds = stain.get("record_adds") or {}
        found[name] = {
            "subjects": stain["subjects"],
            "verdict": verdict["key"],
            "sentence": verdict["sentence"],
            "warnings": verdict.get("warnings", []),
            "record_adds": {measure: adds[measure] for measure in DECIDING if measure in adds},
        }
    return found


def words(row: dict[str, Any]) -> str:
    """A row for people."""
    answer = "holds" if row["plan"]["holds"] else "DOES NOT HOLD"
    cost = f"{row['cost']['cpu_seconds'] / 60:.0f} CPU min"
    lines = [f"{row['scenario']}, seed {row['seed']}: must show {row['plan']['shows']}: {answer} ({cost})"]
    for name, stain in row["stains"].items():
        lines.append(f"  {name}, n = {stain['subjects']}: {stain['sentence']}")
        lines += [f"    {text}" for text in stain["warnings"]]
        for measure, gain in stain["record_adds"].items():
            lines.append(
                f"    the record adds to {measure}: {_number(gain['value'])} ({_number(gain['low'])} to "
                f"{_number(gain['high'])}), n = {gain['n']}"
            )
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("scenario", nargs="*", metavar="SCENARIO", help=f"of {', '.join(PLANS)}; all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "benchmarks" / "stain_scenarios.jsonl")
    parser.add_argument("--work", type=Path, help="folder for the hospitals; default is the system's")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another setting")
    given = parser.parse_args()
    if unknown := sorted(set(given.scenario) - set(PLANS)):
        parser.error(f"unknown scenario {', '.join(unknown)}; known are {', '.join(PLANS)}")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    failed = False
    for scenario in given.scenario or PLANS:
        row = do(scenario, given.seed, given.work, given.set)
        with given.out.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        print(words(row), flush=True)
        failed |= not row["plan"]["holds"]
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
