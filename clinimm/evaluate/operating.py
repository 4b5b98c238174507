"""The operating point: a threshold chosen on tuning subjects, never on the ones it is judged on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clinimm.config import EvaluateConfig
from clinimm.evaluate.estimate import rounded
from clinimm.evaluate.metrics import Array
from clinimm.evaluate.panel import Panel

_FEWEST = 5


@dataclass(frozen=True)
class OperatingPoint:
    """Where a probability becomes a flag: ``probability >= threshold``.

    Attributes:
        threshold: what ships, chosen on all tuning subjects.
        how: what was asked for, in words.
        note: what went otherwise than asked, or None.
        n, positives: tuning subjects behind ``threshold``.
        fits: threshold for the held-out subjects of one ``(repeat, fold)``, chosen without any
            row of those subjects; empty for a single split, where ``threshold`` is it.
    """

    threshold: float
    how: str
    note: str | None = None
    n: int = 0
    positives: int = 0
    fits: Mapping[tuple[int, int], float] = field(default_factory=dict)

    def thresholds(self, panel: Panel) -> Array:
        """The threshold of each subject and repeat, (subject, repeat)."""
        values = np.full(panel.fold.shape, self.threshold)
        for column, repeat in enumerate(panel.repeats):
            for fold in np.unique(panel.fold[:, column]):
                chosen = self.fits.get((repeat, int(fold)), self.threshold)
                values[panel.fold[:, column] == fold, column] = chosen
        return values

    def decisions(self, panel: Panel) -> Array:
        """The share of repeats in which each subject is flagged, (subject,); the panel has one class."""
        probability = panel.probability[:, :, 0]
        flagged = np.where(np.isnan(probability), np.nan, probability >= self.thresholds(panel))
        return np.nanmean(flagged, axis=1)

    def as_json(self) -> dict[str, Any]:
        """Plain values for ``metrics.json``."""
        return {
            "threshold": rounded(self.threshold),
            "how": self.how,
            "note": self.note,
            "n": self.n,
            "positives": self.positives,
            "fits": [
                {"repeat": repeat, "fold": fold, "threshold": rounded(value)}
                for (repeat, fold), value in sorted(self.fits.items())
            ],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> OperatingPoint:
        """What ``as_json`` wrote."""
        fits = {(int(fit["repeat"]), int(fit["fold"])): float(fit["threshold"]) for fit in value["fits"]}
        return cls(
            float(value["threshold"]), value["how"], value["note"], value["n"], value["positives"], fits
        )


def choose_operating_point(tuning: Panel | None, held_out: Panel, config: EvaluateConfig) -> OperatingPoint:
    """The operating point of one class.

    Under cross-validation a subject who is held out in one fold tunes another. The threshold of a
    fold is therefore chosen on the tuning rows of all fits without the subjects of that fold.

    Args:
        tuning: the tuning subjects of one class, or None where there are none.
        held_out: the subjects it will be used on, same class.
        config: what to aim at.
    """
    threshold, note, n, positives = _choose(tuning, config)
    fits = {}
    if tuning is not None and len(np.unique(held_out.fold[held_out.fold >= 0])) * len(held_out.repeats) > 1:
        for column, repeat in enumerate(held_out.repeats):
            for fold in np.unique(held_out.fold[:, column]):
                judged = held_out.subject_ids[held_out.fold[:, column] == fold]
                others = tuning.take(~tuning.among(judged))
                fits[(repeat, int(fold))] = _choose(others, config)[0]
    return OperatingPoint(threshold, _in_words(config), note, n, positives, fits)


def threshold_at_sensitivity(label: Array, probability: Array, aim: float) -> float:
    """The highest threshold that flags at least ``aim`` of the positives."""
    positive = np.sort(probability[label == 1])[::-1]
    return float(positive[math.ceil(aim * len(positive) - 1e-9) - 1])


def threshold_at_specificity(label: Array, probability: Array, aim: float) -> float:
    """The lowest threshold, among the scores seen, that leaves at least ``aim`` of the negatives alone."""
    negative = np.sort(probability[label == 0])
    last_alone = negative[math.ceil(aim * len(negative) - 1e-9) - 1]
    higher = probability[probability > last_alone]
    return float(higher.min()) if len(higher) else float(np.nextafter(last_alone, 2.0))


def _choose(tuning: Panel | None, config: EvaluateConfig) -> tuple[float, str | None, int, int]:
    aim = config.operating_value
    n = 0 if tuning is None else tuning.n
    positives = 0 if tuning is None else int(np.nansum(tuning.label[:, 0]))
    if config.operating_point == "threshold":
        return aim, None, n, positives
    if tuning is None or n == 0:
        return 0.5, "there are no labelled tuning subjects, so the threshold is 0.5", n, positives
    at_sensitivity = config.operating_point == "sensitivity"
    used = positives if at_sensitivity else n - positives
    needed = max(_FEWEST, math.ceil(1 / (1 - aim) - 1e-9))
    if used < needed:
        share = min(max(positives / n, 0.01), 0.99)
        word = "positives" if at_sensitivity else "negatives"
        note = (
            f"the tuning subjects hold {used} {word} and {needed} are needed to fix a "
            f"{config.operating_point} of {aim:g}, so the threshold is their share of positives, {share:.2f}"
        )
        return share, note, n, positives
    label = np.repeat(tuning.label[:, 0], len(tuning.repeats))
    probability = tuning.probability[:, :, 0].ravel()
    known = ~np.isnan(probability)
    choose = threshold_at_sensitivity if at_sensitivity else threshold_at_specificity
    return choose(label[known], probability[known], aim), None, n, positives


def _in_words(config: EvaluateConfig) -> str:
    if config.operating_point == "threshold":
        return f"threshold {config.operating_value:g}, as the pipeline file says"
    return f"{config.operating_point} of at least {config.operating_value:g} on the tuning subjects"
