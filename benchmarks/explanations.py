"""Are explanations exact, quick and faithful: against Captum, and method by method on a finished run.

    .venv/bin/python benchmarks/explanations.py runs/demo [--subjects N] [--methods a,b] [--rounds N]

Three tables. Agreement and speed: exact modality Shapley values against Captum's ``ShapleyValues`` on
the same model and coalitions, integrated gradients against Captum called by hand; processor seconds, best
of N rounds, one thread. Faithfulness: for every method and modality the gain in deletion and insertion
over random orders, how many maps beat 95 % of random orders (of noise 5 % do), infidelity at the best
scale, sensitivity, the residual, each a
mean over held-out subjects with its interval (n is the number of subjects, fewer where one lacks the
modality). Randomisation: the rank correlation with the trained map that is left once all weights are
shuffled, its size whatever its sign, mean over shuffles with 1.96 standard errors.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from captum.attr import IntegratedGradients, ShapleyValues

from clinimm.audit.explanation_policy import ExplanationPolicy
from clinimm.config import load_pipeline
from clinimm.corpus import Corpus
from clinimm.explain.attribute import Explanation, attribute, explain_problem
from clinimm.explain.baselines import reference
from clinimm.explain.checks import attribute_fully, check_maps
from clinimm.explain.contribution import contributions
from clinimm.explain.groups import Statistics, mean_of
from clinimm.explain.hide import ALL
from clinimm.explain.methods import METHODS
from clinimm.explain.problem import Problem, Setting, pose
from clinimm.explain.randomise import DEEPEST, cascade
from clinimm.explain.select import explained_class
from clinimm.explain.stability import sensitivity
from clinimm.explain.subject import Explainer
from clinimm.model import FusionModel
from clinimm.nn.tokens import Batch

_STEPS, _SHUFFLES = 32, 6
_MOST_SHUFFLED = 8
#: Share of random orders that the policy asks a map to beat.
_BEATEN = 0.95


@dataclass(frozen=True)
class Case:
    """One fit of a run, and subjects that it held out.

    Attributes:
        model: the fit.
        explainer: of integrated gradients; other methods are put in its place.
        subjects: of whom it has tokens.
        target: index of the class that is explained.
    """

    model: FusionModel
    explainer: Explainer
    subjects: tuple[str, ...]
    target: int

    def problem(self, subject: str, setting: Setting | None = None) -> tuple[Problem, Batch]:
        """The subject's problem and raw tokens."""
        batch, own = self.explainer.batch(self.model, [subject])
        return pose(self.model, batch, self.target, setting or own), batch


def open_case(run: Path, count: int) -> Case:
    """The first fit of a finished run and the first held-out subjects of its first class."""
    config = load_pipeline(run / "pipeline.yaml")
    predictions = pd.read_parquet(run / "predict" / "predictions.parquet")
    rows = explained_class(predictions)
    rows = rows[rows["fold"] == rows["fold"].min()]
    rows = rows[rows["class_name"] == rows["class_name"].iloc[0]].sort_values("subject_id")
    folder = run / "train" / "fits" / f"r0-f{rows['fold'].iloc[0]}"
    model = FusionModel.from_pretrained(folder if folder.is_dir() else run / "train" / "model")
    corpus = Corpus.load(run / "encode", config.plugins)
    known = [str(s) for s in rows["subject_id"] if set(corpus.modalities_of(str(s))) & set(model.modalities)]
    explainer = Explainer(
        corpus, config.plugins, "integrated_gradients", Setting(steps=_STEPS), ExplanationPolicy()
    )
    target = list(model.classes).index(str(rows["class_name"].iloc[0]))
    return Case(model, explainer, tuple(known[:count]), target)


def best(work: Callable[[], object], rounds: int) -> float:
    """Least processor seconds of some rounds."""
    found = []
    for _ in range(rounds):
        before = time.process_time()
        work()
        found.append(time.process_time() - before)
    return min(found)


