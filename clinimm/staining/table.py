"""One tidy table of results: every method, every figure, its interval and its n.

A row is ``method, stain, metric, value, low, high, n, unit, reason``. Beside the methods there is a
row ``MODEL - BASELINE`` for each metric: the model less the best baseline of that metric on the same
pairs, with the interval of that difference. Choosing the best after the fact flatters the baseline,
which is on purpose: whoever wants a network bears the burden of proof.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from clinimm.staining.agreement import (
    LEVEL,
    Figure,
    LeaveOneOut,
    Scale,
    Statistic,
    auroc_within,
    concordance,
    leave_one_out,
    limits_of_agreement,
    partial_correlation,
)
from clinimm.staining.biology import COVARIATES, REAL, Measured
from clinimm.staining.image_metrics import SetDistance

COLUMNS = ("method", "stain", "metric", "value", "low", "high", "n", "unit", "reason")
#: An image that equals the real one has no noise; its ratio counts as this many dB.
_MOST_DB = 100.0
_TOTALS = {
    "count": "nuclei",
    "density_per_mm2": "nuclei/mm2",
    "positive_area": "share of area",
    "positivity_index": "share of nuclei",
    "h_score": "0 to 300",
}

Frame = Literal["images", "regions", "nuclei"]


@dataclass(frozen=True)
class Metric:
    """A figure that methods are compared by.

    Attributes:
        name: as in the table.
        frame: which of the measurements it is made from.
        unit: what it is counted in.
        higher: whether more is better.
        make: the statistic of a method on that frame's rows.
        scale: on which its interval is made.
        selective: whether it only means something for a stain that tells cells apart.
    """

    name: str
    frame: Frame
    unit: str
    higher: bool
    make: Callable[[Measured, str], Statistic]
    scale: Scale = "plain"
    selective: bool = False


def totals(measured: Measured, column: str, method: str) -> Float[np.ndarray, " pair"]:
    """A column of the images' table for one method, one value a pair.

    A virtual image without nuclei has no share of positive ones; it counts as 0, or a method that
    shows nothing would be left out of the comparison.
    """
    images = measured.images
    values = images.loc[images["method"] == method, column].to_numpy(dtype=float)
    return values if method == REAL else np.nan_to_num(values, nan=0.0, posinf=_MOST_DB)


def _error(column: str, relative: bool = False) -> Callable[[Measured, str], Statistic]:
    def make(measured: Measured, method: str) -> Statistic:
        real = totals(measured, column, REAL)
        wrong = np.abs(totals(measured, column, method) - real)
        with np.errstate(divide="ignore", invalid="ignore"):
            return _mean_of(np.where(real > 0, wrong / real, np.nan) if relative else wrong)

    return make


def _plain(column: str) -> Callable[[Measured, str], Statistic]:
    def make(measured: Measured, method: str) -> Statistic:
        images = measured.images
        values = images.loc[images["method"] == method, column].to_numpy(dtype=float)
        return _mean_of(np.minimum(values, _MOST_DB))

    return make


def _mean_of(values: Float[np.ndarray, " pair"]) -> Statistic:
    def statistic(rows: np.ndarray) -> float:
        kept = values[rows][~np.isnan(values[rows])]
        return float(kept.mean()) if len(kept) else float("nan")

    return statistic


def _follows(frame: Frame, beyond: bool = False) -> Callable[[Measured, str], Statistic]:
    """Correlation with the real stain within a group; ``beyond`` takes the region's content out too."""

    def make(measured: Measured, method: str) -> Statistic:
        table: pd.DataFrame = getattr(measured, frame)
        real, virtual = (table[name].to_numpy(dtype=float) for name in (REAL, method))
        given = pd.get_dummies(table["group"], drop_first=True).to_numpy(dtype=float)
        if beyond and measured.selective:
            given = np.column_stack([given, table[list(COVARIATES)].to_numpy(dtype=float)])
        return lambda rows: partial_correlation(real[rows], virtual[rows], given[rows])

    return make


def _agrees(measured: Measured, method: str) -> Statistic:
    real, virtual = (measured.regions[name].to_numpy(dtype=float) for name in (REAL, method))
    return lambda rows: concordance(real[rows], virtual[rows]) if len(rows) else math.nan


def _told_apart(measured: Measured, method: str) -> Statistic:
    real, virtual = (measured.nuclei[name].to_numpy(dtype=float) for name in (REAL, method))
    positive = real >= measured.settings.weak
    groups = pd.factorize(measured.nuclei["group"])[0]
    return lambda rows: auroc_within(positive[rows], virtual[rows], groups[rows])


REGION_CORRELATION = Metric(
    "region_correlation", "regions", "r", True, _follows("regions", beyond=True), "fisher"
)
CELL_AUROC = Metric("cell_auroc", "nuclei", "AUROC", True, _told_apart, "share", selective=True)
DICE = Metric("dice", "images", "Dice", True, _plain("dice"), "share")
PSNR = Metric("psnr", "images", "dB", True, _plain("psnr"))
SSIM = Metric("ssim", "images", "SSIM", True, _plain("ssim"))

