"""AUROC and average precision of every group, exact with ties, from rows in order of score.

One pass over blocks of equal scores gives every placement, and with them DeLong's variance
(Biometrics 1988) without comparing pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int
from numpy import ndarray

from clinimm.audit.engine.figures import Ends, Figures, by_block, design_effect
from clinimm.audit.engine.intervals import auroc_interval, logit_interval
from clinimm.audit.engine.rows import BLOCKS, Segments


@dataclass(frozen=True)
class Ranking:
    """Where positives and negatives of each group stand; a *step* is a run of equal scores in a group."""

    segments: Segments

    @property
    def _first(self) -> Int[ndarray, " step"]:
        """First row of each step."""
        return self.segments.steps

    @cached_property
    def _edge(self) -> Int[ndarray, " edge"]:
        """First step of each group, and the end."""
        return np.searchsorted(self._first, self.segments.start)

    @cached_property
    def _width(self) -> Int[ndarray, " step"]:
        return np.diff(self._first, append=len(self.segments.tie))

    @cached_property
    def _positives(self) -> Float64[ndarray, " step"]:
        label = self.segments.label
        if len(self._first) == len(label):  # no ties
            return label.astype(float)
        return np.add.reduceat(label, self._first, dtype=np.int64).astype(float)

    @cached_property
    def _negatives(self) -> Float64[ndarray, " step"]:
        return self._width - self._positives

    @cached_property
    def totals(self) -> tuple[Float64[ndarray, " group"], Float64[ndarray, " group"]]:
        """Positives and negatives of each group."""
        positives = self.segments.positives.astype(float)
        return positives, self.segments.size - positives

    @cached_property
    def _below(self) -> tuple[Int[ndarray, " step"], Int[ndarray, " step"]]:
        """Positives and negatives of the group with a lower score."""
        start = self.segments.start[:-1]
        seen = np.concatenate([[0], np.cumsum(self.segments.label, dtype=np.int64)])
        lower_positives = seen[self._first] - self._spread(seen[start])
        return lower_positives, self._first - self._spread(start) - lower_positives

    @cached_property
    def _placements(self) -> tuple[Float64[ndarray, " step"], Float64[ndarray, " step"]]:
        """Share of negatives below a positive of the step; share of positives above a negative."""
        (positives, negatives), (lower_positives, lower_negatives) = self.totals, self._below
        of_positive = (lower_negatives + self._negatives / 2) / self._spread(np.maximum(negatives, 1))
        all_positives = self._spread(positives)
        above = all_positives - lower_positives - self._positives / 2
        return of_positive, above / np.maximum(all_positives, 1)

    def auroc(self) -> Figures:
        """AUROC with DeLong's variance on the logit scale."""
        positives, negatives = self.totals
        of_positive, of_negative = self._placements
        with np.errstate(invalid="ignore", divide="ignore"):
            value = self._total(self._positives * of_positive) / positives
            value[(positives == 0) | (negatives == 0)] = np.nan
            first = self._variance(self._positives, of_positive, value, positives)
            second = self._variance(self._negatives, of_negative, value, negatives)

        def rows() -> Float64[ndarray, " row"]:
            return self.auroc_influence(value)

        effect = design_effect(self.segments, rows)
        variance = (first + second) * effect
        effective = positives / effect, negatives / effect
        with np.errstate(invalid="ignore", divide="ignore"):
            parts = [part**2 / (n - 1) for part, n in zip((first, second), effective, strict=True)]
            freedom = (first + second) ** 2 / (parts[0] + parts[1])

        def bounds(level: float) -> Ends:
            low, high = auroc_interval(value, variance, freedom, *effective, level)
            known = np.minimum(positives, negatives) >= 2
            return np.where(known, low, np.nan), np.where(known, high, np.nan)

        method = "DeLong, logit scale, Student's t; Newcombe's score interval held beside it where few"
        return Figures(
            "auroc",
            value,
            np.sqrt(variance),
            positives,
            bounds,
            lambda: by_block(self.segments, rows()),
            method,
        )

    def auroc_influence(self, value: Float64[ndarray, " group"]) -> Float64[ndarray, " row"]:
        """What each row adds to its group's AUROC."""
        (positives, negatives), (of_positive, of_negative) = self.totals, self._placements
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._by_label(
                (of_positive - self._spread(value)) / self._spread(positives),
                (of_negative - self._spread(value)) / self._spread(negatives),
            )

    def average_precision(self) -> Figures:
        """Average precision (the step sum, without interpolation) on the logit scale.

        The variance is that of the influence of the rows, at least that of Boyd et al. (ECML 2013),
        a share among the positives.
        """
        positives, negatives = self.totals
        lower_positives, lower_negatives = self._below
        true = self._spread(positives) - lower_positives
        flagged = true + self._spread(negatives) - lower_negatives
        precision = true / flagged  # a step flags its own rows at least
        each = self._positives / flagged
        loss = self._through(each * precision)
        gain = self._through(each) - loss
        with np.errstate(invalid="ignore", divide="ignore"):
            value = self._total(self._positives * precision) / positives
            value[negatives == 0] = np.nan
            gain += precision
            gain -= self._spread(value)
            squares = self._total(self._positives * gain**2 + self._negatives * loss**2)

        def rows() -> Float64[ndarray, " row"]:
            with np.errstate(invalid="ignore", divide="ignore"):
                share = 1 / self._spread(positives)
                return np.asarray(self._by_label(gain * share, -loss * share))

        effect = design_effect(self.segments, rows)
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = np.fmax(squares / positives**2, value * (1 - value) / positives) * effect

        def bounds(level: float) -> Ends:
            low, high = logit_interval(value, np.sqrt(variance), positives / effect - 1, level)
            known = (np.minimum(positives, negatives) >= 5) & (value < 1)
            return np.where(known, low, np.nan), np.where(known, high, np.nan)

        return Figures(
            "auprc",
            value,
            np.sqrt(variance),
            positives,
            bounds,
            lambda: by_block(self.segments, rows()),
            "influence, logit scale, Student's t",
        )

    def _variance(self, count: ndarray, placed: ndarray, value: ndarray, n: ndarray) -> ndarray:
        """Variance of a mean of placements; NaN with fewer than two."""
        squares = self._total(count * (placed - self._spread(value)) ** 2)
        return np.where(n > 1, squares / np.maximum(n - 1, 1) / n, np.nan)

    def _by_label(self, of_positive: ndarray, of_negative: ndarray) -> Float64[ndarray, " row"]:
        """A value of each row from one a step for positives and one for negatives."""
        positive = self.segments.label == 1
        return np.where(positive, np.repeat(of_positive, self._width), np.repeat(of_negative, self._width))

    def _total(self, steps: Float64[ndarray, " step"]) -> Float64[ndarray, " group"]:
        return np.add.reduceat(steps, self._edge[:-1])

    def _spread(self, groups: ndarray) -> ndarray:
        """A value a group, repeated for its steps."""
        return np.repeat(groups, np.diff(self._edge))

    def _through(self, steps: Float64[ndarray, " step"]) -> Float64[ndarray, " step"]:
        """Sum over the group's steps up to and with this one."""
        running = np.cumsum(steps)
        before = np.concatenate([[0.0], running])[self._edge[:-1]]
        return running - self._spread(before)


