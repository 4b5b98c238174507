"""Figures of an evaluation as SVG: the same bytes for the same metrics.

Colours are Okabe and Ito's, told apart by colour-blind readers; shapes and line styles differ too.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clinimm.core.record import write_bytes
from clinimm.evaluate.metrics import Array, equal_mass_bins, wilson
from clinimm.evaluate.panel import Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_GREY, _PALE = "#6b6b6b", "#d9d9d9"
_STYLE: Any = {
    "svg.hashsalt": "clinimm",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _GREY,
    "axes.labelcolor": "#222222",
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "figure.constrained_layout.use": True,
}


def draw_all(metrics: Mapping[str, Any], panel: Panel, folder: Path, kind: str = "svg") -> list[Path]:
    """Write ``roc``, ``calibration``, ``subsets`` and ``net_benefit``; returns their paths."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    drawers = {
        "roc": (_roc, (4.4, 4.3)),
        "calibration": (_calibration, (4.4, 4.9)),
        "subsets": (_forest, (6.8, 1.2 + 0.26 * max(3, len(_forest_rows(metrics))))),
        "net_benefit": (_net_benefit, (4.8, 3.8)),
    }
    paths = []
    with mpl.rc_context(_STYLE):
        for name, (draw, size) in drawers.items():
            figure = Figure(figsize=size)
            draw(figure, metrics, panel)
            paths.append(_save(figure, folder / f"{name}.{kind}"))
    return paths


def _roc(figure: Figure, metrics: Mapping[str, Any], panel: Panel) -> None:
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=_PALE, linewidth=1, zorder=0)
    grid = np.linspace(0, 1, 201)
    for index, row in enumerate(metrics["classes"]):
        if row["fused"]["auroc"]["value"] is None:
            continue
        colour = COLOURS[index % len(COLOURS)]
        curves = [_roc_curve(label, score, grid) for label, score in _repeats(panel, index)]
        if len(metrics["classes"]) == 1:
            for curve in curves if len(curves) > 1 else ():
                axes.plot(grid, curve, color=colour, alpha=0.25, linewidth=0.8)
        label = f"{_short(row['class_name'])}: {_figure_text(row['fused']['auroc'])}"
        axes.plot(np.append(0, grid), np.append(0, np.mean(curves, axis=0)), color=colour, label=label)
    _operating_dot(axes, metrics)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel="1 − specificity", ylabel="Sensitivity")
    axes.set_aspect("equal")
    axes.set_title(f"ROC, held-out subjects, {_n_text(metrics)}")
    _legend(axes, "lower right")


def _operating_dot(axes: Axes, metrics: Mapping[str, Any]) -> None:
    sensitivity, specificity = metrics["fused"]["sensitivity"], metrics["fused"]["specificity"]
    if metrics["operating_point"] is None or None in (sensitivity["value"], specificity["value"]):
        return
    x, y = 1 - specificity["value"], sensitivity["value"]
    across = [[specificity["high"] - specificity["value"]], [specificity["value"] - specificity["low"]]]
    up = [[y - sensitivity["low"]], [sensitivity["high"] - y]]
    name = f"operating point, p ≥ {metrics['operating_point']['threshold']:.2f}"
    axes.errorbar(x, y, up, across, "o", color=COLOURS[1], markersize=5, elinewidth=1, label=name, zorder=5)


def _calibration(figure: Figure, metrics: Mapping[str, Any], panel: Panel) -> None:
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    axes.plot([0, 1], [0, 1], color=_PALE, linewidth=1, zorder=0)
    edges = np.linspace(0, 1, 21)
    for index, row in enumerate(metrics["classes"]):
        if row["fused"]["brier"]["value"] is None:
            continue
        colour = COLOURS[index % len(COLOURS)]
        label, probability = (np.concatenate(part) for part in zip(*_repeats(panel, index), strict=True))
        x, y, low, high = _calibration_points(label, probability, len(panel.repeats), metrics)
        several = len(metrics["classes"]) > 1
        name = _short(row["class_name"]) if several else _calibration_text(row["fused"])
        axes.errorbar(
            x, y, yerr=[y - low, high - y], fmt="o-", color=colour, elinewidth=1, markersize=4, label=name
        )
        styles = [("without outcome", 0, COLOURS[5]), ("with outcome", 1, COLOURS[1])]
        if several:
            below.hist(probability, edges, histtype="step", color=colour)
            continue
        values = [probability[label == value] for _, value, _ in styles]
        share = [np.full(len(value), 1 / len(panel.repeats)) for value in values]
        below.hist(
            values,
            edges,
            weights=share,
            stacked=True,
            label=[text for text, _, _ in styles],
            color=[colour for _, _, colour in styles],
        )
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="Observed share")
    axes.set_title(f"Calibration, {_n_text(metrics)}")
    below.set(xlabel="Predicted probability", ylabel="Subjects")
    below.set_ylim(0, 1.55 * below.get_ylim()[1])
    _legend(axes, "upper left")
    if below.get_legend_handles_labels()[0]:
        below.legend(loc="upper right", ncols=2)


