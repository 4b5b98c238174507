"""The evaluate stage: predictions in, ``metrics.json`` and figures out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from clinimm.core.errors import DataError
from clinimm.core.record import write_text
from clinimm.evaluate.assemble import HELD_OUT, Tables, Task, evaluate_tables
from clinimm.evaluate.summary import summary_lines
from clinimm.progress import Progress
from clinimm.workspace import Workspace

SCHEMA_FILE = Path(__file__).with_name("metrics.schema.json")


def run(workspace: Workspace, progress: Progress) -> dict[str, Any]:
    """Judge the run's predictions.

    Reads ``predict/*.parquet`` and ``cohort/task.json``; writes ``evaluate/metrics.json``
    (described by ``metrics.schema.json`` beside this file) and ``evaluate/figures/*.svg``.

    Raises:
        MissingStageError: predict did not run.
        DataError: no held-out subject has a label, or a table contradicts itself.
    """
    task = read_task(workspace.need("cohort", "task.json"))
    config = workspace.config.evaluate
    evaluation = evaluate_tables(
        _tables(workspace), task, config, workspace.config.seed, workspace.config.name
    )
    folder = workspace.stage("evaluate")
    text = json.dumps(evaluation.metrics, indent=1, sort_keys=True, allow_nan=False)
    write_text(folder / "metrics.json", text + "\n")
    _draw(evaluation.metrics, evaluation.panel, folder / "figures")
    for line in summary_lines(evaluation.metrics):
        progress.say(line)
    verdict = evaluation.metrics["verdict"]
    return {
        "n": evaluation.metrics["n"],
        "positives": evaluation.metrics["positives"],
        "auroc": evaluation.metrics["fused"]["auroc"],
        "verdict": verdict["key"],
        "sentence": verdict["sentence"],
    }


def read_task(path: Path) -> Task:
    """``cohort/task.json``.

    Raises:
        DataError: a key is missing.
    """
    value = json.loads(path.read_text(encoding="utf-8"))
    try:
        return Task(value["name"], value["kind"], tuple(value["classes"]))
    except KeyError as error:
        raise DataError(f"{path} has no {error.args[0]!r}; run `clinimm cohort PIPELINE` again.") from error


def _tables(workspace: Workspace) -> Tables:
    read = {
        name: pd.read_parquet(workspace.need("predict", f"{name}.parquet"))
        for name in ("predictions", "tuning", "subsets", "controls")
    }
    held_out = read["predictions"][read["predictions"]["split"] == HELD_OUT]
    if held_out.empty:
        raise DataError("predict/predictions.parquet has no held-out rows; check the cohort's split.")
    return Tables(held_out, read["tuning"], read["subsets"], read["controls"])


def _draw(metrics: dict[str, Any], panel: Any, folder: Path) -> None:
    from clinimm.evaluate.figures import draw_all

    draw_all(metrics, panel, folder)
