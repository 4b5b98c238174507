"""Label validity: does the label mean the same for everybody?

A model of costs found that equally *ill* Black patients were given lower scores, because less was
spent on them; every error rate measured against that label looked fair (Obermeyer et al., Science
2019). What shows it is an outcome that did not go through the label: at equal predicted risk, groups
should do equally well on it.

The comparison is a partially linear regression (Robinson, Econometrica 1988): the outcome on the
group and a smooth curve in the logit of the risk. The group's coefficient is its difference from
everybody else at equal risk, averaged where both are found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int
from numpy import ndarray

from clinimm.audit.detect.risk import risk_basis
from clinimm.audit.engine.intervals import t_of
from clinimm.audit.engine.rows import Rows

_FEWEST = 10
_BINS = 5


@dataclass(frozen=True)
class RiskBin:
    """The outcome of a group and of everybody else in one range of predicted risk.

    Attributes:
        low, high: the range.
        n, mean: of the group; the mean is NaN where nobody is in it.
        n_rest, mean_rest: of everybody else.
    """

    low: float
    high: float
    n: int
    mean: float
    n_rest: int
    mean_rest: float


@dataclass(frozen=True)
class OutcomeGap:
    """How much more of an independent outcome a group has at equal predicted risk.

    Attributes:
        attribute, level: the group, compared with everybody else.
        n: its rows with a known outcome.
        unadjusted: plain difference of means.
        value: difference at equal predicted risk; NaN with fewer than ten rows on either side.
        low, high: its interval, holding for all groups together (Šidák).
        bins: the same in fifths of the predicted risk, unsmoothed.
    """

    attribute: str
    level: str
    n: int
    unadjusted: float
    value: float
    low: float
    high: float
    bins: tuple[RiskBin, ...]

    @property
    def differs(self) -> bool:
        """Whether the interval excludes no difference."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class LabelValidity:
    """An independent outcome against the predicted risk, group by group.

    Attributes:
        outcome: its name.
        gaps: one for each group.
        known: rows whose outcome is known.
        rows: all rows.
    """

    outcome: str
    gaps: tuple[OutcomeGap, ...]
    known: int
    rows: int

    @property
    def raised(self) -> bool:
        """Whether any group differs."""
        return any(gap.differs for gap in self.gaps)

    @property
    def sentences(self) -> list[str]:
        """The findings for people."""
        found = [self._sentence(gap) for gap in self.gaps if gap.differs]
        if not found:
            widest = max((gap.high - gap.low for gap in self.gaps if gap.low == gap.low), default=np.nan)
            found = [
                f"At equal predicted risk no group is shown to have more or less of {self.outcome} "
                f"(widest interval {widest:.3f})."
            ]
        if self.known < self.rows:
            found.append(
                f"{self.outcome} is known for {self.known:,} of {self.rows:,} rows; if who is followed up "
                "depends on the group, this comparison is of those alone."
            )
        return found

    def _sentence(self, gap: OutcomeGap) -> str:
        way = "more" if gap.value > 0 else "less"
        meaning = "understates" if gap.value > 0 else "overstates"
        return (
            f"{gap.attribute} {gap.level}: {abs(gap.value):.3f} {way} of {self.outcome} than others at the "
            f"same predicted risk ({gap.low:+.3f} to {gap.high:+.3f}, n {gap.n:,}): "
            f"if {self.outcome} is what matters, the score {meaning} it for them."
        )


