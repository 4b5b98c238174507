"""What a method of explanation is, and what it promises: said once, carried by tables and pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from clinimm.core.errors import ConfigError
from clinimm.explain.baselines import TRAINING
from clinimm.explain.problem import Problem
from clinimm.explain.promise import ATTRIBUTION


@dataclass(frozen=True)
class Parts:
    """What a method gives.

    Attributes:
        scores: (batch, token) a modality, in the problem's order. Padding is set to zero later.
        reference: (batch,) the logit that the scores are counted from; None where there is none.
        words: modality -> what it is counted from, for people.
    """

    scores: tuple[Tensor, ...]
    reference: Tensor | None = None
    words: dict[str, str] | None = None


@dataclass(frozen=True)
class Method:
    """A way to say what mattered, and what may be concluded from it.

    Attributes:
        title: for people.
        run: computes it. The setting's ``baseline`` is one of ``baselines`` when there are any.
        sums: whether parts sum to the change of the logit, up to a residual that is kept.
        unit: ``logit``: a score is an amount of the logit, and the residual is kept even where it is
            large. ``share``: only order and share of a score mean anything; they are scaled so that
            their sizes sum to one, and never compared with a logit.
        role: ``attribution``, or ``context``: it tells what the network looked at and not what
            moved its answer, and must be called that wherever it is shown.
        baselines: what scores can be counted from; the first is the usual one.
        draws: whether another seed gives another answer, whatever it is counted from.
        caveat: one sentence on what it does not tell.
    """

    title: str
    run: Callable[[Problem], Parts]
    sums: bool
    unit: Literal["logit", "share"]
    role: Literal["attribution", "context"] = ATTRIBUTION
    baselines: tuple[str, ...] = ()
    draws: bool = False
    caveat: str = ""

    def drawn(self, baseline: str | None) -> bool:
        """Whether another seed gives another answer when counted from this baseline."""
        return self.draws or baseline == TRAINING

    def baseline(self, wanted: str | None) -> str | None:
        """The baseline to use.

        Raises:
            ConfigError: the method cannot count from the one that is wanted.
        """
        if wanted is None:
            return self.baselines[0] if self.baselines else None
        if wanted not in self.baselines:
            known = f"known are {', '.join(self.baselines)}" if self.baselines else "it has none"
            raise ConfigError(f"{self.title.lower()} cannot count from the baseline {wanted!r}; {known}.")
        return wanted
