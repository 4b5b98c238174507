"""What whole runs find in simulated hospitals whose truth is known: does the platform say what it should?

    .venv/bin/python benchmarks/scenarios.py [SCENARIO ...] [--seeds N] [--subjects N] [--workers N]

Each row is one hospital, simulated, ingested, cut, encoded, trained on, predicted, evaluated, audited and
reported by the product's own stages (only the MLflow registry is left out). Rows are appended to ``--out``
as JSON lines; a row of the same code and settings is not made again, so a run that was stopped goes on.
The summary is a Markdown table. ``late_signal`` is run a second time with the guard of law 1 cut out: a patch
that lives here (``without_guard``) and that the product has no switch for.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).parents[1]
PIPELINE = ROOT / "pipelines" / "demo.yaml"
#: A fixed key, so that the split of a simulated hospital is the same on every machine.
KEY = "a key for people who do not exist"
#: Later than every late fact of the simulator, earlier than every outcome.
LATER = timedelta(days=2)
_HALF = {"train": 0.5, "tuning": 0.1, "held_out": 0.4}
#: The demonstration's pipeline made cheap: coarser pictures, one tile, one network, fewer epochs.
CHEAP = (
    "modalities.radiology.encoder.options.size=96",
    "modalities.pathology.encoder.options.max_tiles=1",
    "model.members=1",
    "train.epochs=30",
    "train.patience=10",
)
_WITHOUT_SLIDES = (*CHEAP, "modalities.pathology.enabled=false")
_ALWAYS = (
    "ingest.workers=1",
    "ingest.validate_fhir=none",
    "train.workers=1",
    "explain.subjects=1",
    "explain.steps=4",
    "report.patients=0",
)


@dataclass(frozen=True)
class Plan:
    """How one scenario is run.

    Attributes:
        subjects: patients of the hospital.
        seeds: how many hospitals.
        settings: overrides of the demonstration's pipeline file.
        fractions: of the split; None is the demonstration's own.
        light_from: seeds from here on leave the slides out, to be cheaper; None is never.
        cut: also run without the guard of law 1.
    """

    subjects: int
    seeds: int
    settings: tuple[str, ...] = CHEAP
    fractions: dict[str, float] | None = None
    light_from: int | None = None
    cut: bool = False


PLANS = {
    "synergy": Plan(400, 3, settings=()),
    "late_signal": Plan(200, 3, fractions=_HALF, cut=True),
    "null": Plan(100, 20, fractions=_HALF, light_from=5),
    "missing_not_at_random": Plan(200, 3, fractions=_HALF),
    "site_shortcut": Plan(200, 3, fractions=_HALF),
    "subgroup_shift": Plan(500, 3, fractions=_HALF),
}


@dataclass(frozen=True)
class Job:
    """One hospital and its run."""

    scenario: str
    seed: int
    plan: Plan

    @property
    def overrides(self) -> tuple[str, ...]:
        """The settings of this seed."""
        light = self.plan.light_from is not None and self.seed >= self.plan.light_from
        return (*(_WITHOUT_SLIDES if light else self.plan.settings), *_ALWAYS)

    def key(self, code: str) -> str:
        """What makes two rows the same: code, settings, scenario and seed."""
        from clinimm.core.record import digest_json

        return digest_json(json.loads(json.dumps([code, asdict(self), self.overrides])))


@contextmanager
def without_guard(later: timedelta = LATER) -> Iterator[None]:
    """Break law 1: whatever asks what was known at the index time gets what was known ``later``."""
    from clinimm import controls, encode
    from clinimm.cohort.window import visible

    def leaking(events: Any, cohort: Any, spec: Any, modality: str) -> Any:
        return visible(events, cohort.assign(index_time=cohort["index_time"] + later), spec, modality)

    with mock.patch.object(encode, "visible", leaking), mock.patch.object(controls, "visible", leaking):
        yield


def write_cohort(folder: Path, fractions: dict[str, float] | None) -> Path:
    """The demonstration's cohort file, with another split where ``fractions`` asks for one."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    value = yaml.load((PIPELINE.parent / "cohorts" / "demo.yaml").read_text(encoding="utf-8"))
    if fractions is not None:
        value["split"] = {"kind": "subject", "fractions": dict(fractions)}
    path = folder / "cohort.yaml"
    with path.open("w", encoding="utf-8") as stream:
        yaml.dump(value, stream)
    return path