def captum_shapley(case: Case, problem: Problem) -> dict[str, float]:
    """Captum's exact values, with a switch a modality; it asks one coalition at a time."""
    names = problem.names

    def forward(switches: torch.Tensor) -> torch.Tensor:
        batch = {
            name: tokens.with_mask(tokens.mask & bool(switches[0, place] > 0.5))
            for place, (name, tokens) in enumerate(problem.embedded.items())
        }
        return case.model.logits(batch)[:, case.target]

    with torch.no_grad():
        values = ShapleyValues(forward).attribute(torch.ones(1, len(names)))[0]
    return dict(zip(names, map(float, values), strict=True))


def captum_gradients(problem: Problem) -> list[np.ndarray]:
    """Captum's integrated gradients, called by hand without batching of steps."""
    raw = IntegratedGradients(problem.forward).attribute(
        problem.values,
        baselines=reference(problem, "uninformative").values,
        additional_forward_args=problem.unchanged,
        n_steps=_STEPS,
        method="gausslegendre",
    )
    return [part.double().sum(2).detach().numpy() for part in raw]


def agreement_rows(case: Case, rounds: int) -> Iterator[tuple[float, str]]:
    """Exactness and speed against Captum, over subjects: largest difference, and the table's row."""
    shapley, gradients = _Race(), _Race()
    for subject in case.subjects:
        problem, batch = case.problem(subject)
        found = contributions(case.model, batch, case.target)
        expected = captum_shapley(case, problem)
        shapley.differ(found.values[0], np.array([expected[name] for name in found.names]))
        shapley.run(
            partial(contributions, case.model, batch, case.target),
            partial(captum_shapley, case, problem),
            rounds,
        )
        ours = attribute(case.model, batch, case.target, steps=_STEPS)
        for one, two in zip(ours.scores.values(), captum_gradients(problem), strict=True):
            gradients.differ(one, two)
        gradients.run(
            partial(attribute, case.model, batch, case.target, steps=_STEPS),
            partial(captum_gradients, problem),
            rounds,
        )
    yield shapley.worst, shapley.row("exact modality Shapley")
    yield gradients.worst, gradients.row(f"integrated gradients, {_STEPS} steps")


@dataclass
class _Race:
    """Ours beside theirs."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    worst: float = 0.0

    def differ(self, one: np.ndarray, two: np.ndarray) -> None:
        self.worst = max(self.worst, float(np.abs(one - two).max()))

    def run(self, ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> None:
        self.ours.append(best(ours, rounds))
        self.theirs.append(best(theirs, rounds))

    def row(self, name: str) -> str:
        ratio = np.median(np.array(self.theirs) / np.array(self.ours))
        ours, theirs = 1e3 * np.median(self.ours), 1e3 * np.median(self.theirs)
        return f"| {name} | {len(self.ours)} | {self.worst:.1e} | {ours:.1f} | {theirs:.1f} | {ratio:.1f} |"


def faithfulness(case: Case, method: str) -> pd.DataFrame:
    """Checks of one method's maps: a row a subject, modality and check."""
    rows = []
    for subject in case.subjects:
        problem, batch = case.problem(subject)
        began = time.process_time()
        found = attribute_fully(case.model, batch, case.target, method, _STEPS, problem.setting)
        spent = time.process_time() - began
        checks = check_maps(problem, found)
        coarse = replace(problem, setting=replace(problem.setting, steps=8))
        moved = sensitivity(coarse, lambda one: explain_problem(one, method))
        rows += [(subject, check.modality, check.name, check.judged) for check in checks]
        rows += [(subject, name, "sensitivity", value) for name, value in moved.items()]
        rows.append((subject, ALL, "seconds", spent))
    return pd.DataFrame(rows, columns=["subject", "modality", "check", "value"])


