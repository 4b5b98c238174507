"""What a verdict on a stain rests on: the measures that decide, the model's and every baseline's.

What counts is biology: the amount of stain from region to region beyond what follows from tissue and
nuclei, and positive against negative cells; for a stain that colours all cells alike, Dice in their place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from clinimm.staining.agreement import LEVEL, Figure
from clinimm.staining.biology import Measured
from clinimm.staining.table import CELL_AUROC, DICE, PSNR, REGION_CORRELATION, SSIM, Metric, score

SUBJECT = "subject"
BLOCK = "block of tissue"

#: A region can be compared while it is moved by up to this share of its side.
_MOVED_SHARE = 0.25
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
        registration_error_um: of the pairs; None where they were taken as registered and nobody measured.
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
        registration_error_um: median error that remains between source and target; None where the pairs
            were taken as registered and nobody measured it, which the verdict then says.
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
