"""Whether any field of two samples comes from another distribution, with the false alarms of all bounded.

Kolmogorov and Smirnov's test for numbers, the chi-square test for levels, both scipy's. For ``max_t`` the
subjects are permuted between the samples and the smallest p-value of all fields is kept from each draw
(Westfall and Young 1993, single step): fields that go together cost less than Bonferroni takes, and the
bound is exact whatever the fields look like.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int
from numpy import ndarray
from scipy.special import chdtrc, kolmogorov
from scipy.stats import chi2_contingency, false_discovery_control, ks_2samp, kstwo

_LEAST_EXPECTED = 5
_OTHER = "(other)"
_AT_ONCE = 64
#: Beyond so many subjects permuting says no more than the asymptotic law, and takes minutes.
MOST_PERMUTED = 20_000
_FEWEST_KNOWN = 10
#: Up to so many on the larger side scipy's p-value is exact, beyond it asymptotic.
_EXACT_BELOW = 10_000


@dataclass(frozen=True)
class FieldTest:
    """One field.

    Attributes:
        name: of the field.
        distance: of the two distributions, 0 to 1: Kolmogorov and Smirnov's, or the total variation.
        p_value: by itself.
        adjusted: for all fields of the call.
        n, reference_n: subjects in whom it is known.
    """

    name: str
    distance: float
    p_value: float
    adjusted: float
    n: int
    reference_n: int


@dataclass(frozen=True)
class _Numbers:
    name: str
    known: Bool[ndarray, " subject"]
    values: Float64[ndarray, " subject"]

    @classmethod
    def of(cls, name: str, column: pd.Series) -> _Numbers:
        values = column.to_numpy(float)
        return cls(name, np.isfinite(values), values)

    @cached_property
    def order(self) -> Int[ndarray, " known"]:
        """Who is known, in order of the value."""
        places = np.flatnonzero(self.known)
        return places[np.argsort(self.values[places])]  # the order of equal values never counts

    @cached_property
    def last(self) -> Int[ndarray, " step"]:
        """The last place in ``order`` of each run of equal values."""
        ordered = self.values[self.order]
        return np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))

    def observed(self, current: Bool[ndarray, " subject"]) -> tuple[float, float]:
        """Distance and p-value, both scipy's; beyond its exact range from the order that is kept here."""
        now = int((self.known & current).sum())
        before = int(self.known.sum()) - now
        if max(now, before) <= _EXACT_BELOW:
            found = ks_2samp(self.values[self.known & ~current], self.values[self.known & current])
            return float(found.statistic), float(found.pvalue)
        gap = float(self._gaps(current[None])[0])
        return gap, float(np.clip(kstwo.sf(gap, round(now * before / (now + before))), 0, 1))

    def _gaps(self, current: Bool[ndarray, "draw subject"]) -> Float64[ndarray, " draw"]:
        """Largest distance of the two empirical distributions, for each division of the subjects."""
        through = np.cumsum(current[:, self.order], axis=1, dtype=np.int32)
        now = through[:, -1:].astype(float)
        before = len(self.order) - now
        at = through[:, self.last]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.abs(at / now - (self.last + 1 - at) / before).max(axis=1))

    def p_values(self, current: Bool[ndarray, "draw subject"]) -> Float64[ndarray, " draw"]:
        """Asymptotic p-value of each draw: one monotone scale for every field."""
        now = current[:, self.order].sum(axis=1, dtype=np.int32).astype(float)
        size = np.sqrt(now * (len(self.order) - now) / len(self.order))
        gap = self._gaps(current)
        return np.nan_to_num(kolmogorov(size * gap), nan=1.0)


