"""Calibration of every group: Brier score, expected calibration error, intercept and slope.

Intercept and slope are maximum likelihood. Newton's method runs on a table of logit bins by group,
which is small and already exact to about 1e-5; one step over the rows squares what is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int
from numpy import ndarray
from scipy.special import expit
from scipy.stats import norm

from clinimm.audit.engine.figures import Ends, Figures, by_block, design_effect
from clinimm.audit.engine.intervals import clopper_pearson, logit_interval, t_of, z_of
from clinimm.audit.engine.rows import Segments

_LOGIT_BINS, _BIN_WIDTH = 560, 0.05
_STEPS = 30
_BISECTIONS = 24
_STEEPEST = 50.0
_FEWEST = 5


@dataclass(frozen=True)
class CalibrationOf:
    """Calibration figures of the groups of some rows."""

    segments: Segments

    @cached_property
    def _smaller(self) -> Float64[ndarray, " group"]:
        """Rows of the rarer class."""
        positives = self.segments.positives
        return np.minimum(positives, self.segments.size - positives).astype(float)

    def brier(self) -> Figures:
        """Mean squared distance of the probability from what happened."""
        part = self.segments
        squares = (part.probability - part.label) ** 2
        value = part.total(squares) / part.size
        rows = (squares - part.spread(value)) / part.spread(part.size)
        effect = design_effect(part, lambda: rows)
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = part.total(rows**2) * part.size / np.maximum(part.size - 1, 1) * effect

        def bounds(level: float) -> Ends:
            ends = logit_interval(value, np.sqrt(variance), self._smaller / effect - 1, level)
            return self._where_enough(ends, (value > 0) & (value < 1))

        method = "logit scale, Student's t with the rarer class less one"
        return Figures(
            "brier",
            value,
            np.sqrt(variance),
            part.size.astype(float),
            bounds,
            lambda: by_block(part, rows),
            method,
        )

    def observed_less_predicted(self) -> Figures:
        """Prevalence less mean predicted risk, given the scores.

        The number of positives given the scores is a sum of unequal coins, never wider than a
        binomial (Hoeffding, Ann Math Stat 1956), so Clopper and Pearson's interval covers it.
        """
        part = self.segments
        mean = part.total(part.probability) / part.size
        value = part.positives / part.size - mean
        rows = (part.label - part.probability - part.spread(value)) / part.spread(part.size)
        effect = design_effect(part, lambda: rows)
        error = np.sqrt(part.total(rows**2) * effect)

        def bounds(level: float) -> Ends:
            low, high = clopper_pearson(part.positives / effect, part.size / effect, level)
            return low - mean, high - mean

        return Figures(
            "observed_less_predicted",
            value,
            error,
            part.size.astype(float),
            bounds,
            lambda: by_block(part, rows),
            "Clopper-Pearson of the prevalence, given the scores",
        )

    def calibration_error(self) -> Figures:
        """Expected calibration error over bins of equal mass, as ``evaluate.metrics`` bins them.

        About ten subjects a bin, two to ten bins. The error of the estimate is at most the sum of
        the bins' errors (triangle inequality), whose quantile gives an interval that is wide but
        holds; a lower end above 0 shows miscalibration. What is estimated is the error over these
        bins, given the scores.
        """
        part = self.segments
        edge, bins_of_group = self.bin_edges()
        size = np.diff(edge).astype(float)
        observed, expected = (_between(values, edge) for values in (part.label, part.probability))
        residual = observed - expected
        group = np.repeat(np.arange(part.groups), bins_of_group)
        value = np.bincount(group, np.abs(residual), minlength=part.groups) / part.size
        share = (observed + 2.0) / (size + 4.0)
        error = np.sqrt(size * share * (1 - share)) / part.size[group]
        effect = design_effect(part, lambda: (part.label - part.probability) / part.spread(part.size))
        mean = np.bincount(group, error, minlength=part.groups) * np.sqrt(2 / np.pi)
        square = np.bincount(group, error**2, minlength=part.groups)

        def rows() -> Float64[ndarray, " row"]:
            sign = np.repeat(np.sign(residual), np.diff(edge))
            return (sign * (part.label - part.probability) - part.spread(value)) / part.spread(part.size)

        def bounds(level: float) -> Ends:
            spread = np.sqrt(square * (1 - 2 / np.pi))
            reach = (mean + float(norm.ppf(level)) * spread) * np.sqrt(effect)
            return self._where_enough((np.maximum(value - reach, 0.0), np.minimum(value + reach, 1.0)))

        return Figures(
            "ece",
            value,
            np.sqrt(square * effect),
            part.size.astype(float),
            bounds,
            lambda: by_block(part, rows()),
            "sum of the bins' errors",
        )

    def intercept(self) -> Figures:
        """Calibration in the large: the shift of the logit, slope held at 1 (Van Calster et al. 2019).

        The interval inverts the score test of the number of positives given the scores, with a
        correction for its being whole. Where the slope is not 1 the scores' own spread adds to the
        variance: the larger of model and robust variance is taken.
        """
        part = self.segments
        near = self._near_intercept
        linear = part.spread(near) + part.logit
        fitted = expit(linear, out=linear)
        residual, information = part.label - fitted, part.total(fitted * (1 - fitted))
        with np.errstate(invalid="ignore", divide="ignore"):
            value = near + part.total(residual) / information

        def rows() -> Float64[ndarray, " row"]:
            with np.errstate(invalid="ignore", divide="ignore"):
                return np.nan_to_num(residual / part.spread(information))

        with np.errstate(invalid="ignore", divide="ignore"):
            wider = np.fmax(part.total(residual**2) / information, 1.0)
        effect = design_effect(part, rows) * wider
        with np.errstate(invalid="ignore", divide="ignore"):
            error = np.sqrt(effect / information)

        def bounds(level: float) -> Ends:
            return self._where_enough(
                (self._score_end(-1.0, level, effect), self._score_end(1.0, level, effect))
            )

        return Figures(
            "calibration_intercept",
            value,
            error,
            self._smaller,
            bounds,
            lambda: by_block(part, rows()),
            "score test, slope 1, the larger of model and robust variance",
        )

    def slope(self) -> Figures:
        """Calibration slope: below 1 the predictions are too extreme."""
        part = self.segments
        a, near = self._solve_slope()
        linear = part.spread(near) * part.logit
        linear += part.spread(a)
        fitted = expit(linear, out=linear)
        residual = part.label - fitted
        curve = np.multiply(fitted, 1 - fitted, out=fitted)
        leaning = curve * part.logit
        s0, s1, s2 = part.total(curve), part.total(leaning), part.total(leaning * part.logit)
        step = _newton(s0, s1, s2, part.total(residual), part.total(residual * part.logit))[1]
        b = near + step
        with np.errstate(invalid="ignore", divide="ignore"):
            determinant = s0 * s2 - s1 * s1
            leaning = part.logit - part.spread(s1 / s0)
            leaning *= residual  # a row's pull on the slope
            model = s0 / determinant
            robust = part.total(leaning**2) * model**2

        def rows() -> Float64[ndarray, " row"]:
            return np.asarray(np.nan_to_num(leaning * part.spread(model)))

        effect = design_effect(part, rows)
        with np.errstate(invalid="ignore", divide="ignore"):
            error = np.sqrt(np.fmax(model, robust) * effect)
        error[np.isnan(b)] = np.nan

        def bounds(level: float) -> Ends:
            half = t_of(level, self._smaller / effect - 1) * error
            return self._where_enough((b - half, b + half))

        return Figures(
            "calibration_slope",
            b,
            error,
            self._smaller,
            bounds,
            lambda: by_block(part, rows()),
            "Wald, the larger of model and robust variance, Student's t",
        )

    def _where_enough(self, ends: Ends, also: ndarray | bool = True) -> Ends:
        known = (self._smaller >= _FEWEST) & also
        return np.where(known, ends[0], np.nan), np.where(known, ends[1], np.nan)

    def bin_edges(self) -> tuple[Int[ndarray, " edge"], Int[ndarray, " group"]]:
        """First row of each bin of each group, and the end; and how many bins each group has.

        A bin begins with the first of the equal scores that its quantile falls on, and may be empty.
        """
        part = self.segments
        bins = np.clip(part.size // 10, 2, 10)
        group = np.repeat(np.arange(part.groups), bins)
        place = np.arange(len(group)) - np.repeat(np.cumsum(bins) - bins, bins)
        rank = -(-(part.size[group] - 1) * place // bins[group])
        step = np.searchsorted(part.steps, part.start[group] + rank, side="right") - 1
        return np.append(part.steps[step], len(part.tie)), bins

    @cached_property
    def _table(self) -> tuple[ndarray, ndarray, ndarray]:
        """Rows, mean logit and positives by group and logit bin; bins that nobody is in are left out."""
        part = self.segments
        place = (part.logit / _BIN_WIDTH).astype(np.int64) + _LOGIT_BINS // 2
        cell, shape = part.group * _LOGIT_BINS + place, (part.groups, _LOGIT_BINS)
        x = np.bincount(cell, part.logit, minlength=part.groups * _LOGIT_BINS).reshape(shape)
        both = np.bincount(2 * cell + part.label, minlength=2 * x.size).reshape(*shape, 2)
        used = both.any(axis=(0, 2))
        n, y = both[:, used].sum(2).astype(float), both[:, used, 1].astype(float)
        return n, x[:, used] / np.maximum(n, 1), y

    @cached_property
    def _near_intercept(self) -> Float64[ndarray, " group"]:
        """Shift at which as many events are expected as there are; NaN for none or all."""
        n, x, y = self._table
        a, events = np.zeros(self.segments.groups), y.sum(1)
        with np.errstate(all="ignore"):
            for _ in range(_STEPS):
                fitted = expit(a[:, None] + x)
                step = (events - (n * fitted).sum(1)) / (n * fitted * (1 - fitted)).sum(1)
                a = a + np.clip(np.nan_to_num(step), -2.0, 2.0)
                if not np.any(np.abs(step) > 1e-9):
                    break
        return np.where((events > 0) & (events < self.segments.size), a, np.nan)

    def _score_end(self, side: float, level: float, effect: ndarray) -> Float64[ndarray, " group"]:
        """Shift at which the events seen lie z standard deviations (and a half event) off."""
        n, x, y = self._table
        events, z = y.sum(1), z_of(level)
        near = np.nan_to_num(self._near_intercept)
        low = near if side > 0 else near - 20.0
        high = near + 20.0 if side > 0 else near
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            fitted = expit(middle[:, None] + x)
            off = side * ((n * fitted).sum(1) - events) - 0.5 * effect
            far = off > z * np.sqrt((n * fitted * (1 - fitted)).sum(1) * effect)
            inner = far if side > 0 else ~far
            low, high = np.where(inner, low, middle), np.where(inner, middle, high)
        return (low + high) / 2

    def _solve_slope(self) -> tuple[ndarray, ndarray]:
        """Intercept and slope together; NaN where the likelihood has no maximum."""
        n, x, y = self._table
        a, b = np.zeros(self.segments.groups), np.ones(self.segments.groups)
        moved = determinant = np.zeros(self.segments.groups)
        with np.errstate(all="ignore"):
            for _ in range(_STEPS):
                fitted = expit(a[:, None] + b[:, None] * x)
                curve = n * fitted * (1 - fitted)
                residual = y - n * fitted
                sums = curve.sum(1), (curve * x).sum(1), (curve * x * x).sum(1)
                determinant = sums[0] * sums[2] - sums[1] ** 2
                step = _newton(*sums, residual.sum(1), (residual * x).sum(1))
                a, b, moved = _move(a, b, *step)
                if not np.any(moved > 1e-8):
                    break
        sure = (moved < 1e-3) & (np.abs(b) < _STEEPEST) & (determinant > 1e-9) & (self._smaller > 0)
        return np.where(sure, a, np.nan), np.where(sure, b, np.nan)


def _between(values: ndarray, edge: Int[ndarray, " edge"]) -> ndarray:
    """Sum of a value a row from each edge to the next."""
    sums = np.add.reduceat(values, edge[:-1], dtype=np.float64)
    return np.where(np.diff(edge) > 0, sums, 0.0)


def _newton(  # the six sums of a two-parameter step
    s0: ndarray, s1: ndarray, s2: ndarray, g0: ndarray, g1: ndarray
) -> tuple[ndarray, ndarray]:
    with np.errstate(invalid="ignore", divide="ignore"):
        determinant = s0 * s2 - s1 * s1
        return (s2 * g0 - s1 * g1) / determinant, (s0 * g1 - s1 * g0) / determinant


def _move(a: ndarray, b: ndarray, da: ndarray, db: ndarray) -> tuple[ndarray, ndarray, ndarray]:
    """A step of at most 5, and how far it went; NaN steps do not move."""
    da, db = np.nan_to_num(da, posinf=0.0, neginf=0.0), np.nan_to_num(db, posinf=0.0, neginf=0.0)
    far = np.maximum(np.abs(da), np.abs(db))
    limit = np.maximum(1.0, far / 5.0)
    return a + da / limit, b + db / limit, far