def run_whole(folder: Path, name: str, overrides: Sequence[str], fractions: dict[str, float] | None) -> Path:
    """Run every stage but the registry over ``folder/hospital``; the run's folder."""
    from clinimm.config import load_pipeline
    from clinimm.pipeline import run_pipeline, run_stage
    from clinimm.progress import QUIET
    from clinimm.workspace import Workspace

    own = (f"name={name}", f"runs_dir={folder / 'runs'}", f"cohort={write_cohort(folder, fractions)}")
    sources = f"sources=[{{kind: local, root: '{folder / 'hospital'}'}}]"
    config = load_pipeline(PIPELINE, (*own, sources, *overrides))
    run_pipeline(config, until_stage="audit", progress=QUIET)
    run_stage(config, "report", QUIET)
    return Workspace(config).root


@contextmanager
def private_machine(folder: Path) -> Iterator[None]:
    """One thread, a fixed pseudonym key, and nothing written into the user's configuration."""
    import torch

    torch.set_num_threads(1)
    settings = {"CLINIMM_PSEUDONYM_KEY": KEY, "XDG_CONFIG_HOME": str(folder / "config")}
    with mock.patch.dict(os.environ, settings):
        yield


def do(job: Job, work: Path | None = None) -> dict[str, Any]:
    """Make one row, in a folder that is removed afterwards."""
    from clinimm.cost import measured
    from clinimm.provenance import code_version
    from clinimm.simulate.hospital import simulate

    with tempfile.TemporaryDirectory(dir=work, prefix="scenario-") as name, measured() as cost:
        folder = Path(name)
        with private_machine(folder):
            start = time.process_time()
            simulate(folder / "hospital", job.plan.subjects, job.seed, job.scenario, workers=1)
            simulating = time.process_time() - start
            found = read_run(run_whole(folder, "run", job.overrides, job.plan.fractions))
            if job.plan.cut:
                with without_guard():
                    cut = run_whole(folder, "cut", job.overrides, job.plan.fractions)
                leaked = read_run(cut)
                trees = leaked["controls"]["gradient_boosting"]
                found["without_guard"] = {**leaked["fused"], "gradient_boosting": trees["value"]}
    code = code_version()
    row = {"scenario": job.scenario, "seed": job.seed, "key": job.key(code), "code": code}
    found["cpu_seconds"] = {"simulate": round(simulating, 1), **found["cpu_seconds"]}
    return {**row, "subjects": job.plan.subjects, "overrides": list(job.overrides), **found, "cost": cost}


def read_run(run: Path) -> dict[str, Any]:
    """What a finished run says, as the plain values of a row."""
    metrics = json.loads((run / "evaluate" / "metrics.json").read_text(encoding="utf-8"))
    controls = {row["control"]: _interval(row["auroc"]) for row in metrics["controls"]}
    singles = {row["control"]: row["auroc"]["value"] or 0.0 for row in metrics["controls"]}
    singles = {name: value for name, value in singles.items() if name.startswith(("single:", "linear:"))}
    best = max(sorted(singles), key=singles.__getitem__)
    gaps = {row["against"]: row for row in metrics["comparisons"]}
    audit = json.loads((run / "audit" / "audit.json").read_text(encoding="utf-8"))
    card = (run / "report" / "model_card.html").read_text(encoding="utf-8")
    verdict = metrics["verdict"]
    return {
        "n": metrics["n"],
        "positives": metrics["positives"],
        "fused": _interval(metrics["fused"]["auroc"]),
        "best_single": {"name": best, **controls[best]},
        "difference": _interval(gaps[best], "difference") if best in gaps else None,
        "controls": controls,
        "verdict": verdict["key"],
        "sentence": verdict["sentence"],
        "model": verdict["recommendation"]["model"],
        "alarms": [name for name in ("missingness_only", "metadata_only") if _low(controls, name) > 0.5],
        "loud": "WARNING" in verdict["sentence"],
        "said_on_card": [text for text in verdict["warnings"] if text in card],
        "audit": [
            {key: row[key] for key in ("rule", "level", "value", "low", "high", "verdict")}
            for row in audit["findings"]
            if row["attribute"] == "sex"
        ],
        "cpu_seconds": {
            stage.parent.name: json.loads(stage.read_text(encoding="utf-8"))["cost"]["cpu_seconds"]
            for stage in sorted(run.glob("*/record.json"))
        },
    }


