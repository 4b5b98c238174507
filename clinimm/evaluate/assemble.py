"""All tables of a run in, the content of ``metrics.json`` out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from clinimm.config import EvaluateConfig
from clinimm.core.prediction import JOIN
from clinimm.evaluate.bootstrap import (
    Difference,
    auroc_estimate,
    draw_weights,
    paired_difference,
    resampled,
    too_small,
    weighted_auroc,
)
from clinimm.evaluate.estimate import Estimate, rounded
from clinimm.evaluate.figures_of_merit import Judge
from clinimm.evaluate.metrics import Array
from clinimm.evaluate.operating import choose_operating_point
from clinimm.evaluate.panel import Panel, align, panel_of, tuning_panel_of
from clinimm.evaluate.verdict import COMBINERS, SINGLE_PREFIXES, Evidence, judge

SCHEMA = "clinimm.metrics/1"
HELD_OUT = "held_out"
_NOTE = (
    "Subjects are resampled within each class, so the prevalence is held fixed; under repeated "
    "cross-validation a figure is the mean over repeats and the subject stays the unit. Intervals hold "
    "the sampling of held-out subjects, not the variation of training."
)


@dataclass(frozen=True)
class Task:
    """What ``cohort/task.json`` says: ``kind`` is binary, multiclass or multilabel."""

    name: str
    kind: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Tables:
    """The predict stage's tables."""

    predictions: pd.DataFrame
    tuning: pd.DataFrame
    subsets: pd.DataFrame
    controls: pd.DataFrame


@dataclass(frozen=True)
class Evaluation:
    """The metrics as plain values, beside what the figures are drawn from."""

    metrics: dict[str, Any]
    panel: Panel


def evaluate_tables(
    tables: Tables, task: Task, config: EvaluateConfig, seed: int, run: str = "run"
) -> Evaluation:
    """Judge a run.

    Raises:
        DataError: no held-out subject has a label, or a table contradicts itself.
    """
    panel = panel_of(tables.predictions, task.classes, task.kind)
    tuning = tuning_panel_of(tables.tuning, task.classes, task.kind)
    weights = draw_weights(panel.strata, config.bootstraps, seed)
    rows = [_class_row(panel, tuning, index, weights, config, seed) for index in range(len(task.classes))]
    judge_ = Judge(panel, weights, config.level, config.minimum_cell)
    binary = len(task.classes) == 1
    fused = (
        rows[0]["fused"] if binary else {key: value.as_json() for key, value in judge_.over_classes().items()}
    )
    controls, evidence = compare_controls(panel, tables.controls, task, weights, config)
    metrics = {
        "schema": SCHEMA,
        "run": run,
        "task": {"name": task.name, "kind": task.kind, "classes": list(task.classes)},
        "n": panel.n,
        "positives": panel.positives,
        "unlabelled": _unlabelled(tables.predictions),
        "repeats": len(panel.repeats),
        "folds": len(np.unique(panel.fold[panel.fold >= 0])),
        "interval": {"level": config.level, "bootstraps": config.bootstraps, "seed": seed, "note": _NOTE},
        "margin": config.margin,
        "fused": fused,
        "operating_point": rows[0]["operating_point"] if binary else None,
        "classes": rows,
        "subsets": _subsets(panel, tables.subsets, task, config, seed),
        "controls": controls,
        "comparisons": [_comparison(row) for row in evidence.differences.values()],
        "verdict": judge(evidence).as_json(),
        "groups": "audit/audit.json",
    }
    return Evaluation(metrics, panel)


def _class_row(
    panel: Panel,
    tuning: Panel | None,
    index: int,
    weights: NDArray[np.int16],
    config: EvaluateConfig,
    seed: int,
) -> dict[str, Any]:
    one = panel.one(index)
    binary = len(panel.classes) == 1
    draws = weights if binary else draw_weights(one.strata, config.bootstraps, seed)
    chosen = choose_operating_point(None if tuning is None else tuning.one(index), one, config)
    figures = Judge(one, draws, config.level, config.minimum_cell)
    return {
        "class_name": one.classes[0],
        "n": one.n,
        "positives": one.positives,
        "fused": {name: figure.as_json() for name, figure in figures.all(chosen).items()},
        "operating_point": chosen.as_json(),
        "decision_curve": figures.decision_curve(),
    }


