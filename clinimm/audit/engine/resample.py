"""Resampling counts instead of rows: the same law, at a cost that does not grow with the rows.

A bootstrap of rows draws each cell's count from one multinomial. Where subjects have several rows,
whole subjects are drawn: subjects with the same counts in every cell are one *pattern*, and the
patterns' counts are multinomial. Permuting group labels draws each group's events from a
multivariate hypergeometric distribution; where subjects have several rows, whole subjects are permuted.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int, Int64
from numpy import ndarray
from scipy import sparse

from clinimm.audit.engine.counts import RATES, Tables
from clinimm.audit.engine.rows import Segments

#: A percentile interval says nothing about a handful of events: 20 positives at 5 % cover 0.64.
FEWEST_EVENTS = 10


def bootstrap_counts(tables: Tables, draws: int, seed: int) -> Int64[ndarray, "draw group label decision"]:
    """The two-by-two tables of so many resamples of rows, or of subjects where they have several rows."""
    generator = np.random.default_rng([seed, 2])
    if tables.segments.cluster is not None:
        return _of_clusters(tables, draws, generator)
    cells = tables.counts.reshape(-1)
    drawn = generator.multinomial(cells.sum(), cells / cells.sum(), size=draws)
    return drawn.reshape(draws, *tables.counts.shape)


def rates_of(
    counts: Int64[ndarray, "draw group label decision"], rate: str
) -> Float64[ndarray, "draw group"]:
    """A rate of every drawn table; NaN where nobody stands in the denominator."""
    top, bottom = (sum(counts[:, :, label, decision] for label, decision in cells) for cells in RATES[rate])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(top) / np.asarray(bottom)


def percentile_interval(
    drawn: Float64[ndarray, "draw group"], tables: Tables, rate: str, level: float
) -> tuple[Float64[ndarray, " group"], Float64[ndarray, " group"]]:
    """The percentile interval of a rate; NaN with fewer than ten events or ten non-events.

    It is what other tools print, and a check of the closed form by another way; nothing is judged on it.
    """
    events, n = tables.pair(rate)
    enough = np.minimum(events, n - events) >= FEWEST_EVENTS
    ends = np.full((2, len(n)), np.nan)
    if enough.any():
        tail = (1 - level) / 2
        ends[:, enough] = np.quantile(drawn[:, enough], [tail, 1 - tail], axis=0)
    return ends[0], ends[1]


def permutation_p(tables: Tables, rate: str, draws: int, seed: int) -> float | None:
    """How often groups that only chance told apart would differ as much; None where it cannot be said.

    The statistic is the largest standardised difference of a group from everybody else among those
    whom the rate is about (positives for the false negative rate), so that groups of unequal
    prevalence and equal error rates are no alarm. Where subjects have several rows, whole subjects
    are permuted; one whose rows stand in several groups goes with the first of those it is most in.
    """
    events, n = tables.pair(rate)
    here = n > 0
    total = int(events.sum())
    if here.sum() < 2 or total in (0, int(n.sum())):
        return None
    generator = np.random.default_rng([seed, 3])
    if tables.clustered:
        statistic = _of_permuted_subjects(tables, rate, draws, generator)
    else:
        counted, size = events[here].astype(np.int64), n[here].astype(np.int64)
        drawn = generator.multivariate_hypergeometric(size, total, size=draws, method="marginals")
        statistic = _largest_gap(np.concatenate([counted[None], drawn]), size)
    if statistic is None:
        return None
    return float((1 + np.sum(statistic[1:] >= statistic[0] - 1e-9)) / (1 + draws))


def holm(p_values: list[float | None]) -> list[float | None]:
    """P values held to one error rate for all of them (Holm, Scand J Stat 1979)."""
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    worst = 0.0
    for rank, (p, place) in enumerate(known):
        worst = max(worst, min(1.0, p * (len(known) - rank)))
        adjusted[place] = worst
    return adjusted


def _largest_gap(
    events: Int64[ndarray, "draw group"], n: Int64[ndarray, " group"]
) -> Float64[ndarray, " draw"]:
    """Largest standardised distance of a group's events from what its size lets expect."""
    total, everybody = events[0].sum(), n.sum()
    share = n / everybody
    spread = total * (1 - total / everybody) * share * (1 - share) * everybody / max(everybody - 1, 1)
    return np.max(np.abs(events - total * share) / np.sqrt(np.maximum(spread, 1e-12)), axis=1)