def _interval(figure: dict[str, Any], value: str = "value") -> dict[str, Any]:
    return {"value": figure[value], "low": figure["low"], "high": figure["high"]}


def _low(controls: dict[str, dict[str, Any]], name: str) -> float:
    return controls.get(name, {}).get("low") or 0.0


Row = dict[str, Any]


def _synergy(row: Row) -> bool:
    gap = row["difference"]
    return bool(gap and gap["value"] >= 0.10 and gap["low"] > 0)


def _late_signal(row: Row) -> bool:
    fused = row["fused"]
    return bool(fused["low"] <= 0.5 <= fused["high"] and row["without_guard"]["value"] > 0.9)


def _caught(alarm: str, words: str) -> Callable[[Row], bool]:
    return lambda row: alarm in row["alarms"] and any(words in text for text in row["said_on_card"])


def _women_worse(row: Row) -> bool:
    """The audit's ranking rule does not pass, and its whole interval says that women fare worse."""
    found = [one for one in row["audit"] if (one["rule"], one["level"]) == ("ranking", "female")]
    return any(one["verdict"] != "pass" and (one["high"] or 0.0) < 0 for one in found)


#: Scenario -> what each row must show, the test of a row, and the share of seeds that must show it.
EXPECTED: dict[str, tuple[str, Callable[[Row], bool], float]] = {
    "synergy": ("fused at least 0.10 above the best single, interval above zero", _synergy, 1.0),
    "late_signal": ("AUROC inside chance; above 0.9 without the guard", _late_signal, 1.0),
    "null": ("the data cannot tell", lambda row: row["verdict"] == "cannot_tell", 0.95),
    "missing_not_at_random": (
        "missingness alone predicts, and the model card says so",
        _caught("missingness_only", "ho was measured"),
        1.0,
    ),
    "site_shortcut": (
        "site or device alone predicts, and the model card says so",
        _caught("metadata_only", "site or device"),
        1.0,
    ),
    "subgroup_shift": ("the audit shows that women are ranked worse", _women_worse, 1.0),
}


def summary(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table: one line a scenario, means over seeds, and what holds."""
    lines = [
        "| scenario | must show | holds in | n | fused AUROC | best single | difference | missingness only "
        "| metadata only | minutes a run |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, (text, holds, _) in EXPECTED.items():
        own = [row for row in rows if row["scenario"] == name]
        if not own:
            continue
        good = sum(map(holds, own))
        answer = f"{good} of {len(own)}" + ("" if holds_in_enough(own, name) else " **(does not hold)**")
        cut = [row["without_guard"] for row in own if row.get("without_guard")]
        fused = _span([row["fused"] for row in own]) + (f"; {_span(cut)} without the guard" if cut else "")
        cells = [
            name,
            text,
            answer,
            _range([row["n"] for row in own]),
            fused,
            _span([row["best_single"] for row in own]),
            _span([row["difference"] for row in own], sign="+"),
            *(_span([row["controls"].get(c) for row in own]) for c in ("missingness_only", "metadata_only")),
            f"{sum(row['cost']['wall_seconds'] for row in own) / len(own) / 60:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _span(figures: Sequence[dict[str, Any] | None], sign: str = "") -> str:
    """Mean over seeds; in brackets the interval of the only seed, or the least and most of several."""
    known = [figure for figure in figures if figure and figure["value"] is not None]
    values = [figure["value"] for figure in known]
    if not values:
        return "–"
    ends = (known[0]["low"], known[0]["high"]) if len(values) == 1 else (min(values), max(values))
    ends_text = " to ".join("–" if end is None else f"{end:{sign}.2f}" for end in ends)
    return f"{sum(values) / len(values):{sign}.3f} ({ends_text})"


def _range(values: Sequence[int]) -> str:
    return str(values[0]) if min(values) == max(values) else f"{min(values)} to {max(values)}"


def read_rows(path: Path) -> list[Row]:
    """The rows of an earlier run; a last line that a kill cut short is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1] if line]