def auroc_over_repeats(segments: Segments, owner: Int[ndarray, " segment"], groups: int) -> Figures:
    """The mean over the repeats of a cross-validation of each group's AUROC; the subject is the unit.

    Scores of different repeats are never compared. A subject's placements are averaged over repeats,
    and DeLong's variance is that of the averages, as in ``clinimm.evaluate``.

    Args:
        segments: one a group and repeat, with the subject of each row.
        owner: the group of each segment.
        groups: how many there are.
    """
    assert segments.cluster is not None
    ranking = Ranking(segments)
    inner = ranking.auroc().value
    known = np.bincount(owner, ~np.isnan(inner), minlength=groups)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.bincount(owner, np.nan_to_num(inner), minlength=groups) / known
        influence = np.nan_to_num(ranking.auroc_influence(inner) / segments.spread(known[owner]))
    group = owner[segments.group]
    subjects = int(segments.cluster.max(initial=0)) + 1
    _, first, unit = np.unique(group * subjects + segments.cluster, return_index=True, return_inverse=True)
    summed = np.bincount(unit, influence, minlength=len(first))
    of_unit, positive = group[first], segments.label[first] == 1
    counts, variances = [], []
    for side in (positive, ~positive):
        n = np.bincount(of_unit[side], minlength=groups).astype(float)
        squares = np.bincount(of_unit[side], summed[side] ** 2, minlength=groups)
        counts.append(n)
        variances.append(np.where(n > 1, squares * n / np.maximum(n - 1, 1), np.nan))
    variance = variances[0] + variances[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = variance**2 / sum(part**2 / (n - 1) for part, n in zip(variances, counts, strict=True))

    def bounds(level: float) -> Ends:
        low, high = auroc_interval(value, variance, freedom, counts[0], counts[1], level)
        enough = np.minimum(counts[0], counts[1]) >= 2
        return np.where(enough, low, np.nan), np.where(enough, high, np.nan)

    def blocks() -> Float64[ndarray, "block group"]:
        cell = segments.block.astype(np.int64) * groups + group
        return np.bincount(cell, influence, minlength=BLOCKS * groups).reshape(BLOCKS, groups)

    method = "mean over repeats; DeLong of each subject's mean placement, logit scale, Student's t"
    return Figures("auroc", value, np.sqrt(variance), counts[0], bounds, blocks, method)
