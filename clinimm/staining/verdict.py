"""Can this stain be learned from these data? One key, one plain sentence and what it rests on.

What counts is biology: whether the model follows the amount of stain from region to region beyond
what follows from how much tissue and how many nuclei are there; and, cell by cell, whether it tells
positive from negative. Both are blind to a model that paints every nucleus the same. PSNR and SSIM
are heard, never decisive; Dice decides only for a stain that colours all cells alike, because for a
selective one painting all nuclei wins it.

Two measures are looked at and either may carry the verdict, each at a two-sided 95 %: where nothing
can be learned, at most one verdict in twenty says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from clinimm.staining.agreement import FEWEST_UNITS
from clinimm.staining.more_units import more_units
from clinimm.staining.table import DICE
from clinimm.staining.verdict_evidence import (
    BARS,
    BLOCK,
    SUBJECT,
    WORDS,
    Bar,
    Measure,
    StainEvidence,
    evidence_of,
    signed,
)

__all__ = [
    "AS_REGISTERED",
    "BARS",
    "BLOCK",
    "CANNOT_TELL",
    "LEARNABLE",
    "NOT_LEARNABLE",
    "SUBJECT",
    "WORDS",
    "Bar",
    "Measure",
    "StainEvidence",
    "StainVerdict",
    "evidence_of",
    "judge_stain",
    "signed",
]

LEARNABLE = "learnable"
NOT_LEARNABLE = "not_learnable"
CANNOT_TELL = "cannot_tell"

#: Said of every verdict on pairs that nobody has measured (``staining.register_pairs: false``).
AS_REGISTERED = "The pairs were taken as registered; no error was measured."
_PLURAL = {SUBJECT: "subjects", BLOCK: "blocks of tissue"}


@dataclass(frozen=True)
class StainVerdict:
    """The answer for one stain.

    Attributes:
        key: ``learnable``, ``not_learnable`` or ``cannot_tell``.
        sentence: the answer for people.
        use: method to use, or None where none was shown to follow the stain.
        warnings: sentences that must be shown beside the answer.
        more_units: roughly how many more units would settle it; None where settled or unknown.
        evidence: what it rests on.
    """

    key: str
    sentence: str
    use: str | None
    warnings: tuple[str, ...]
    more_units: int | None
    evidence: StainEvidence = field(repr=False)


def judge_stain(evidence: StainEvidence) -> StainVerdict:
    """The verdict.

    ``learnable``: on a biological measure the model beats chance and every baseline, each with an
    interval that excludes zero. ``not_learnable``: on every one, the model's upper end lies below
    what would be of use, and the gain's below what would be worth it. ``cannot_tell``: anything else.
    """
    shown = [one for one in evidence.usable if one.shows()]
    if shown:
        return _learnable(evidence, shown)
    if evidence.units < FEWEST_UNITS:
        why = (
            f"{evidence.units} {_PLURAL[evidence.unit]} allow no interval; at least {FEWEST_UNITS} are "
            "needed, or blocks of tissue as the unit, which then speak of these subjects only"
        )
        return _untold(evidence, why, FEWEST_UNITS - evidence.units)
    if not evidence.usable:
        why = (
            f"the registration error of {evidence.registration_error_um:.1f} µm is too large for regions of "
            f"{evidence.region_um:g} µm; better registration or larger regions are needed"
        )
        return _untold(evidence, why, None)
    if all(one.rules_out() for one in evidence.usable):
        return _not_learnable(evidence)
    return _open(evidence)


def _learnable(evidence: StainEvidence, shown: list[Measure]) -> StainVerdict:
    text = "; ".join(one.text() for one in shown)
    sentence = (
        f"{evidence.stain} is learnable from these data: the model beats every baseline on {text} "
        f"({evidence.scope})."
    )
    return StainVerdict(LEARNABLE, sentence, "model", _always(evidence), None, evidence)


def _not_learnable(evidence: StainEvidence) -> StainVerdict:
    bars = ", ".join(
        f"{one.name} {BARS[one.name].worth:g} and a gain of {BARS[one.name].gain:g}"
        for one in evidence.usable
    )
    text = "; ".join(one.text() for one in evidence.usable)
    sentence = (
        f"{evidence.stain} is not learnable from these data: they are enough to have seen {bars}, and it is "
        f"not there. {text[0].upper()}{text[1:]} ({evidence.scope})."
    )
    return StainVerdict(NOT_LEARNABLE, sentence, None, _looks(evidence) + _always(evidence), None, evidence)


def _bar(name: str) -> str:
    bar = BARS[name]
    worth = f"a {name} of {bar.worth:g} or " if bar.worth < 1 else ""
    return f"{worth}a gain in {name} of {bar.gain:g}"


def _open(evidence: StainEvidence) -> StainVerdict:
    enough = _simple_enough(evidence)
    if enough is not None:
        name, measure = enough
        why = f"{name} already follows the stain and the model does not clearly beat it: {measure.text()}"
        return _untold(evidence, why, more_units(evidence), name)
    text = "; ".join(one.text() for one in evidence.usable)
    return _untold(evidence, text, more_units(evidence))


def _untold(evidence: StainEvidence, why: str, more: int | None, use: str | None = None) -> StainVerdict:
    needed = f" Roughly {more:,} more {_PLURAL[evidence.unit]} would be needed." if more else ""
    sentence = (
        f"The data cannot tell whether {evidence.stain} is learnable: {why} ({evidence.scope}).{needed}"
    )
    warnings = _looks(evidence) + _register(evidence) + _always(evidence)
    return StainVerdict(CANNOT_TELL, sentence, use, warnings, more, evidence)


def _simple_enough(evidence: StainEvidence) -> tuple[str, Measure] | None:
    """The best baseline of a measure on which it is worth having beyond doubt."""
    for one in evidence.usable:
        best = one.best
        if best is not None and one.name != DICE.name and one.baselines[best].low > BARS[one.name].worth:
            return best, one
    return None


def _always(evidence: StainEvidence) -> tuple[str, ...]:
    """What must be said beside any answer: where a baseline is better, and that no error was measured."""
    worse = (
        f"On {WORDS[one.name]} ({one.name}) the model is worse than {name}: {signed(found)}."
        for one in evidence.usable
        for name, found in one.gains.items()
        if found.known and found.high < 0
    )
    return (*worse, *(() if evidence.registration_error_um is not None else (AS_REGISTERED,)))


def _looks(evidence: StainEvidence) -> tuple[str, ...]:
    won = [one for one in evidence.looks if one.beats_all and one.best is not None]
    if not won:
        return ()
    gains = " and ".join(f"{WORDS[one.name]} {signed(one.gains[str(one.best)])}" for one in won)
    return (
        f"The model looks more like the real stain than every baseline ({gains}), but it was not shown to "
        "know where the stain is: do not take likeness for biology.",
    )


def _register(evidence: StainEvidence) -> tuple[str, ...]:
    lost = [one for one in evidence.biology if one not in evidence.usable]
    if not lost:
        return ()
    names = ", ".join(WORDS[one.name] for one in lost)
    return (f"Not judged, because registration is {evidence.registration_error_um:.1f} µm off: {names}.",)
