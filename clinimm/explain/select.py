"""Which held-out subjects a run explains: spread over the predictions, errors among them."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
from jaxtyping import Float

from clinimm.evaluate.operating import OperatingPoint
from clinimm.workspace import Workspace


def select_subjects(
    predictions: pd.DataFrame, count: int, points: Float[np.ndarray, " subject"] | None = None
) -> list[str]:
    """Up to ``count`` subjects, the same ones for the same predictions.

    In this order: highest and lowest probability, the surest wrong answer of each kind, the
    median, then evenly spaced ranks, so that a reader sees more than successes.

    Args:
        predictions: ``explained_class`` of ``predictions.parquet``: one row a subject.
        count: how many are wanted.
        points: from which probability on each is flagged (``operating_points``). Where that is NaN, or
            for everybody where it is None, nobody can say what a wrong answer is.
    """
    point = np.full(len(predictions), np.nan) if points is None else points
    ordered = predictions.assign(point=point).sort_values(["probability", "subject_id"], kind="stable")
    ordered = ordered.reset_index(drop=True)
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


def operating_points(workspace: Workspace, targets: pd.DataFrame) -> Float[np.ndarray, " subject"]:
    """From which probability on each subject is flagged: as the evaluation chose for the fit that answered.

    Args:
        workspace: the run; before its evaluation every point is NaN.
        targets: rows of ``explained_class``.
    """
    path = workspace.root / "evaluate" / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    known = {
        str(row["class_name"]): OperatingPoint.from_json(row["operating_point"])
        for row in metrics.get("classes", ())
        if row.get("operating_point")
    }
    found = np.full(len(targets), np.nan)
    for place, target in enumerate(targets.itertuples()):
        if point := known.get(str(target.class_name)):
            found[place] = point.fits.get((int(target.repeat), int(target.fold)), point.threshold)  # type: ignore[arg-type]  # a cell of a table
    return found


def _errors(ordered: pd.DataFrame) -> list[int]:
    """Rank of the surest false alarm and of the surest miss, where labels and points know of any."""
    flagged, spared = ordered["probability"] >= ordered["point"], ordered["probability"] < ordered["point"]
    negative = ordered.index[(ordered["label"] == 0) & flagged]
    positive = ordered.index[(ordered["label"] == 1) & spared]
    return [*map(int, negative[-1:]), *map(int, positive[:1])]