def compare_controls(
    panel: Panel,
    controls: pd.DataFrame,
    task: Task,
    weights: NDArray[np.int16],
    config: EvaluateConfig,
) -> tuple[list[dict[str, Any]], Evidence]:
    """Rows of ``controls`` for the metrics, and the evidence that the verdict rests on."""
    fused_draws = resampled(panel, weighted_auroc, weights)
    fused = auroc_estimate(panel, fused_draws, config.level, config.minimum_cell)
    rows, figures, differences = [], {}, {}
    compared: dict[str, tuple[Panel, Array]] = {}
    for name, frame in _held_out(controls).groupby("control", sort=True):
        if not frame["label"].notna().any():
            continue
        kept, other, answered = _aligned(frame, panel, task)
        whole = len(kept.repeats) == len(panel.repeats)
        own_draws = fused_draws if whole else resampled(kept, weighted_auroc, weights)
        draws = resampled(other, weighted_auroc, weights)
        figure = auroc_estimate(other, draws, config.level, config.minimum_cell)
        figures[str(name)] = figure
        rows.append(_control_row(str(name), other, figure, answered))
        if too_small(panel, config.minimum_cell) is None:
            differences[str(name)] = paired_difference(
                str(name), kept, other, own_draws - draws, config.level, panel.n - answered
            )
        if whole and str(name) in differences:
            compared[str(name)] = (other, draws)
    evidence = Evidence(fused, figures, differences, config.margin, config.level)
    over = _over_alarms([name for name in evidence.simple if name in compared], compared, config.level)
    return rows, replace(evidence, over_alarms=over)


def _over_alarms(
    simple: Sequence[str], compared: dict[str, tuple[Panel, Array]], level: float
) -> dict[tuple[str, str], Difference]:
    """Each model that the verdict could recommend, less each alarm, on the same subjects and draws."""
    alarms = [name for name in compared if role(name) == "alarm"]
    return {
        (name, alarm): paired_difference(
            alarm, compared[name][0], compared[alarm][0], compared[name][1] - compared[alarm][1], level
        )
        for name in simple
        for alarm in alarms
    }


def _aligned(frame: pd.DataFrame, panel: Panel, task: Task) -> tuple[Panel, Panel, int]:
    source = panel_of(frame, task.classes, task.kind)
    answered = int(panel.among(source.subject_ids).sum())
    kept, other = align(source, panel)
    return kept, other, answered


def _control_row(name: str, panel: Panel, figure: Estimate, answered: int) -> dict[str, Any]:
    row = {"control": name, "role": role(name), "n": panel.n, "positives": panel.positives}
    return {**row, "answered": answered, "auroc": figure.as_json()}


def role(control: str) -> str:
    """What a control is for: ``single``, ``simple`` or ``alarm``."""
    if control.startswith(SINGLE_PREFIXES):
        return "single"
    return "simple" if control in COMBINERS else "alarm"


def _subsets(
    panel: Panel, frame: pd.DataFrame, task: Task, config: EvaluateConfig, seed: int
) -> list[dict[str, Any]]:
    rows = []
    for name, part in _held_out(frame).groupby("subset", sort=True):
        if part["label"].notna().any():
            rows.append(_subset_row(str(name), panel, panel_of(part, task.classes, task.kind), config, seed))
    return sorted(rows, key=lambda row: (len(row["modalities"]), row["subset"]))


def _subset_row(name: str, panel: Panel, subset: Panel, config: EvaluateConfig, seed: int) -> dict[str, Any]:
    weights = draw_weights(subset.strata, config.bootstraps, seed)
    draws = resampled(subset, weighted_auroc, weights)
    figure = auroc_estimate(subset, draws, config.level, config.minimum_cell)
    full = panel.take(panel.among(subset.subject_ids))
    gap = _full_less_subset(full, subset, draws, weights, config) if figure.known else None
    return {
        "subset": name,
        "modalities": name.split(JOIN),
        "n": subset.n,
        "positives": subset.positives,
        "auroc": figure.as_json(),
        "full_less_subset": gap,
    }


def _full_less_subset(
    full: Panel, subset: Panel, draws: Array, weights: NDArray[np.int16], config: EvaluateConfig
) -> dict[str, Any] | None:
    if full.n != subset.n or full.repeats != subset.repeats:
        return None
    full_draws = resampled(full, weighted_auroc, weights)
    return _comparison(paired_difference("subset", full, subset, full_draws - draws, config.level))


def _comparison(difference: Difference) -> dict[str, Any]:
    return {
        "against": difference.against,
        "role": role(difference.against) if difference.against != "subset" else "subset",
        "difference": rounded(difference.value),
        "low": rounded(difference.low),
        "high": rounded(difference.high),
        "p_value": rounded(difference.p_value),
        "n": difference.n,
        "positives": difference.positives,
        "filled": difference.filled,
        "method": "BCa bootstrap by subject, paired: the same draws for both",
    }


def _held_out(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["split"] == HELD_OUT]


def _unlabelled(frame: pd.DataFrame) -> int:
    labelled: Sequence[str] = frame.loc[frame["label"].notna(), "subject_id"].unique().tolist()
    return int(frame.loc[~frame["subject_id"].isin(labelled), "subject_id"].nunique())