@dataclass(frozen=True)
class _Levels:
    name: str
    known: Bool[ndarray, " subject"]
    members: Float64[ndarray, "subject level"]

    @classmethod
    def of(cls, name: str, column: pd.Series, current: Bool[ndarray, " subject"]) -> _Levels:
        codes, found = pd.factorize(column)  # -1 where it is missing
        # Two values may read alike (1 and "1"): as text they are one level.
        again, levels = pd.factorize(np.array([str(one) for one in found], dtype=object), sort=True)
        code = np.where(codes < 0, -1, again[codes]) if len(found) else codes
        known = code >= 0
        counts = np.bincount(code[known], minlength=len(levels))
        now = np.bincount(code[known & current], minlength=len(levels)).sum()
        smaller = min(int(now), int(counts.sum() - now)) / max(int(counts.sum()), 1)
        rare = counts * smaller < _LEAST_EXPECTED
        if rare.sum() > 1:
            place = np.where(rare, (~rare).sum(), np.cumsum(~rare) - 1)
            code = np.where(known, place[code], -1)
            levels = np.append(levels[~rare], _OTHER)
        members = code[:, None] == np.arange(len(levels))
        return cls(name, known, members.astype(float))

    def observed(self, current: Bool[ndarray, " subject"]) -> tuple[float, float]:
        table = np.stack([self.members[~current].sum(axis=0), self.members[current].sum(axis=0)])
        shares = table / table.sum(axis=1, keepdims=True)
        return float(np.abs(shares[0] - shares[1]).sum() / 2), float(
            chi2_contingency(table, correction=False).pvalue
        )

    def p_values(self, current: Bool[ndarray, "draw subject"]) -> Float64[ndarray, " draw"]:
        now = current.astype(float) @ self.members
        total = self.members.sum(axis=0)
        share = now.sum(axis=1, keepdims=True) / total.sum()
        with np.errstate(invalid="ignore", divide="ignore"):
            squares = (now - total * share) ** 2 / (total * share * (1 - share))
        return np.nan_to_num(chdtrc(len(total) - 1, squares.sum(axis=1)), nan=1.0)


_Field = _Numbers | _Levels


def enough_draws(permutations: int, alpha: float) -> int:
    """So many draws, or more where fewer could never give a p-value of ``alpha``.

    >>> enough_draws(999, 0.01), enough_draws(999, 0.001)
    (999, 1999)
    """
    return max(permutations, math.ceil(2 / alpha - 1e-9) - 1)


def compare_fields(
    reference: pd.DataFrame, now: pd.DataFrame, adjust: str, permutations: int, seed: int
) -> list[FieldTest]:
    """Each column of two tables; a row is a subject, and what is missing is left out of its column.

    Columns that are constant, or known of fewer than ten subjects on a side, are passed over.

    Args:
        reference: numbers or text.
        now: the same columns.
        adjust: ``max_t``, or ``fdr``; beyond 20,000 subjects always ``fdr``.
        permutations: draws of ``max_t``.
        seed: of the draws.
    """
    names = [name for name in reference.columns if name in now.columns]
    both = pd.concat([reference[names], now[names]], ignore_index=True)
    current = np.arange(len(both)) >= len(reference)
    fields = [field for name in names if (field := _field(str(name), both[name], current)) is not None]
    if not fields:
        return []
    observed = [field.observed(current) for field in fields]
    alone = np.array([p for _, p in observed])
    if adjust == "max_t" and len(both) <= MOST_PERMUTED:
        adjusted = _westfall_young(fields, current, permutations, seed)
    else:
        adjusted = false_discovery_control(alone, method="by")
    return [
        FieldTest(
            field.name,
            distance,
            float(alone[place]),
            float(adjusted[place]),
            int((field.known & current).sum()),
            int((field.known & ~current).sum()),
        )
        for place, (field, (distance, _)) in enumerate(zip(fields, observed, strict=True))
    ]


def _field(name: str, column: pd.Series, current: Bool[ndarray, " subject"]) -> _Field | None:
    known = column.notna().to_numpy(bool)
    if min((known & current).sum(), (known & ~current).sum()) < _FEWEST_KNOWN:
        return None
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        numbers = _Numbers.of(name, column)
        return numbers if np.ptp(numbers.values[known]) != 0 else None
    levels = _Levels.of(name, column, current)
    return levels if levels.members.shape[1] > 1 else None


def _westfall_young(
    fields: Sequence[_Field], current: Bool[ndarray, " subject"], permutations: int, seed: int
) -> Float64[ndarray, " field"]:
    generator = np.random.default_rng(seed)
    observed = np.array([field.p_values(current[None])[0] for field in fields])
    as_small = np.zeros(len(fields))
    for start in range(0, permutations, _AT_ONCE):
        count = min(_AT_ONCE, permutations - start)
        drawn = generator.permuted(np.tile(current, (count, 1)), axis=1)
        smallest = np.min([field.p_values(drawn) for field in fields], axis=0)
        as_small += (smallest[:, None] <= observed * (1 + 1e-9)).sum(axis=0)
    return (1 + as_small) / (1 + permutations)