def faithfulness_rows(case: Case, methods: Sequence[str]) -> Iterator[str]:
    """The table of faithfulness, method by method."""
    wanted = ("deletion", "insertion", "infidelity_scaled", "sensitivity", "completeness")
    for method in methods:
        table = faithfulness(case, method)
        seconds = table[table["check"] == "seconds"]["value"].median()
        for modality, rows in table.groupby("modality", sort=True):
            cells = [_cell(rows[rows["check"] == check]["value"].to_numpy(float)) for check in wanted]
            beaten = rows[rows["check"] == "random_orders"]["value"].dropna()
            better = f"{(beaten >= _BEATEN).mean():.0%} of {len(beaten)}" if len(beaten) else "–"
            speed = f"{seconds:.2f}" if modality == ALL else ""
            name = f"{method}{' (context)' if METHODS[method].role == 'context' else ''}"
            yield " | ".join(["", name, str(modality), *cells[:2], better, *cells[2:], speed, ""]).strip()


def randomisation_rows(case: Case, methods: Sequence[str]) -> Iterator[str]:
    """What is left of each method's maps once all weights are shuffled."""
    subjects = case.subjects[:_MOST_SHUFFLED]
    batch, setting = case.explainer.batch(case.model, subjects)
    for method in methods:

        def explain(model: torch.nn.Module, method: str = method) -> Explanation:
            assert isinstance(model, FusionModel)
            return attribute(model, batch, case.target, method, 8, setting)

        found = pd.DataFrame([vars(one) for one in cascade(case.model, explain, setting.layout, _SHUFFLES)])
        deep = found[(found["depth"] == DEEPEST) & (found["tokens"] > 3)]
        for modality, rows in deep.groupby("modality", sort=True):
            sizes = rows.assign(correlation=rows["correlation"].abs())  # a shuffle may turn a map round
            shuffles = sizes.groupby("seed")[["correlation", "correlation_of_sizes", "ssim"]].mean()
            mean, error = shuffles.mean(), shuffles.std(ddof=1) / len(shuffles) ** 0.5
            cells = [
                "–" if np.isnan(mean[column]) else f"{mean[column]:+.2f} ± {1.96 * error[column]:.2f}"
                for column in map(str, shuffles)
            ]
            yield f"| {method} | {modality} | {len(subjects)} × {len(shuffles)} | {' | '.join(cells)} |"


def _cell(values: np.ndarray) -> str:
    found = mean_of(values, Statistics(minimum=5))
    if found.mean is None:
        return "–"
    return f"{found.mean:+.2f} ({found.low:+.2f} to {found.high:+.2f})"


def main() -> int:
    """Print the tables; 1 where exact Shapley values or integrated gradients differ from Captum's."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/demo"))
    parser.add_argument("--subjects", type=int, default=40)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if not (options.run / "predict" / "predictions.parquet").is_file():
        print(f"skipped: {options.run} holds no finished run; `make demo` makes runs/demo.")
        return 0
    torch.set_num_threads(1)
    case, methods = open_case(options.run, options.subjects), options.methods.split(",")
    print(f"{options.run}: {len(case.subjects)} held-out subjects, class {case.model.classes[case.target]}\n")
    print(
        "| against Captum | n | largest difference | ms | Captum, ms | times as fast |\n" + "|---" * 6 + "|"
    )
    few = replace(case, subjects=case.subjects[:10])
    races = list(agreement_rows(few, options.rounds))
    print("\n".join(row for _, row in races), flush=True)
    gains = (
        f"deletion gain | insertion gain | beats {_BEATEN:.0%} of random orders (noise: {1 - _BEATEN:.0%})"
    )
    print(f"\n| method | map | {gains} | infidelity | sensitivity | residual | s |\n" + "|---" * 9 + "|")
    for row in faithfulness_rows(case, methods):
        print(row, flush=True)
    print("\n| method | map | n | correlation left | of sizes | SSIM |\n" + "|---" * 6 + "|")
    for row in randomisation_rows(case, methods):
        print(row, flush=True)
    return int(any(worst > 1e-5 for worst, _ in races))


if __name__ == "__main__":
    sys.exit(main())