def _calibration_points(
    label: Array, probability: Array, repeats: int, metrics: Mapping[str, Any]
) -> tuple[Array, Array, Array, Array]:
    member = equal_mass_bins(probability)
    level = metrics["interval"]["level"]
    rows = []
    for index in range(int(member.max()) + 1):
        inside = member == index
        if inside.any():
            share = float(label[inside].mean())
            # A bin over five repeats holds each subject up to five times; the interval counts it once.
            subjects = inside.sum() / repeats
            rows.append(
                (float(probability[inside].mean()), share, *wilson(share * subjects, subjects, level))
            )
    x, y, low, high = (np.array(column) for column in zip(*rows, strict=True))
    return x, y, low, high


def _forest_rows(metrics: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any], str]]:
    rows = [("Fused, all modalities", metrics["fused"]["auroc"], "fused")]
    rows += [(f"given {_plus(row['subset'])}", row["auroc"], "subset") for row in metrics["subsets"]]
    order = {"single": 0, "simple": 1, "alarm": 2}
    controls = sorted(metrics["controls"], key=lambda row: (order[row["role"]], row["control"]))
    return rows + [(_control(row["control"]), row["auroc"], row["role"]) for row in controls]


_LOOK = {
    "fused": (COLOURS[1], "D"),
    "subset": (COLOURS[0], "o"),
    "single": (COLOURS[2], "s"),
    "simple": (COLOURS[3], "^"),
    "alarm": (COLOURS[6], "X"),
}


def _forest(figure: Figure, metrics: Mapping[str, Any], panel: Panel) -> None:
    axes = figure.subplots()
    rows = _forest_rows(metrics)
    ends = [row["low"] for _, row, _ in rows if row["low"] is not None]
    left = min([0.4, *(end - 0.03 for end in ends)])
    axes.axvline(0.5, color=_GREY, linewidth=0.8, linestyle=(0, (4, 3)))
    if metrics["fused"]["auroc"]["low"] is not None:
        axes.axvspan(metrics["fused"]["auroc"]["low"], metrics["fused"]["auroc"]["high"], color="#fbeee4")
    place = axes.get_yaxis_transform()
    groups = [kind for _, _, kind in rows]
    positions = np.cumsum(
        [1.0 + 0.5 * (kind != last) for kind, last in zip(groups, ["", *groups], strict=False)]
    )
    for at, (_, row, kind) in zip(positions, rows, strict=True):
        text, colour = f"not estimable, n = {row['n']}", _GREY
        if row["value"] is not None and row["low"] is not None:
            colour, marker = _LOOK[kind]
            bars = [[row["value"] - row["low"]], [row["high"] - row["value"]]]
            axes.errorbar(row["value"], at, xerr=bars, fmt=marker, color=colour, markersize=5, elinewidth=1.4)
            text, colour = f"{_figure_text(row)}   n = {row['n']}", "#222222"
        axes.text(1.02, at, text, transform=place, va="center", fontsize=8, color=colour)
    axes.set_yticks(positions, [name for name, _, _ in rows], color="#222222")
    axes.set(
        xlim=(left, 1.0), ylim=(positions[-1] + 0.6, positions[0] - 0.6), xlabel="AUROC, held-out subjects"
    )
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_title("Subsets of modalities and controls")


