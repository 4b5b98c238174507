"""How long one patient's full report takes, part by part, and a hundred of them, on a finished run.

    .venv/bin/python benchmarks/patient_report.py [RUN] [--repeats N] [--patients N] [--many N]

RUN is runs/demo unless named. Wall and processor seconds, warm (everything imported, the model and the run's
shared tables read once), two threads: median and range over repeats of several held-out patients, by the
run's own method and checks.
``start`` is what a new process pays once: model, tokens and what pages share. The run itself is not touched:
results go to a folder beside links to it. With ``--many``, that many patients are explained and written,
as ``clinimm explain`` and ``clinimm report`` do, pages over all cores.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch

from clinimm.audit.policy import find_policy, load_policy
from clinimm.corpus import Corpus
from clinimm.explain.checks import attribute_fully, check_maps
from clinimm.explain.contribution import contributions
from clinimm.explain.problem import Setting, pose
from clinimm.explain.select import explained_class, select_subjects
from clinimm.explain.stage import explain_subjects
from clinimm.explain.subject import Explainer
from clinimm.explain.tables import Explanations
from clinimm.model import FusionModel
from clinimm.predict import predict_subjects
from clinimm.progress import Progress
from clinimm.report.facts import RunFacts
from clinimm.report.many import write_pages
from clinimm.report.patient_report import patient_page
from clinimm.settings import load_run
from clinimm.workspace import Workspace

FoundT = TypeVar("FoundT")
#: Part -> what it is; all but the first are summed.
PARTS = {
    "start": "once a process: model, tokens, first page",
    "prediction": "prediction from encoded tokens",
    "maps": "maps of all modalities (the run's method)",
    "contributions": "exact Shapley values and interactions",
    "checks": "checks of every map",
    "tables": "rows and Parquet files",
    "page": "the page: pictures, figures, HTML",
}


@dataclass
class Clock:
    """Seconds by part.

    Attributes:
        seconds: by the clock on the wall.
        worked: of processors, which hardly depends on what else the machine does.
    """

    seconds: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in PARTS})
    worked: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in PARTS})

    def time(self, part: str, work: Callable[[], FoundT]) -> FoundT:
        """Do it, and keep how long it took."""
        began, working = time.perf_counter(), time.process_time()
        found = work()
        self.seconds[part].append(time.perf_counter() - began)
        self.worked[part].append(time.process_time() - working)
        return found


@contextmanager
def beside(run: Path) -> Iterator[Workspace]:
    """A workspace whose results do not land in the run: links to its stages, copies of what is written."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / run.name
        root.mkdir()
        for path in run.iterdir():
            if path.name in {"explain", "report"}:
                shutil.copytree(path, root / path.name)
            elif not path.name.startswith("."):
                (root / path.name).symlink_to(path.resolve())
        yield Workspace(load_run(root))


def measure(workspace: Workspace, patients: int, repeats: int) -> tuple[Clock, list[int]]:
    """Seconds of every part, and the pages' sizes in bytes."""
    clock, sizes = Clock(), []
    config = workspace.config
    targets = explained_class(pd.read_parquet(workspace.need("predict", "predictions.parquet")))
    chosen = targets.set_index("subject_id", drop=False).loc[select_subjects(targets, patients)]
    folder = workspace.root / "train" / "fits" / f"r0-f{chosen['fold'].iloc[0]}"
    chosen = chosen[chosen["fold"] == chosen["fold"].iloc[0]]

    def start() -> tuple[FusionModel, Explainer, RunFacts]:
        corpus = Corpus.load(workspace.root / "encode", config.plugins)
        model = FusionModel.from_pretrained(folder if folder.is_dir() else workspace.root / "train" / "model")
        policy = load_policy(find_policy(config.audit.policy)).explanations
        setting = Setting(config.explain.baseline, config.explain.steps, config.seed)
        explainer = Explainer(corpus, config.plugins, config.explain.method, setting, policy)
        predict_subjects(model, corpus, [str(chosen["subject_id"].iloc[0])], model.modalities)
        facts = RunFacts(workspace)
        patient_page(facts, str(chosen["subject_id"].iloc[0]))
        return model, explainer, facts

    model, explainer, facts = clock.time("start", start)
    known = [row for row in chosen.itertuples() if explainer.corpus.modalities_of(str(row.subject_id))]
    for _ in range(repeats):
        for target in known:
            sizes.append(_one(clock, workspace, model, explainer, facts, target))
    return clock, sizes


