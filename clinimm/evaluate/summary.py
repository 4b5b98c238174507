"""The evaluation as lines for a terminal, and the score of a finished model on other data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from clinimm.config import EvaluateConfig
from clinimm.evaluate.bootstrap import auroc_estimate, draw_weights, resampled, weighted_auroc
from clinimm.evaluate.figures_of_merit import Judge
from clinimm.evaluate.metrics import RATES
from clinimm.evaluate.operating import OperatingPoint
from clinimm.evaluate.panel import panel_of

_TITLES = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "brier": "Brier score",
    "log_loss": "log loss",
    "ece": "calibration error (ECE)",
    "calibration_slope": "calibration slope",
    "calibration_intercept": "calibration intercept",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "positive predictive value",
    "npv": "negative predictive value",
    "net_benefit": "net benefit",
}


def summary_lines(metrics: Mapping[str, Any]) -> list[str]:
    """``metrics.json`` as a text table: fused model, subsets, controls, verdict."""
    level = f"{100 * metrics['interval']['level']:g} %"
    lines = [f"{'':38}{'value':>8}  {level + ' interval':<18}{'n':>6} {'positive':>9}"]
    lines += [_line(title, metrics["fused"][key]) for key, title in _TITLES.items()]
    for row in metrics["classes"] if len(metrics["classes"]) > 1 else ():
        lines.append(_line(f"AUROC, {row['class_name']}", row["fused"]["auroc"]))
        lines += _operating_lines(row["operating_point"])
    if metrics["operating_point"]:
        lines += _operating_lines(metrics["operating_point"])
    if metrics["subsets"]:
        lines += ["", "AUROC of the fused model given only"]
        lines += [_line(f"  {row['subset']}", row["auroc"]) for row in metrics["subsets"]]
    if metrics["controls"]:
        lines += ["", "AUROC of the controls"]
        lines += [_line(f"  {row['control']}", row["auroc"]) for row in metrics["controls"]]
    verdict = metrics["verdict"]
    model = verdict["recommendation"]["model"] or "none"
    reason = verdict["recommendation"]["reason"]
    return [*lines, "", verdict["sentence"], f"Recommended model: {model} ({reason})."]


def score_predictions(
    predictions: pd.DataFrame,
    config: EvaluateConfig,
    classes: Sequence[str] | None = None,
    kind: str = "binary",
    operating_point: OperatingPoint | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Score a finished model on another hospital's labelled subjects.

    Args:
        predictions: columns of ``core.prediction``, one model.
        config: bootstraps, level and smallest n.
        classes: the task's classes; those in the table where not given.
        kind: ``binary``, ``multiclass`` or ``multilabel``.
        operating_point: the run's own; with it a binary task also gets sensitivity and the like.
        seed: of the resamples.

    Returns:
        ``line`` (for the terminal), ``n``, ``positives``, ``auroc``, and ``fused`` with every
        metric where an operating point is given.

    Raises:
        DataError: no subject has a label.
    """
    names = tuple(classes) if classes else tuple(sorted(predictions["class_name"].unique().tolist()))
    panel = panel_of(predictions, names, kind)
    weights = draw_weights(panel.strata, config.bootstraps, seed)
    draws = resampled(panel, weighted_auroc, weights)
    figure = auroc_estimate(panel, draws, config.level, config.minimum_cell)
    count = f"n = {panel.n}" + ("" if panel.positives is None else f" ({panel.positives} positive)")
    result: dict[str, Any] = {"n": panel.n, "positives": panel.positives, "auroc": figure.as_json()}
    if figure.known:
        interval = f"{100 * config.level:g} % interval {figure.low:.2f} to {figure.high:.2f}"
        result["line"] = f"AUROC {figure.value:.3f} ({interval}), {count}"
    else:
        result["line"] = f"AUROC not estimable ({figure.reason}), {count}"
    if operating_point is not None and len(names) == 1:
        judge = Judge(panel, weights, config.level, config.minimum_cell)
        # A finished model has one threshold; those of the single fits belong to their own folds.
        shipped = OperatingPoint(operating_point.threshold, operating_point.how)
        result["fused"] = {name: value.as_json() for name, value in judge.all(shipped).items()}
    return result


def _line(title: str, figure: Mapping[str, Any]) -> str:
    if figure["value"] is None:
        return f"{title:<38}{'–':>8}  {figure['reason']}"
    interval = "no interval" if figure["low"] is None else f"{figure['low']:.3f} to {figure['high']:.3f}"
    positives = "" if figure["positives"] is None else str(figure["positives"])
    return f"{title:<38}{figure['value']:>8.3f}  {interval:<18}{figure['n']:>6} {positives:>9}"


def _operating_lines(point: Mapping[str, Any]) -> list[str]:
    text = f"  {', '.join(name for name in RATES if name not in ('fnr', 'fpr'))} at probability >= "
    text += f"{point['threshold']:.3f}: {point['how']}"
    return [text] + ([f"  note: {point['note']}"] if point["note"] else [])