def label_validity(
    rows: Rows,
    outcome: Float64[ndarray, " row"],
    name: str = "the outcome",
    *,
    attributes: Sequence[str] | None = None,
    level: float = 0.95,
) -> LabelValidity:
    """Compare an independent outcome between groups at equal predicted risk.

    Args:
        rows: what is audited.
        outcome: something that did not make the label: later death, a count of illnesses, a second
            reader. Binary or a number; NaN where unknown.
        name: of the outcome, for people.
        attributes: whose groups are compared; all of them.
        level: of the intervals together.
    """
    known = np.isfinite(outcome)
    basis = risk_basis(rows.probability[known])
    value, cluster = outcome[known], None if rows.cluster is None else rows.cluster[known]
    pairs = [
        (attribute, place)
        for attribute in (attributes if attributes is not None else rows.attributes)
        for place in range(len(rows.attributes[attribute].levels))
    ]
    single = float(level ** (1 / max(len(pairs), 1)))
    gaps = []
    for attribute, place in pairs:
        column = rows.attributes[attribute]
        member = column.code[known] == place
        gap, low, high = adjusted_difference(value, member, basis, cluster, single)
        plain = value[member].mean() - value[~member].mean() if 0 < member.sum() < len(member) else np.nan
        gaps.append(
            OutcomeGap(
                attribute,
                column.levels[place],
                int(member.sum()),
                float(plain),
                gap,
                low,
                high,
                _bins(rows.probability[known], value, member),
            )
        )
    return LabelValidity(name, tuple(gaps), int(known.sum()), rows.n)


def adjusted_difference(
    outcome: Float64[ndarray, " row"],
    member: Bool[ndarray, " row"],
    basis: Float64[ndarray, "row term"],
    cluster: Int[ndarray, " row"] | None,
    level: float,
) -> tuple[float, float, float]:
    """Difference of an outcome between members and others at the same place of ``basis``, with interval.

    The variance is HC3 (MacKinnon and White, J Econometrics 1985), summed over subjects where they have
    several rows; at least that of coins with the fitted chance where the outcome is binary, so that a
    group without events keeps an interval. Student's quantile with the smaller group less one.

    Returns:
        Value and both ends; NaN with fewer than ten rows on either side, or where no risk is shared.
    """
    if min(member.sum(), (~member).sum()) < _FEWEST:
        return np.nan, np.nan, np.nan
    own = _off(member.astype(float), basis)
    weight = float(own @ own)
    if weight < 1e-6 * member.sum():
        return np.nan, np.nan, np.nan
    left = _off(outcome, basis)
    value = float(own @ left) / weight
    leverage = np.minimum(own**2 / weight + np.sum(basis**2, axis=1), 0.99)
    influence = own * (left - value * own) / (1 - leverage) / weight
    if cluster is not None:
        _, unit = np.unique(cluster, return_inverse=True)
        influence = np.bincount(unit, influence)
    variance = float(influence @ influence)
    if np.isin(outcome, (0.0, 1.0)).all():
        chance = np.clip(outcome - left, 0.0, 1.0)
        variance = max(variance, float(np.sum(own**2 * chance * (1 - chance))) / weight**2)
    units = member.sum() if cluster is None else len(np.unique(cluster[member]))
    freedom = np.array(float(min(units, (~member).sum()) - 1))
    half = float(t_of(level, np.atleast_1d(freedom))[0]) * np.sqrt(variance)
    return value, value - half, value + half


def _off(values: Float64[ndarray, " row"], basis: Float64[ndarray, "row term"]) -> Float64[ndarray, " row"]:
    """What the smooth curve leaves over; the basis is orthonormal."""
    return np.asarray(values - basis @ (basis.T @ values))


def _bins(risk: ndarray, outcome: ndarray, member: ndarray) -> tuple[RiskBin, ...]:
    edges = np.unique(np.quantile(risk, np.linspace(0, 1, _BINS + 1)))
    place = np.clip(np.searchsorted(edges, risk, side="right") - 1, 0, max(len(edges) - 2, 0))
    found = []
    for number in range(max(len(edges) - 1, 1)):
        own, rest = outcome[member & (place == number)], outcome[~member & (place == number)]
        low, high = float(edges[number]), float(edges[min(number + 1, len(edges) - 1)])
        found.append(RiskBin(low, high, len(own), _mean(own), len(rest), _mean(rest)))
    return tuple(found)


def _mean(values: ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
