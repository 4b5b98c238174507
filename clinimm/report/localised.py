"""How this release's maps lie on known findings, by size of the finding: for the page, beside a map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from clinimm.evaluate.bootstrap import bootstrap_interval, draw_weights, weighted_mean
from clinimm.evaluate.metrics import wilson
from clinimm.explain.localise import SIZE_BANDS
from clinimm.report.facts import RunFacts
from clinimm.report.words import percent_range, share

_DRAWS, _LEVEL = 1000, 0.95
_EVERY = "all"


@dataclass(frozen=True)
class Share:
    """A mean share over patients and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class SizeRow:
    """Maps on findings of one size.

    Attributes:
        size: ``all``, ``small``, ``medium`` or ``large``; by the finding's share of the picture.
        span: that share in words; empty for ``all``.
        n: patients with such a finding; None where they are too few to show a figure.
        hit: in how many the strongest cell meets the finding (pointing game); Wilson's interval.
        chance: what pointing at random would score.
        inside: share of the map's score on the finding; bootstrap of patients.
        area: what an even map would have there.
    """

    size: str
    span: str
    n: int | None
    hit: Share | None = None
    chance: float | None = None
    inside: Share | None = None
    area: float | None = None


def localised(facts: RunFacts, modality: str, method: str) -> tuple[SizeRow, ...]:
    """A row a size, all sizes first; nothing where no finding is known, or too few.

    A patient with several pictures counts once, as the mean of them: their maps are alike.

    Args:
        facts: the run.
        modality: whose maps.
        method: that made them.
    """
    table = _table(facts)
    own = table[(table["modality"] == modality) & (table["method"] == method)] if len(table) else table
    minimum = facts.workspace.config.evaluate.minimum_cell
    if not len(own) or own["subject_id"].nunique() < minimum:
        return ()
    sizes = [(name, rows) for name, _ in SIZE_BANDS if len(rows := own[own["size"] == name])]
    return tuple(_row(name, rows, minimum) for name, rows in [(_EVERY, own), *sizes])


def _table(facts: RunFacts) -> pd.DataFrame:
    path = facts.root / "explain" / "localisation.parquet"
    return facts.remember("localisation", lambda: pd.read_parquet(path) if path.is_file() else pd.DataFrame())


def _row(size: str, rows: pd.DataFrame, minimum: int) -> SizeRow:
    figures = ["hit", "hit_by_chance", "mass_inside", "area"]
    means = rows.assign(hit=rows["hit"].astype(float)).groupby("subject_id", sort=True)[figures].mean()
    n = len(means)
    if n < minimum:
        return SizeRow(size, _span(size), None)
    hit = float(means["hit"].mean())
    return SizeRow(
        size,
        _span(size),
        n,
        Share(hit, *wilson(hit * n, n)),
        float(means["hit_by_chance"].mean()),
        _mean(means["mass_inside"].to_numpy(float)),
        float(means["area"].mean()),
    )


def _mean(values: np.ndarray) -> Share:
    weights = draw_weights(np.zeros(len(values), dtype=np.int64), _DRAWS, 0)
    draws = weighted_mean(values)(values, values, weights.astype(float))
    value = float(values.mean())
    return Share(value, *bootstrap_interval(draws, value, _LEVEL, (values - value) / len(values)))


def _span(size: str) -> str:
    """Which share of the picture a size is."""
    if size == _EVERY:
        return ""
    limits = dict(SIZE_BANDS)
    names = list(limits)
    place = names.index(size)
    low = 0.0 if place == 0 else limits[names[place - 1]]
    if place == 0:
        return f"under {share(limits[size])} of the picture"
    return f"from {share(low)}" if limits[size] >= 1 else percent_range(low, limits[size])