def _of_permuted_subjects(
    tables: Tables, rate: str, draws: int, generator: np.random.Generator
) -> Float64[ndarray, " draw"] | None:
    """The statistic as seen, then as drawn; None where fewer than two groups have subjects.

    A subject's residual is its events less the overall rate times its rows. Under permutation of whole
    subjects a group's sum of residuals has mean 0 and a known variance. Subjects with the same residual
    are one pattern, so a draw is a table of groups by patterns with both margins fixed, filled group by
    group and pattern by pattern.
    """
    group, residual = _subjects(tables, rate)
    size = np.bincount(group, minlength=len(tables.counts))
    kept = np.flatnonzero(size)
    if len(kept) < 2:
        return None
    value, pattern = np.unique(np.round(residual, 9), return_inverse=True)
    seen = np.zeros((len(tables.counts), len(value)), dtype=np.int64)
    np.add.at(seen, (group, pattern), 1)
    seen, size = seen[kept], size[kept]
    drawn = _sums_of_drawn_tables(size, seen.sum(axis=0), value, draws, generator)
    sums = np.concatenate([(seen @ value)[None], drawn])
    share = size / size.sum()
    spread = np.var(residual, ddof=1) * size * (1 - share)
    return np.max(np.abs(sums) / np.sqrt(np.maximum(spread, 1e-12)), axis=1)


def _subjects(tables: Tables, rate: str) -> tuple[Int64[ndarray, " subject"], Float64[ndarray, " subject"]]:
    """Group and residual of each subject whom the rate is about."""
    part, cell = tables.segments, tables.row_cell()
    assert part.cluster is not None
    top, bottom = (np.isin(cell, [2 * label + decision for label, decision in one]) for one in RATES[rate])
    _, subject = np.unique(part.cluster[bottom], return_inverse=True)
    events = np.bincount(subject, top[bottom])
    rows = np.bincount(subject)
    wide, count = np.unique(subject * part.groups + part.group[bottom], return_counts=True)
    order = np.lexsort((wide, -count, wide // part.groups))
    first = order[np.unique(wide[order] // part.groups, return_index=True)[1]]
    return wide[first] % part.groups, events - events.sum() / rows.sum() * rows


def _sums_of_drawn_tables(
    rows: Int64[ndarray, " group"],
    columns: Int64[ndarray, " pattern"],
    value: Float64[ndarray, " pattern"],
    draws: int,
    generator: np.random.Generator,
) -> Float64[ndarray, "draw group"]:
    """Each group's sum of values in tables with given margins, as a random permutation gives them."""
    sums = np.zeros((draws, len(rows)))
    left = np.tile(columns, (draws, 1))
    for group, wanted in enumerate(rows[:-1]):
        missing = np.full(draws, wanted)
        others = left.sum(axis=1)
        for pattern, worth in enumerate(value):
            others = others - left[:, pattern]
            taken = generator.hypergeometric(left[:, pattern], others, missing)
            sums[:, group] += taken * worth
            left[:, pattern] -= taken
            missing = missing - taken
    sums[:, -1] = left @ value
    return sums


def _of_clusters(
    tables: Tables, draws: int, generator: np.random.Generator
) -> Int64[ndarray, "draw group label decision"]:
    patterns, frequency = _patterns(tables.segments, tables.row_cell())
    times = generator.multinomial(frequency.sum(), frequency / frequency.sum(), size=draws)
    counts = np.asarray((patterns.T @ times.T).T)
    return counts.reshape(draws, *tables.counts.shape)


def _patterns(
    segments: Segments, cell: Int[ndarray, " row"]
) -> tuple[sparse.csr_array, Int64[ndarray, " pattern"]]:
    """Rows of each cell for each pattern, and how many subjects have it.

    Subjects are compared by a sum of random 64-bit numbers, one a cell: two different patterns meet
    by chance once in some 10^19.
    """
    assert segments.cluster is not None
    cells = segments.group * 4 + cell
    key = np.random.default_rng(0).integers(1, 2**63, size=segments.groups * 4, dtype=np.uint64)
    subject, inverse = np.unique(segments.cluster, return_inverse=True)
    total = np.zeros(len(subject), dtype=np.uint64)
    np.add.at(total, inverse, key[cells])
    _, example, frequency = np.unique(total, return_index=True, return_counts=True)
    place = np.full(len(subject), -1)
    place[example] = np.arange(len(example))
    inside = place[inverse] >= 0
    ones = np.ones(int(inside.sum()), dtype=np.int64)
    shape = (len(example), segments.groups * 4)
    return sparse.csr_array((ones, (place[inverse[inside]], cells[inside])), shape=shape), frequency
