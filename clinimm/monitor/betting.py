"""Whether a proportion lies above a bound, told at whatever moment somebody looks: a test martingale.

A gambler bets on each event at the odds of the bound. While the chance of the next event, given all before
it, is at most the bound, no betting scheme has an expected wealth above 1, so the chance that the wealth
*ever* reaches 1 / alpha is at most alpha (Ville 1939; Shafer 2021; Waudby-Smith and Ramdas 2024). The wealth
is an e-value at every moment, and looking every day costs nothing.

A proportion at most the bound over all events is not enough where events go together: after one miss of a
subject the next of the same subject is likelier. So whoever bets takes one event of each subject.

The gambler spreads the money over many alternatives (50 proportions above the bound) and over many days on
which to begin (the k-th event with 1 / (k (k + 1)) of the money), so a fault that comes late is not paid for
with what the quiet years before lost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

_ALTERNATIVES = 50
_ENOUGH = 1e300


@dataclass(frozen=True)
class Bet:
    """The result.

    Attributes:
        wealth: after each event; an e-value.
        highest: the largest wealth so far, at the end.
        needed: wealth at which it alarms, 1 / alpha.
        alarm: position of the event at which it did, or None.
    """

    wealth: Float64[ndarray, " event"]
    needed: float
    alarm: int | None

    @property
    def highest(self) -> float:
        """The largest wealth that there ever was; at least the 1 to begin with."""
        return float(max(1.0, self.wealth.max(initial=1.0)))

    @property
    def p_value(self) -> float:
        """One over the largest wealth: a p-value that holds at every look."""
        return 1 / self.highest


def bet(events: Float64[ndarray, " event"], bound: float, alpha: float) -> Bet:
    """Bet against "the proportion is at most ``bound``".

    Args:
        events: 1 where it happened, 0 where not, in an order that does not know what comes.
        bound: above 0 and below 1.
        alpha: chance of ever alarming while the proportion is at most the bound.
    """
    return Bet(wealth := wealth_of(events[None], bound)[0], 1 / alpha, _first(wealth, 1 / alpha))


def wealth_of(events: Float64[ndarray, "stream event"], bound: float) -> Float64[ndarray, "stream event"]:
    """The gambler's wealth after each event of each stream."""
    alternative = bound + (1 - bound) * (np.arange(_ALTERNATIVES) + 0.5) / _ALTERNATIVES
    gain, loss = alternative / bound, (1 - alternative) / (1 - bound)
    running = np.zeros((len(events), _ALTERNATIVES))
    wealth = np.empty(events.shape)
    for place in range(events.shape[1]):
        begins = 1 / ((place + 1) * (place + 2))
        factor = np.where(events[:, place : place + 1] > 0, gain, loss)
        running = np.minimum((running + begins) * factor, _ENOUGH)
        not_begun = 1 / (place + 2)
        wealth[:, place] = running.mean(axis=1) + not_begun
    return wealth


def _first(wealth: Float64[ndarray, " event"], needed: float) -> int | None:
    over = np.flatnonzero(wealth >= needed)
    return int(over[0]) if len(over) else None