#: Every figure by which methods are compared, in the order of the table.
METRICS: tuple[Metric, ...] = (
    PSNR,
    SSIM,
    DICE,
    REGION_CORRELATION,
    Metric("region_correlation_raw", "regions", "r", True, _follows("regions"), "fisher"),
    Metric("region_concordance", "regions", "Lin's rho", True, _agrees, "fisher"),
    CELL_AUROC,
    Metric("cell_correlation", "nuclei", "r", True, _follows("nuclei"), "fisher"),
    Metric("count_error", "images", "share of nuclei", False, _error("count", relative=True)),
    Metric("positive_area_error", "images", "share of area", False, _error("positive_area")),
    Metric(
        "positivity_error", "images", "share of nuclei", False, _error("positivity_index"), selective=True
    ),
    Metric("h_score_error", "images", "0 to 300", False, _error("h_score"), selective=True),
)


def metrics_of(measured: Measured) -> tuple[Metric, ...]:
    """The metrics that mean something for the stain."""
    return tuple(metric for metric in METRICS if measured.selective or not metric.selective)


def units_of(measured: Measured, frame: Frame) -> list[str]:
    """What each row of a frame hangs together by."""
    table: pd.DataFrame = getattr(measured, frame)
    if frame == "images":
        table = table[table["method"] == REAL]
    return [str(unit) for unit in table["unit"]]


@dataclass(frozen=True)
class Scores:
    """One metric of every method, ready to be compared.

    Attributes:
        metric: which.
        of: method -> the statistic with each unit left out.
        level: confidence level.
    """

    metric: Metric
    of: Mapping[str, LeaveOneOut]
    level: float = LEVEL

    def figure(self, method: str) -> Figure:
        """A method's figure with its interval by unit."""
        return self.of[method].figure(self.metric.scale, self.metric.unit, self.level)

    def gain(self, model: str, other: str) -> Figure:
        """The model less another method; where less is better, it stays that way round."""
        return self.of[model].less(self.of[other]).figure("plain", self.metric.unit, self.level)

    def best_baseline(self, model: str) -> str | None:
        """The method beside the model with the best value; None where none has a value."""
        sign = 1 if self.metric.higher else -1
        known = {
            name: sign * one.value
            for name, one in self.of.items()
            if name != model and not math.isnan(one.value)
        }
        return max(known, key=lambda name: known[name]) if known else None


def score(measured: Measured, metric: Metric, level: float = LEVEL) -> Scores:
    """Evaluate a metric for every method, on the same rows and units."""
    units = units_of(measured, metric.frame)
    return Scores(
        metric,
        {name: leave_one_out(metric.make(measured, name), units) for name in measured.methods},
        level,
    )


def result_table(
    measured: Measured,
    model: str,
    distances: Mapping[str, SetDistance] | None = None,
    level: float = LEVEL,
) -> pd.DataFrame:
    """All figures of a stain.

    Args:
        measured: from ``measure_stain``; its methods are the model and the baselines.
        model: the method that the others are compared with.
        distances: FID and KID of each method, where they were made.
        level: confidence level.

    Raises:
        ValueError: the model is not among the methods.
    """
    if model not in measured.methods:
        raise ValueError(f"{model!r} is not among the methods {measured.methods}.")
    rows: list[dict[str, object]] = []
    for metric in metrics_of(measured):
        rows += _compared(score(measured, metric, level), model, measured.stain)
    rows += _agreement(measured, level)
    for method, distance in (distances or {}).items():
        rows += [_row(method, measured.stain, name, getattr(distance, name)) for name in ("fid", "kid")]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def join_tables(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Several stains' tables as one."""
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(COLUMNS))


def _agreement(measured: Measured, level: float) -> Iterator[dict[str, object]]:
    for column, unit in _TOTALS.items():
        if not measured.selective and column in ("positivity_index", "h_score"):
            continue
        real = totals(measured, column, REAL)
        known = ~np.isnan(real)
        units = [one for one, keep in zip(units_of(measured, "images"), known, strict=True) if keep]
        for method in measured.methods if units else ():
            virtual = totals(measured, column, method)[known]
            limits = limits_of_agreement(real[known], virtual, units, unit, level)
            for end in ("bias", "lower", "upper"):
                yield _row(method, measured.stain, f"{column}_{end}", getattr(limits, end))


def _compared(scores: Scores, model: str, stain: str) -> Iterator[dict[str, object]]:
    name = scores.metric.name
    for method in scores.of:
        yield _row(method, stain, name, scores.figure(method))
    other = scores.best_baseline(model)
    if other is not None:
        yield _row(f"{model} - {other}", stain, name, scores.gain(model, other))


def _row(method: str, stain: str, metric: str, found: Figure) -> dict[str, object]:
    ends = (found.value, found.low, found.high, found.n, found.unit, found.reason)
    return dict(zip(COLUMNS, (method, stain, metric, *ends), strict=True))
