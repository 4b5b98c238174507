"""Can the expected error be believed? Expected against observed error on subjects that nothing was fitted to.

Errors are absolute differences of colour in 0 to 1, averaged over the three channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from clinimm.staining.agreement import Figure
from clinimm.staining.calibrate_stain import ErrorMap, PixelErrors, stack_pixels
from clinimm.staining.clusters import cluster_figure, figure_json, ratio


@dataclass(frozen=True)
class ReliabilityRow:
    """Pixels whose calibrated expectation lies between two bounds.

    Attributes:
        low, high: the bounds.
        pixels, subjects: how many.
        expected: their mean expectation.
        observed: their mean error, with its interval over subjects.
    """

    low: float
    high: float
    pixels: int
    subjects: int
    expected: float
    observed: Figure


@dataclass(frozen=True)
class Reliability:
    """Expected against observed error on subjects that neither network nor map has seen.

    Attributes:
        rows: the table, ascending.
        calibration_error: mean |expected - observed| over the rows, each weighted by its pixels
            (Guo et al. 2017, arXiv:1706.04599, for an error in place of a probability).
        mean_expected, mean_observed: over all pixels.
        coverage: level -> share of colour values inside their interval.
        pixels: how many; the figures' n counts subjects.
    """

    rows: tuple[ReliabilityRow, ...]
    calibration_error: Figure
    mean_expected: Figure
    mean_observed: Figure
    coverage: dict[float, Figure]
    pixels: int

    def to_json(self) -> dict[str, Any]:
        """As JSON values, for a run's evidence."""
        rows = [
            {
                "low": row.low,
                "high": row.high,
                "pixels": row.pixels,
                "subjects": row.subjects,
                "expected": row.expected,
                "observed": figure_json(row.observed),
            }
            for row in self.rows
        ]
        return {
            "rows": rows,
            "pixels": self.pixels,
            "calibration_error": figure_json(self.calibration_error),
            "mean_expected": figure_json(self.mean_expected),
            "mean_observed": figure_json(self.mean_observed),
            "coverage": {str(level): figure_json(figure) for level, figure in self.coverage.items()},
        }


def reliability(
    samples: Sequence[PixelErrors],
    maps: ErrorMap | Sequence[ErrorMap],
    bins: int = 10,
    seed: int = 0,
    draws: int = 1000,
) -> Reliability:
    """Compare expectation and error on held-out subjects, in ``bins`` equal parts of the pixels.

    Args:
        samples: pixels of held-out subjects.
        maps: what calibrates them, with the widths of its intervals: one for all, or one a sample where
            the samples come from several folds, with the same levels.
        bins: parts of the pixels.
        seed, draws: of the bootstrap.

    Raises:
        DataError: there is no pixel, or a value is not finite.
    """
    _, observed, _ = stack_pixels(samples)
    each_map = [maps] * len(samples) if isinstance(maps, ErrorMap) else list(maps)
    parts = [(one, own) for one, own in zip(samples, each_map, strict=True) if len(one.expected)]
    expected = np.concatenate([own(one.expected) for one, own in parts]).astype(float)
    widths = {
        level: np.concatenate(
            [np.full(len(one.expected), dict(own.half_widths)[level]) for one, own in parts]
        )
        for level, _ in parts[0][1].half_widths
    }
    edges = np.unique(np.quantile(expected, np.linspace(0, 1, bins + 1)))
    place = np.clip(np.searchsorted(edges, expected, "right") - 1, 0, max(len(edges) - 2, 0))
    names = sorted({sample.subject_id for sample in samples})
    subject = np.repeat(
        [names.index(sample.subject_id) for sample in samples], [len(s.expected) for s in samples]
    )
    sums = _Sums.of(expected, observed, widths, subject * bins + place, len(names), bins)

    def figure(top: np.ndarray, bottom: np.ndarray) -> Figure:
        return cluster_figure(lambda w: ratio(w @ top, w @ bottom), names, "", seed, draws)

    rows = tuple(
        ReliabilityRow(
            float(edges[b]),
            float(edges[min(b + 1, len(edges) - 1)]),
            int(sums.count[:, b].sum()),
            int((sums.count[:, b] > 0).sum()),
            float(sums.expected[:, b].sum() / sums.count[:, b].sum()),
            figure(sums.observed[:, b], sums.count[:, b]),
        )
        for b in range(bins)
        if sums.count[:, b].sum() > 0
    )
    each = sums.count.sum(axis=1)
    return Reliability(
        rows,
        cluster_figure(sums.calibration_error, names, "", seed, draws),
        figure(sums.expected.sum(axis=1), each),
        figure(sums.observed.sum(axis=1), each),
        {level: figure(inside, each) for level, inside in sums.inside.items()},
        len(expected),
    )


@dataclass(frozen=True)
class _Sums:
    """Sums by subject and bin: all that the bootstrap has to draw from."""

    count: Float[np.ndarray, "subject bin"]
    expected: Float[np.ndarray, "subject bin"]
    observed: Float[np.ndarray, "subject bin"]
    inside: dict[float, Float[np.ndarray, " subject"]]

    @classmethod
    def of(
        cls,
        expected: np.ndarray,
        observed: np.ndarray,
        widths: dict[float, np.ndarray],
        cell: np.ndarray,
        subjects: int,
        bins: int,
    ) -> _Sums:
        def table(values: np.ndarray) -> np.ndarray:
            return np.bincount(cell, values, subjects * bins).reshape(subjects, bins)

        inside = {
            level: table((observed <= (factor * expected)[:, None]).mean(axis=1)).sum(axis=1)
            for level, factor in widths.items()
        }
        return cls(table(np.ones(len(cell))), table(expected), table(observed.mean(axis=1)), inside)

    def calibration_error(self, weights: np.ndarray) -> np.ndarray:
        gap = np.abs(weights @ self.expected - weights @ self.observed).sum(axis=1)
        return ratio(gap, (weights @ self.count).sum(axis=1))
