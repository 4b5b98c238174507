"""A figure of the explanations on the cohort and by group of people: its mean, n and interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from clinimm.core.errors import DataError
from clinimm.evaluate.bootstrap import bootstrap_interval, draw_weights, weighted_mean
from clinimm.explain.contribution import Contributions

OVERALL, MISSING = "overall", "(missing)"


@dataclass(frozen=True)
class Statistics:
    """How intervals are made; the fields are those of the audit's policy and the evaluation.

    Attributes:
        level: confidence level.
        draws: resamples of subjects.
        minimum: smaller groups show no figure.
        seed: of the resamples.
    """

    level: float = 0.95
    draws: int = 1000
    minimum: int = 10
    seed: int = 0


@dataclass(frozen=True)
class Mean:
    """The mean of a figure over the subjects of a group.

    Attributes:
        n: subjects of the group that have the figure; None where the group is too small to show.
        mean, low, high: mean and interval (bootstrap by subject, bias-corrected and accelerated);
            None where the group is too small.
    """

    n: int | None
    mean: float | None
    low: float | None
    high: float | None


def mean_of(values: Float[np.ndarray, " subject"], statistics: Statistics) -> Mean:
    """Mean and interval of the subjects whose value is known; nothing below the minimum."""
    known = values[~np.isnan(values)]
    if len(known) < max(statistics.minimum, 2):
        return Mean(None, None, None, None)
    weights = draw_weights(np.zeros(len(known), dtype=np.int64), statistics.draws, statistics.seed)
    draws = weighted_mean(known)(known, known, weights.astype(float))
    value = float(known.mean())
    low, high = bootstrap_interval(draws, value, statistics.level, (known - value) / len(known))
    return Mean(len(known), value, low, high)


def by_group(
    values: pd.DataFrame, attributes: pd.DataFrame, statistics: Statistics
) -> list[dict[str, object]]:
    """The mean of each column for everybody and for each level of each attribute.

    Args:
        values: index ``subject_id``; a column a figure, NaN where a subject has none.
        attributes: index ``subject_id``; a column an audit attribute. A missing level is a level.
        statistics: how intervals are made.

    Returns:
        Rows with ``attribute``, ``level``, ``figure``, ``n``, ``mean``, ``low``, ``high``.

    Raises:
        DataError: a subject has no row of attributes.
    """
    if absent := sorted(set(values.index) - set(attributes.index)):
        raise DataError(f"{len(absent)} explained subjects are not in the cohort, the first is {absent[0]}.")
    rows = []
    for attribute, level, members in _groups(attributes.loc[values.index]):
        for figure in values.columns:
            found = mean_of(values.loc[members, figure].to_numpy(float), statistics)
            rows.append({"attribute": attribute, "level": level, "figure": str(figure), **vars(found)})
    return rows


def contribution_figures(found: Contributions, subjects: Sequence[str]) -> pd.DataFrame:
    """Figures of a cohort's contributions, index ``subject_id``: ``MODALITY`` signed, ``|MODALITY|`` in
    size, and ``A × B`` for pairs; NaN where a subject lacks one."""
    columns: dict[str, np.ndarray] = {}
    for place, name in enumerate(found.names):
        value = np.where(found.present[:, place], found.values[:, place], np.nan)
        columns[name], columns[f"|{name}|"] = value, np.abs(value)
    for one, first in enumerate(found.names):
        for two in range(one + 1, len(found.names)):
            both = found.present[:, one] & found.present[:, two]
            columns[f"{first} × {found.names[two]}"] = np.where(both, found.interactions[:, one, two], np.nan)
    return pd.DataFrame(columns, index=pd.Index(list(subjects), name="subject_id"))


def _groups(attributes: pd.DataFrame) -> list[tuple[str, str, np.ndarray]]:
    found = [(OVERALL, OVERALL, np.ones(len(attributes), dtype=bool))]
    for name in attributes.columns:
        levels = attributes[name].astype(object).where(attributes[name].notna(), MISSING).astype(str)
        for level in sorted(set(levels), key=lambda text: (text == MISSING, text)):
            found.append((str(name), level, (levels == level).to_numpy()))
    return found
