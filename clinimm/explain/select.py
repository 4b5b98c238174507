"""Which held-out subjects a run explains: spread over the predictions, errors among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from clinimm.workspace import Workspace


def select_subjects(predictions: pd.DataFrame, count: int) -> list[str]:
    """Up to ``count`` subjects, the same ones for the same predictions.

    In this order: highest and lowest probability, the surest wrong answer of each kind, the
    median, then evenly spaced ranks, so that a reader sees more than successes.

    Args:
        predictions: ``explained_class`` of ``predictions.parquet``: one row a subject.
        count: how many are wanted.
    """
    ordered = predictions.sort_values(["probability", "subject_id"], kind="stable").reset_index(drop=True)
    if ordered.empty or count < 1:
        return []
    last = len(ordered) - 1
    ranks = [last, 0, *_errors(ordered), last // 2]
    ranks += [round(last * step / (count + 1)) for step in range(1, count + 1)]
    ranks += list(range(len(ordered)))
    chosen = list(dict.fromkeys(ranks))[:count]
    return [str(ordered["subject_id"][rank]) for rank in chosen]


def explained_class(predictions: pd.DataFrame, repeat: int = 0) -> pd.DataFrame:
    """One row a subject: the class that its page is about.

    The positive class where there is one, else the class of the highest probability.

    Args:
        predictions: ``predict/predictions.parquet``.
        repeat: which repeat of a cross-validation.
    """
    held_out = predictions[(predictions["split"] == "held_out") & (predictions["repeat"] == repeat)]
    ordered = held_out.sort_values(
        ["subject_id", "probability", "class_name"], ascending=[True, False, True], kind="stable"
    )
    return ordered.drop_duplicates("subject_id").reset_index(drop=True)


def fit_folder(workspace: Workspace, target: Any) -> Path:
    """The folder of the fit that held a subject out; ``target`` is a row of ``explained_class``."""
    folder = workspace.root / "train" / "fits" / f"r{target.repeat}-f{target.fold}"
    return folder if folder.is_dir() else workspace.root / "train" / "model"


def _errors(ordered: pd.DataFrame) -> list[int]:
    """Rank of the surest false alarm and of the surest miss, where the labels know of any."""
    negative = ordered.index[(ordered["label"] == 0) & (ordered["probability"] >= 0.5)]
    positive = ordered.index[(ordered["label"] == 1) & (ordered["probability"] < 0.5)]
    return [*map(int, negative[-1:]), *map(int, positive[:1])]