def make_rows(jobs: Sequence[Job], out: Path, work: Path | None, workers: int) -> None:
    """Do the jobs, each in a fresh process, and append each row as soon as it is there."""
    context = get_context("spawn")
    with (
        ProcessPoolExecutor(workers, mp_context=context, max_tasks_per_child=1) as pool,
        out.open("a", encoding="utf-8") as stream,
    ):
        waiting = {pool.submit(do, job, work): job for job in jobs}
        for done in as_completed(waiting):
            row = done.result()
            stream.write(json.dumps(row) + "\n")
            stream.flush()
            text = f"{row['scenario']} seed {row['seed']}, n = {row['n']}: {row['sentence']}"
            print(f"{text} ({row['cost']['wall_seconds']:.0f} s)", file=sys.stderr, flush=True)


def chosen(given: argparse.Namespace) -> list[Job]:
    """The jobs that the command line asks for."""
    jobs = []
    for name in given.scenario or PLANS:
        plan = PLANS[name]
        if given.subjects:
            plan = replace(plan, subjects=given.subjects)
        first = given.first_seed
        jobs += [Job(name, seed, plan) for seed in range(first, first + (given.seeds or plan.seeds))]
    return jobs


def main() -> int:
    from clinimm.provenance import code_version

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("scenario", nargs="*", metavar="SCENARIO", help=f"of {', '.join(PLANS)}; all")
    parser.add_argument("--seeds", type=int, help="hospitals a scenario")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--subjects", type=int, help="patients a hospital")
    parser.add_argument("--workers", type=int, default=1, help="hospitals at once, about 1 GiB each")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "benchmarks" / "scenarios.jsonl")
    parser.add_argument("--work", type=Path, help="folder for the hospitals; default is the system's")
    given = parser.parse_args()
    if unknown := sorted(set(given.scenario) - set(PLANS)):
        parser.error(f"unknown scenario {', '.join(unknown)}; known are {', '.join(PLANS)}")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    if given.work:
        given.work.mkdir(parents=True, exist_ok=True)
    jobs = chosen(given)
    code = code_version()
    known = {row["key"] for row in read_rows(given.out)}
    make_rows([job for job in jobs if job.key(code) not in known], given.out, given.work, given.workers)
    found = {row["key"]: row for row in read_rows(given.out)}
    rows = [found[job.key(code)] for job in jobs if job.key(code) in found]
    print(summary(rows))
    if len(rows) < len(jobs):
        print(f"the code changed meanwhile: {len(jobs) - len(rows)} rows are of other code; run again")
    failed = [name for name in EXPECTED if not holds_in_enough(rows, name)]
    return 1 if failed or len(rows) < len(jobs) else 0


def holds_in_enough(rows: Sequence[Row], name: str) -> bool:
    """Whether enough seeds of a scenario show what it must show; none asked for is enough."""
    _, holds, share = EXPECTED[name]
    own = [row for row in rows if row["scenario"] == name]
    return sum(map(holds, own)) >= share * len(own)


if __name__ == "__main__":
    raise SystemExit(main())
