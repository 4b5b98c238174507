"""How wrong a generated pixel is expected to be, and whether that expectation can be believed.

A stainer says how wrong it expects to be at each pixel: what its members each find noisy, and what
they disagree on (``Stained.uncertainty``). Networks are surer on other people's slides than they
should be, so a monotone map, fitted on the pairs of subjects that nobody trained on, turns it
into the error that was observed (``fit_error_map``). ``reliability.py`` says on further subjects
how well that went.

Errors are absolute differences of colour in 0 to 1, averaged over the three channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.optimize import isotonic_regression

from clinimm.core.errors import DataError

#: Shares of pixels that the intervals are meant to hold.
LEVELS = (0.5, 0.8, 0.9, 0.95)
_BINS = 128
_SMALLEST = 1e-6


@dataclass(frozen=True)
class PixelErrors:
    """What was expected and what was found at some pixels of one subject.

    Attributes:
        subject_id: whose pixels.
        expected: (pixel,) what the stainer expects, before calibration.
        observed: (pixel, 3) absolute difference from the real stain.
    """

    subject_id: str
    expected: Float[np.ndarray, " pixel"]
    observed: Float[np.ndarray, "pixel 3"]


@dataclass(frozen=True)
class ErrorMap:
    """Raw expectation -> calibrated expectation, and the intervals that go with it.

    Attributes:
        raw, calibrated: knots of the map, both ascending.
        half_widths: (level, factor): a pixel's interval at ``level`` is its colour ± factor × its
            calibrated expectation.
        subjects, pixels: what it was fitted on.
    """

    raw: tuple[float, ...]
    calibrated: tuple[float, ...]
    half_widths: tuple[tuple[float, float], ...]
    subjects: int
    pixels: int

    def __call__(self, raw: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Calibrated expected absolute error.

        Past the last knot the map goes on through the origin's ray: where the members disagree more
        than ever on the tuning pairs, the expectation keeps growing.
        """
        inside = np.interp(raw, self.raw, self.calibrated)
        beyond = raw * (self.calibrated[-1] / max(self.raw[-1], _SMALLEST))
        return np.where(raw > self.raw[-1], beyond, inside).astype(np.float32)

    def half_width(
        self, calibrated: Float[np.ndarray, "*shape"], level: float
    ) -> Float[np.ndarray, "*shape"]:
        """Half of the interval that holds ``level`` of the colour values.

        Raises:
            DataError: no interval was fitted at that level.
        """
        known = dict(self.half_widths)
        if level not in known:
            raise DataError(f"no interval at level {level}; fitted are {', '.join(map(str, known))}.")
        return calibrated * known[level]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "raw": list(self.raw),
            "calibrated": list(self.calibrated),
            "half_widths": [list(pair) for pair in self.half_widths],
            "subjects": self.subjects,
            "pixels": self.pixels,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ErrorMap:
        """The inverse of ``to_json``."""
        pairs = tuple((float(level), float(factor)) for level, factor in value["half_widths"])
        return cls(tuple(value["raw"]), tuple(value["calibrated"]), pairs, value["subjects"], value["pixels"])


def fit_error_map(samples: Sequence[PixelErrors], levels: tuple[float, ...] = LEVELS) -> ErrorMap:
    """The best monotone map from raw expectation to observed error, every subject counting the same.

    Pixels are binned by their raw expectation; isotonic regression runs through the bins' means.
    The intervals' factors are quantiles of |error| / expectation (split conformal prediction with
    a normalised score, Lei et al. 2018), one for each level.

    Raises:
        DataError: there is no pixel, or a value is not finite.
    """
    raw, observed, weight = stack_pixels(samples)
    order = np.argsort(raw, kind="stable")
    ordered, share = raw[order], np.cumsum(weight[order])
    last_equal = np.searchsorted(ordered, ordered, "right") - 1
    place = np.minimum((share[last_equal] / share[-1] * _BINS).astype(int), _BINS - 1)
    total = np.bincount(place, weight[order], _BINS)
    used = total > 0
    error = observed.mean(axis=1)[order]
    centres = np.bincount(place, weight[order] * ordered, _BINS)[used] / total[used]
    heights = np.bincount(place, weight[order] * error, _BINS)[used] / total[used]
    fitted = isotonic_regression(heights, weights=total[used]).x
    knots, first = np.unique(centres, return_index=True)
    subjects = len({sample.subject_id for sample in samples})
    plain = ErrorMap(_values(knots), _values(fitted[first]), (), subjects, len(raw))
    return ErrorMap(
        plain.raw, plain.calibrated, _factors(plain(raw), observed, weight, levels), subjects, len(raw)
    )


def stack_pixels(samples: Sequence[PixelErrors]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Expectation, errors, and weights under which each subject counts the same.

    Raises:
        DataError: there is no pixel, or a value is not finite.
    """
    filled = [sample for sample in samples if len(sample.expected)]
    if not filled:
        raise DataError("no pixel of a tuning pair is valid, so no error can be calibrated.")
    raw = np.concatenate([sample.expected for sample in filled]).astype(float)
    observed = np.concatenate([sample.observed for sample in filled]).astype(float)
    if not (np.isfinite(raw).all() and np.isfinite(observed).all()):
        raise DataError("an expected or observed error is not finite; the stainer's output is broken.")
    pixels: dict[str, int] = {}
    for sample in filled:
        pixels[sample.subject_id] = pixels.get(sample.subject_id, 0) + len(sample.expected)
    weight = np.concatenate([np.full(len(s.expected), 1 / pixels[s.subject_id]) for s in filled])
    return raw, observed, weight


def _factors(
    calibrated: np.ndarray, observed: np.ndarray, weight: np.ndarray, levels: tuple[float, ...]
) -> tuple[tuple[float, float], ...]:
    """Weighted quantiles of |error| in units of its expectation."""
    score = (observed / np.maximum(calibrated, _SMALLEST)[:, None]).ravel()
    order = np.argsort(score, kind="stable")
    share = np.cumsum(np.repeat(weight, observed.shape[1])[order])
    places = np.minimum(np.searchsorted(share, np.asarray(levels) * share[-1]), len(score) - 1)
    return tuple((level, float(score[order[place]])) for level, place in zip(levels, places, strict=True))


def _values(array: np.ndarray) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in array)
