"""A figure with its interval and its n (law 4), and its plain JSON form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Estimate:
    """One number, or the reason why there is none.

    Attributes:
        value, low, high: the number and its interval; None where not estimable.
        n: subjects behind it.
        positives: subjects with the outcome; None for an average over classes.
        method: how the interval was made.
        reason: why a number is missing; None where all three are there.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    positives: int | None
    method: str
    reason: str | None = None

    @property
    def known(self) -> bool:
        """Whether value and interval are both there."""
        return self.value is not None and self.low is not None and self.high is not None

    def excludes(self, value: float) -> bool:
        """Whether the whole interval lies on one side of ``value``."""
        return self.above(value) or (self.high is not None and self.high < value)

    def above(self, value: float) -> bool:
        """Whether the whole interval lies above ``value``."""
        return self.low is not None and self.low > value

    def text(self) -> str:
        """``0.812 (0.75 to 0.87)``, or ``not estimable``."""
        if self.value is None:
            return "not estimable"
        if self.low is None or self.high is None:
            return f"{self.value:.3f} (no interval)"
        return f"{self.value:.3f} ({self.low:.2f} to {self.high:.2f})"

    def as_json(self) -> dict[str, Any]:
        """Plain values for ``metrics.json``; rounded so that a rerun elsewhere is byte-identical."""
        return {
            "value": rounded(self.value),
            "low": rounded(self.low),
            "high": rounded(self.high),
            "n": self.n,
            "positives": self.positives,
            "method": self.method,
            "reason": self.reason,
        }


def estimate(
    value: float,
    interval: tuple[float, float],
    n: int,
    positives: int | None,
    method: str,
    reason: str = "",
) -> Estimate:
    """An ``Estimate`` in which NaN becomes None beside a reason."""
    low, high = (finite(end) for end in interval)
    kept = finite(value)
    if kept is None:
        return not_estimable(n, positives, reason or "the metric does not exist for these subjects")
    why = None if low is not None and high is not None else reason or "no interval for these subjects"
    return Estimate(kept, low, high, n, positives, method, why)


def not_estimable(n: int, positives: int | None, reason: str) -> Estimate:
    """An estimate without a number."""
    return Estimate(None, None, None, n, positives, "none", reason)


def finite(value: float | None) -> float | None:
    """``value``, or None where it is NaN or infinite (JSON has neither)."""
    return None if value is None or not math.isfinite(value) else float(value)


def rounded_up(count: int) -> int:
    """A count that is only roughly known, rounded up to two digits: 1,373 is 1,400.

    >>> rounded_up(1373), rounded_up(7)
    (1400, 7)
    """
    step = 10 ** max(0, len(str(abs(count))) - 2)
    return -(-count // step) * step


def rounded(value: float | None) -> float | None:
    """Six decimals: more than any n supports."""
    kept = finite(value)
    return None if kept is None else round(kept, 6) + 0.0
