"""What a check found: one value, one of three answers, one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from clinimm.audit.engine.intervals import clopper_pearson, mover_difference
from clinimm.evaluate.estimate import finite, rounded
from clinimm.monitor.plan import Part

Verdict = Literal["breach", "quiet", "cannot_tell"]
BREACH: Verdict = "breach"
QUIET: Verdict = "quiet"
CANNOT_TELL: Verdict = "cannot_tell"
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Finding:
    """One answer.

    Attributes:
        part: section of the plan that it belongs to.
        about: what was looked at; never a person.
        verdict: breach; quiet (nothing was found by a look that had enough to go on, which is no proof
            that nothing is there); cannot_tell.
        value, low, high: the figure and its interval, where there is one.
        limit: what it was held against.
        p_value: adjusted for everything that was looked at beside it; None where an interval decides.
        n, reference_n: subjects (or files, events) behind it now, and in the reference.
        act: what the plan says a breach does.
        needed: whether cannot_tell counts; an estimate is never needed.
        estimate: whether it rests on predictions instead of labels.
        sentence: for people.
    """

    part: str
    about: str
    verdict: Verdict
    value: float | None
    low: float | None
    high: float | None
    limit: float | None
    p_value: float | None
    n: int
    reference_n: int | None
    act: str
    needed: bool
    estimate: bool
    sentence: str

    @property
    def alarms(self) -> bool:
        """Whether it is a breach that the plan acts on."""
        return self.verdict == BREACH and self.act != "observe"

    @property
    def open(self) -> bool:
        """Whether it could not be told and the plan needs it."""
        return self.verdict == CANNOT_TELL and self.needed

    def as_json(self) -> dict[str, Any]:
        """Plain values for ``monitor.json``."""
        return {name: rounded(v) if isinstance(v, float) else v for name, v in asdict(self).items()}


@dataclass(frozen=True)
class Scribe:
    """Writes findings of one part of the plan."""

    name: str
    part: Part
    estimate: bool = False

    def write(
        self,
        about: str,
        verdict: Verdict,
        sentence: str,
        figure: Triple | None = None,
        *,
        limit: float | None = None,
        p_value: float | None = None,
        n: int = 0,
        reference_n: int | None = None,
    ) -> Finding:
        """A finding of this part."""
        value, low, high = figure if figure else (None, None, None)
        return Finding(
            self.name,
            about,
            verdict,
            finite(value),
            finite(low),
            finite(high),
            limit,
            p_value,
            n,
            reference_n,
            self.part.act,
            self.part.needed and not self.estimate,
            self.estimate,
            sentence,
        )

    def too_few(self, about: str, n: int, reference_n: int | None, minimum: int) -> Finding:
        """The answer where one side is too small to look."""
        against = "" if reference_n is None else f" against {reference_n}"
        said = f"{about}: too few to tell, n = {n}{against}, and the plan asks for {minimum}."
        return self.write(about, CANNOT_TELL, said, n=n, reference_n=reference_n)


def beyond(figure: Triple, limit: float) -> Verdict:
    """A breach where the whole interval lies above ``limit``, quiet where it lies below it."""
    value, low, high = figure
    if not np.isfinite([value, low, high]).all():
        return CANNOT_TELL
    if low > limit:
        return BREACH
    return QUIET if high <= limit else CANNOT_TELL


def beyond_either_way(figure: Triple, limit: float) -> Verdict:
    """A breach where the whole interval is beyond ``limit`` on one side, quiet where it is within both."""
    value, low, high = figure
    ways = [beyond(figure, limit), beyond((-value, -high, -low), limit)]
    if BREACH in ways:
        return BREACH
    return QUIET if ways == [QUIET, QUIET] else CANNOT_TELL


def share_growth(now: tuple[float, float], before: tuple[float, float], level: float) -> Triple:
    """Growth of a share: ``(count, n)`` now and in the reference; interval by MOVER.

    Both may be less than were counted, and no whole numbers, where what was counted goes together.
    """
    counts, sizes = np.array([now[0], before[0]], float), np.array([now[1], before[1]], float)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = counts / sizes
    low, high = clopper_pearson(counts, sizes, level)
    ends = mover_difference((share[0], low[0], high[0]), (share[1], low[1], high[1]))
    return float(share[0] - share[1]), float(ends[0]), float(ends[1])


def shared_level(alpha: float, looks: int) -> float:
    """The level of each of so many intervals, so that all hold together (Bonferroni).

    The interval decides on one side only, so half of its error is spent.
    """
    return 1 - 2 * alpha / max(looks, 1)


def worst_first(findings: Sequence[Finding]) -> list[Finding]:
    """Breaches that alarm, other breaches, what cannot be told, the rest; each in its own order."""
    order = {BREACH: 1, CANNOT_TELL: 2, QUIET: 3}
    return sorted(findings, key=lambda one: 0 if one.alarms else order[one.verdict])
