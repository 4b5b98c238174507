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

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from scipy.stats import norm, t

from clinimm.staining.agreement import FEWEST_UNITS, LEVEL, Figure
from clinimm.staining.biology import Measured
from clinimm.staining.table import CELL_AUROC, DICE, PSNR, REGION_CORRELATION, SSIM, Metric, score

LEARNABLE = "learnable"
NOT_LEARNABLE = "not_learnable"
CANNOT_TELL = "cannot_tell"

SUBJECT = "subject"
BLOCK = "block of tissue"

_POWER = 0.8
_MOST_WORTH_NAMING = 100_000
#: A region can be compared while it is moved by up to this share of its side.
_MOVED_SHARE = 0.25
_PLURAL = {SUBJECT: "subjects", BLOCK: "blocks of tissue"}
#: What each measure is about.
WORDS = {
    REGION_CORRELATION.name: "the stain's amount from region to region",
    CELL_AUROC.name: "positive against negative nuclei",
    DICE.name: "the stained area",
    PSNR.name: "PSNR",
    SSIM.name: "SSIM",
}


@dataclass(frozen=True)
class Bar:
    """What a measure must show to matter.

    Attributes:
        chance: its value where nothing is known.
        worth: value below which a stain is of no use.
        gain: gain over the best baseline below which a network is not worth its trouble.
    """

    chance: float
    worth: float
    gain: float


#: A correlation of 0.3 explains a tenth of the variance; an AUROC of 0.6 ranks six pairs of ten.
BARS: Mapping[str, Bar] = {
    REGION_CORRELATION.name: Bar(0.0, 0.3, 0.2),
    CELL_AUROC.name: Bar(0.5, 0.6, 0.1),
    DICE.name: Bar(0.0, 1.0, 0.05),
}


@dataclass(frozen=True)
class Measure:
    """One measure of the model, of every baseline, and the gains between them.

    Attributes:
        name: of the metric.
        model: the model's figure.
        baselines: each baseline's figure.
        gains: the model less each baseline, paired.
    """

    name: str
    model: Figure
    baselines: Mapping[str, Figure]
    gains: Mapping[str, Figure]

    @property
    def best(self) -> str | None:
        """The baseline with the highest value."""
        known = {name: one.value for name, one in self.baselines.items() if not math.isnan(one.value)}
        return max(known, key=lambda name: known[name]) if known else None

    @property
    def complete(self) -> bool:
        """Whether the model and every gain have an interval."""
        return bool(self.gains) and self.model.known and all(one.known for one in self.gains.values())

    @property
    def beats_all(self) -> bool:
        """Whether every gain's whole interval lies above zero."""
        return self.complete and all(one.low > 0 for one in self.gains.values())

    def shows(self) -> bool:
        """Whether the model beats every baseline and chance."""
        return self.beats_all and self.model.low > BARS[self.name].chance

    def rules_out(self) -> bool:
        """Whether the data are enough to say that nothing worth having is there."""
        if not self.complete or self.best is None:
            return False
        bar = BARS[self.name]
        return self.model.high < bar.worth and self.gains[self.best].high < bar.gain

    def text(self) -> str:
        """The measure in words, with the best baseline beside it."""
        words = f"{WORDS[self.name]} ({self.name}): {self.model.text()}"
        if self.best is None:
            return words
        rival, gained = self.baselines[self.best].text(), signed(self.gains[self.best])
        return f"{words} against {rival} for {self.best}, a gain of {gained}"


@dataclass(frozen=True)
class StainEvidence:
    """What the verdict on a stain rests on.

    Attributes:
        stain: which.
        biology: the measures that decide.
        looks: PSNR and SSIM, which do not.
        unit: ``subject`` or ``block of tissue``: what intervals are over.
        units: how many of them.
        subjects: how many people.
        region_um, match_um: side of a region, and how far apart the same nucleus may lie.
        registration_error_um: of the pairs, where it is known.
    """

    stain: str
    biology: tuple[Measure, ...]
    looks: tuple[Measure, ...]
    unit: str
    units: int
    subjects: int
    region_um: float
    match_um: float
    registration_error_um: float | None = None

    @property
    def usable(self) -> tuple[Measure, ...]:
        """The measures that the registration is good enough for."""
        error = self.registration_error_um
        if error is None:
            return self.biology
        reach = {REGION_CORRELATION.name: _MOVED_SHARE * self.region_um}
        return tuple(one for one in self.biology if error <= reach.get(one.name, self.match_um))

    @property
    def scope(self) -> str:
        """Whom the intervals speak of."""
        people = f"{self.subjects} subject{'s' * (self.subjects != 1)}"
        if self.unit == SUBJECT:
            return f"n = {people}"
        return f"within {people}, {self.units} blocks of tissue; this says nothing of other subjects"


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


