"""Every metric of one class with its interval: what stands under ``fused`` in ``metrics.json``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clinimm.evaluate import bootstrap
from clinimm.evaluate.bootstrap import METHOD, Statistic, bootstrap_interval, point, resampled
from clinimm.evaluate.estimate import Estimate, estimate, not_estimable
from clinimm.evaluate.metrics import (
    RATES,
    Array,
    benefit,
    calibration_intercepts,
    calibration_slopes,
    equal_mass_bins,
    rate_counts,
    surprise,
    treat_all,
    wilson,
)
from clinimm.evaluate.operating import OperatingPoint
from clinimm.evaluate.panel import Panel

_WILSON = "Wilson"
_BASIC = "basic bootstrap by subject"
#: Thresholds of the decision curve.
CURVE = tuple(round(0.05 * step, 2) for step in range(1, 20))


@dataclass(frozen=True)
class Judge:
    """Turns a panel of one class and its draws into figures.

    Attributes:
        panel: predictions of one class.
        weights: the draws, (draw, subject).
        level: confidence level.
        minimum: fewest subjects that carry a figure.
    """

    panel: Panel
    weights: NDArray[np.int16]
    level: float
    minimum: int

    def all(self, point_of_use: OperatingPoint) -> dict[str, Estimate]:
        """Every metric, by name."""
        if self.panel.n < self.minimum:
            reason = bootstrap.too_small(self.panel, self.minimum) or ""
            return {name: self._missing(reason) for name in METRICS}
        figures = self.averages()
        figures["calibration_slope"] = self._discrimination(_skip_separated(calibration_slopes))
        figures["calibration_intercept"] = self._discrimination(_skip_separated(calibration_intercepts))
        decision = point_of_use.decisions(self.panel)
        figures |= {name: self.rate(name, decision) for name in ("sensitivity", "specificity", "ppv", "npv")}
        figures["net_benefit"] = self.net_benefit(decision, point_of_use.threshold)
        return figures

    def averages(self) -> dict[str, Estimate]:
        """The metrics that make sense as a mean over classes too."""
        return {
            "auroc": self.auroc(),
            "auprc": self._discrimination(bootstrap.weighted_average_precision),
            "brier": self._resampled(_mean_of(lambda y, p: (p - y) ** 2)),
            "log_loss": self._resampled(_mean_of(surprise)),
            "ece": self._calibration_error(),
        }

    def over_classes(self) -> dict[str, Estimate]:
        """Every metric's name for a panel of several classes: means, or where to look instead."""
        if self.panel.n < self.minimum:
            return {name: self._missing(f"n = {self.panel.n} is below the minimum") for name in METRICS}
        return {name: self._missing("given per class") for name in METRICS} | self.averages()

    def auroc(self) -> Estimate:
        """AUROC with its BCa interval."""
        draws = resampled(self.panel, bootstrap.weighted_auroc, self.weights)
        return bootstrap.auroc_estimate(self.panel, draws, self.level, self.minimum)

    def rate(self, name: str, decision: Array) -> Estimate:
        """A rate at the operating point with Wilson's interval."""
        successes, n = rate_counts(name, self.panel.label[:, 0], decision)
        if n == 0:
            return self._missing("nobody stands in the denominator")
        interval = wilson(successes, n, self.level)
        positives = {"sensitivity": n, "specificity": 0, "ppv": successes, "npv": n - successes}[name]
        return estimate(successes / n, interval, round(n), round(positives), _WILSON)

    def net_benefit(self, decision: Array, threshold: float) -> Estimate:
        """Net benefit a subject of flagging by ``decision``."""
        if not 0 <= threshold < 1:
            return self._missing("the threshold flags nobody at any probability")
        values = benefit(self.panel.label[:, 0], decision, threshold)
        draws = self.weights @ values / self.panel.n
        value = float(values.mean())
        interval = bootstrap_interval(draws, value, self.level, values - value)
        return estimate(value, interval, self.panel.n, self.panel.positives, METHOD)

    def decision_curve(self) -> list[dict[str, float | None]]:
        """Net benefit over thresholds, beside flagging everybody; flagging nobody has 0."""
        label = self.panel.label[:, 0]
        if self.panel.n < self.minimum:
            return []
        rows = []
        for threshold in CURVE:
            figure = self.net_benefit(OperatingPoint(threshold, "").decisions(self.panel), threshold)
            everybody = round(treat_all(label, threshold), 6)
            value = {key: figure.as_json()[key] for key in ("value", "low", "high")}
            rows.append({"threshold": threshold, **value, "treat_all": everybody})
        return rows

    def _resampled(self, statistic: Statistic) -> Estimate:
        draws = resampled(self.panel, statistic, self.weights)
        value = point(self.panel, statistic)
        if bootstrap.flat(draws):
            # A complete separation: the resamples say nothing about how much worse new subjects may be.
            draws = np.full_like(draws, np.nan)
        reason = "the classes separate, in the sample or in too many resamples"
        interval = bootstrap_interval(draws, value, self.level)
        return estimate(value, interval, self.panel.n, self.panel.positives, METHOD, reason)

    def _discrimination(self, statistic: Statistic) -> Estimate:
        if reason := bootstrap.too_small(self.panel, self.minimum):
            return self._missing(reason)
        return self._resampled(statistic)

    def _calibration_error(self) -> Estimate:
        # Resampling adds noise to an absolute value, so draws lie above the truth; the basic
        # interval reflects them about the estimate and takes that away.
        value = point(self.panel, _calibration_error)
        draws = resampled(self.panel, _calibration_error, self.weights)
        low, high = np.quantile(draws, [0.5 - self.level / 2, 0.5 + self.level / 2])
        interval = max(0.0, 2 * value - float(high)), max(0.0, 2 * value - float(low), value)
        return estimate(value, interval, self.panel.n, self.panel.positives, _BASIC)

    def _missing(self, reason: str) -> Estimate:
        return not_estimable(self.panel.n, self.panel.positives, reason)


METRICS = (
    "auroc",
    "auprc",
    "brier",
    "log_loss",
    "ece",
    "calibration_slope",
    "calibration_intercept",
    *(name for name in RATES if name not in {"fnr", "fpr"}),
    "net_benefit",
)


def _mean_of(value: Callable[[Array, Array], Array]) -> Statistic:
    def statistic(label: Array, probability: Array, weights: Array) -> Array:
        return weights @ value(label, probability) / weights.sum(axis=1)

    return statistic


def _skip_separated(fit: Statistic) -> Statistic:
    """Fit only where a class is not one-sided, so that a hopeless sample costs no Newton steps."""

    def statistic(label: Array, probability: Array, weights: Array) -> Array:
        if np.ptp(label) == 0 or np.ptp(probability) == 0:
            return np.full(len(weights), np.nan)
        return fit(label, probability, weights)

    return statistic


def _calibration_error(label: Array, probability: Array, weights: Array) -> Array:
    member = equal_mass_bins(probability)
    one_hot = (member[:, None] == np.arange(member.max() + 1)) * (probability - label)[:, None]
    return np.abs(weights @ one_hot).sum(axis=1) / weights.sum(axis=1)