def _net_benefit(figure: Figure, metrics: Mapping[str, Any], panel: Panel) -> None:
    axes = figure.subplots()
    several = len(metrics["classes"]) > 1
    top = 0.02
    for index, row in enumerate(metrics["classes"]):
        curve = [step for step in row["decision_curve"] if step["value"] is not None]
        if not curve:
            continue
        colour = COLOURS[index % len(COLOURS)]
        x = [step["threshold"] for step in curve]
        name = _short(row["class_name"]) if several else "fused model"
        axes.plot(x, [step["value"] for step in curve], color=colour, label=name, zorder=3)
        everybody = [step["treat_all"] for step in curve]
        top = max(top, *everybody, *(step["value"] for step in curve))
        if not several:
            low, high = ([step[end] for step in curve] for end in ("low", "high"))
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
            top = max(top, *(value for value in high if value is not None))
            axes.plot(x, everybody, color=_GREY, linestyle=(0, (4, 2)), linewidth=1.2, label="flag everybody")
    axes.axhline(0, color=_GREY, linewidth=1, linestyle=":", label="flag nobody")
    if metrics["operating_point"] is not None and metrics["operating_point"]["threshold"] < 1:
        axes.axvline(metrics["operating_point"]["threshold"], color=COLOURS[1], linewidth=1)
        axes.text(
            metrics["operating_point"]["threshold"] + 0.01,
            top * 1.02,
            "operating point",
            fontsize=8,
            color=COLOURS[1],
        )
    axes.set(xlim=(0, 1), ylim=(-0.25 * top, 1.12 * top))
    axes.set(xlabel="Threshold probability", ylabel="Net benefit a subject")
    axes.set_title(f"Decision curve, {_n_text(metrics)}")
    _legend(axes, "upper right", (1.0, 0.93))


def _repeats(panel: Panel, index: int) -> list[tuple[Array, Array]]:
    parts = []
    for column in range(len(panel.repeats)):
        label, probability = panel.label[:, index], panel.probability[:, column, index]
        known = ~np.isnan(label) & ~np.isnan(probability)
        parts.append((label[known], probability[known]))
    return parts


def _roc_curve(label: Array, score: Array, grid: Array) -> Array:
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    true = np.append(0, np.cumsum(label[order])[last])
    false = np.append(0, np.cumsum(1 - label[order])[last])
    return np.interp(grid, false / max(false[-1], 1), true / max(true[-1], 1))


def _save(figure: Figure, path: Path) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    stream = io.BytesIO()
    kind = path.suffix.removeprefix(".")
    metadata = {"Date": None, "Creator": "CliniMM"} if kind == "svg" else {}
    figure.savefig(stream, format=kind, metadata=metadata, dpi=150)
    write_bytes(path, stream.getvalue())
    return path


def _legend(axes: Axes, where: Any, anchor: tuple[float, float] | None = None) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc=where, bbox_to_anchor=anchor)
    else:
        axes.text(0.5, 0.5, "not estimable", transform=axes.transAxes, ha="center", color=_GREY)


def _figure_text(figure: Mapping[str, Any]) -> str:
    if figure["low"] is None:
        return f"{figure['value']:.2f}"
    dash = "–" if figure["low"] >= 0 else " to "
    return f"{figure['value']:.2f} ({figure['low']:.2f}{dash}{figure['high']:.2f})"


def _calibration_text(fused: Mapping[str, Any]) -> str:
    parts = [("slope", "calibration_slope"), ("intercept", "calibration_intercept"), ("ECE", "ece")]
    known = [(name, fused[key]) for name, key in parts if fused[key]["value"] is not None]
    return "\n".join(f"{name} {_figure_text(figure)}" for name, figure in known) or "observed"


def _n_text(metrics: Mapping[str, Any]) -> str:
    positives = "" if metrics["positives"] is None else f" ({metrics['positives']} positive)"
    return f"n = {metrics['n']}{positives}"


def _control(name: str) -> str:
    kind, _, modality = name.partition(":")
    if modality:
        return f"{modality} alone, {'network' if kind == 'single' else 'linear'}"
    return kind.replace("_", " ")


def _plus(subset: str) -> str:
    return subset.replace("+", " + ")


def _short(name: str) -> str:
    return name if len(name) <= 24 else name[:23] + "…"