def evidence_of(
    measured: Measured,
    model: str,
    subjects: int,
    unit: str = SUBJECT,
    registration_error_um: float | None = None,
    level: float = LEVEL,
) -> StainEvidence:
    """Gather the evidence from measurements.

    Args:
        measured: of the model and the baselines on held-out pairs.
        model: which of the methods is the model; all others are baselines.
        subjects: how many people the pairs come from.
        unit: what the measurements hang together by, ``subject`` or ``block of tissue``.
        registration_error_um: median error that remains between source and target, where known.
        level: confidence level.
    """
    deciding = (REGION_CORRELATION, CELL_AUROC if measured.selective else DICE)
    return StainEvidence(
        stain=measured.stain,
        biology=tuple(_measure(measured, metric, model, level) for metric in deciding),
        looks=tuple(_measure(measured, metric, model, level) for metric in (PSNR, SSIM)),
        unit=unit,
        units=int(measured.images["unit"].nunique()),
        subjects=subjects,
        region_um=measured.settings.region_um,
        match_um=measured.settings.match_um,
        registration_error_um=registration_error_um,
    )


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
    worse = [
        f"On {WORDS[one.name]} the model is worse than {name}: {signed(found)}."
        for one in evidence.usable
        for name, found in one.gains.items()
        if found.known and found.high < 0
    ]
    return StainVerdict(LEARNABLE, sentence, "model", tuple(worse), None, evidence)


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
    return StainVerdict(NOT_LEARNABLE, sentence, None, _looks(evidence), None, evidence)


def _bar(name: str) -> str:
    bar = BARS[name]
    worth = f"a {name} of {bar.worth:g} or " if bar.worth < 1 else ""
    return f"{worth}a gain in {name} of {bar.gain:g}"


def _open(evidence: StainEvidence) -> StainVerdict:
    enough = _simple_enough(evidence)
    if enough is not None:
        name, measure = enough
        why = f"{name} already follows the stain and the model does not clearly beat it: {measure.text()}"
        return _untold(evidence, why, _more(evidence), name)
    text = "; ".join(one.text() for one in evidence.usable)
    return _untold(evidence, text, _more(evidence))


def _untold(evidence: StainEvidence, why: str, more: int | None, use: str | None = None) -> StainVerdict:
    needed = f" Roughly {more:,} more {_PLURAL[evidence.unit]} would be needed." if more else ""
    sentence = (
        f"The data cannot tell whether {evidence.stain} is learnable: {why} ({evidence.scope}).{needed}"
    )
    return StainVerdict(CANNOT_TELL, sentence, use, _looks(evidence) + _register(evidence), more, evidence)


def _simple_enough(evidence: StainEvidence) -> tuple[str, Measure] | None:
    """The best baseline of a measure on which it is worth having beyond doubt."""
    for one in evidence.usable:
        best = one.best
        if best is not None and one.name != DICE.name and one.baselines[best].low > BARS[one.name].worth:
            return best, one
    return None


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


def _more(evidence: StainEvidence) -> int | None:
    """How many more units would settle it, by the scaling of variances with their number.

    Either a gain that was seen is real, and one measure must tell it from zero; or there is none,
    and every measure must rule it out. The smaller of the two, at 80 % power.
    """
    measures = [one for one in evidence.usable if one.complete and one.best is not None]
    if not measures or len(measures) < len(evidence.usable):
        return None
    shown = min(_needed(one.gains[str(one.best)], one.gains[str(one.best)].value) for one in measures)
    ruled_out = max(
        max(
            _needed(one.model, BARS[one.name].worth - one.model.value),
            _needed(one.gains[str(one.best)], BARS[one.name].gain - one.gains[str(one.best)].value),
        )
        for one in measures
    )
    more = min(shown, ruled_out)
    return None if more > _MOST_WORTH_NAMING else max(1, math.ceil(more))


def _needed(found: Figure, distance: float) -> float:
    """Further units that tell ``found`` from a value ``distance`` away; infinite on the wrong side."""
    if distance <= 0:
        return math.inf
    error = (found.high - found.low) / 2 / float(t.ppf(0.5 + LEVEL / 2, found.n - 1))
    reach = float(norm.ppf(0.5 + LEVEL / 2) + norm.ppf(_POWER)) * error
    return found.n * ((reach / distance) ** 2 - 1)


def _measure(measured: Measured, metric: Metric, model: str, level: float) -> Measure:
    scores = score(measured, metric, level)
    others = [name for name in measured.methods if name != model]
    return Measure(
        metric.name,
        scores.figure(model),
        {name: scores.figure(name) for name in others},
        {name: scores.gain(model, name) for name in others},
    )


def signed(found: Figure) -> str:
    """A difference with its sign and its interval."""
    ends = f"{found.low:+.2f} to {found.high:+.2f}" if found.known else "no interval"
    return f"{found.value:+.2f} ({ends})"