def _one(
    clock: Clock,
    workspace: Workspace,
    model: FusionModel,
    explainer: Explainer,
    facts: RunFacts,
    target: object,
) -> int:
    """One patient, part by part, as ``Explainer.explain`` and the page do it."""
    subject = str(target.subject_id)  # type: ignore[attr-defined]
    index = list(model.classes).index(str(target.class_name))  # type: ignore[attr-defined]
    clock.time("prediction", lambda: predict_subjects(model, explainer.corpus, [subject], model.modalities))
    batch, setting = explainer.batch(model, [subject])
    found = clock.time(
        "maps", lambda: attribute_fully(model, batch, index, explainer.method, setting.steps, setting)
    )
    clock.time("contributions", lambda: contributions(model, batch, index))
    clock.time("checks", lambda: check_maps(pose(model, batch, index, setting), found))
    rows = explainer.explain(model, target)

    def write() -> None:
        folder = workspace.root / "explain" / ".requested" / subject
        Explanations.from_rows(rows).write(folder)

    clock.time("tables", write)
    return len(clock.time("page", lambda: patient_page(facts, subject)).encode("utf-8"))


def print_parts(clock: Clock, sizes: list[int]) -> None:
    """One row a part."""
    print("\n| part | median s | range s | processor s | n |\n|---|---:|---:|---:|---:|")
    for name, title in PARTS.items():
        _print_row(title, np.array(clock.seconds[name]), np.array(clock.worked[name]))
    parts = [name for name in PARTS if name != "start"]
    wall, worked = (np.sum([of[name] for name in parts], axis=0) for of in (clock.seconds, clock.worked))
    _print_row("**all of one report, warm**", wall, worked)
    print(f"\npages: median {np.median(sizes) / 1000:.0f} kB, largest {max(sizes) / 1000:.0f} kB", flush=True)


def _print_row(title: str, wall: np.ndarray, worked: np.ndarray) -> None:
    spread = f"{wall.min():.3f} to {wall.max():.3f}"
    print(f"| {title} | {np.median(wall):.3f} | {spread} | {np.median(worked):.3f} | {len(wall)} |")


def measure_many(workspace: Workspace, count: int) -> None:
    """Explain and write many patients, with progress."""
    targets = explained_class(pd.read_parquet(workspace.need("predict", "predictions.parquet")))
    subjects = select_subjects(targets, count)
    began = time.perf_counter()
    explain_subjects(workspace, subjects, Progress())
    between = time.perf_counter()
    write_pages(workspace, subjects, Progress())
    ended = time.perf_counter()
    print(
        f"\n{len(subjects)} patients: explained in {between - began:.1f} s, pages in "
        f"{ended - between:.1f} s, {(ended - began) / len(subjects):.2f} s each"
    )


def main() -> int:
    """Measure the run that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/demo"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--patients", type=int, default=6)
    parser.add_argument("--many", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="of torch; 1 on a machine that others use")
    arguments = parser.parse_args()
    if not (arguments.run / "predict" / "predictions.parquet").is_file():
        print(f"skipped: {arguments.run} holds no finished run; `make demo` makes runs/demo.")
        return 0
    torch.set_num_threads(arguments.threads)
    with beside(arguments.run.resolve()) as workspace:
        print_parts(*measure(workspace, arguments.patients, arguments.repeats))
        if arguments.many:
            measure_many(workspace, arguments.many)
    return 0


if __name__ == "__main__":
    sys.exit(main())
