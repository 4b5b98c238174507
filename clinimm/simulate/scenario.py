"""What a simulated hospital hides in its data: hidden factors, and how they decide the outcome.

A scenario is a set of knobs on one generator. Every patient has a few hidden yes/no factors; each
shows in one modality; the outcome's log odds are a sum of terms over factors coded -1 and +1.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, prod

import numpy as np

from clinimm.simulate.tissue_plan import Rule

#: Hidden factors and where each shows.
FACTORS: dict[str, str] = {
    "lesion": "a bright opacity in one lung of the film",
    "inflamed": "a high C reactive protein before the index film",
    "distress": "a sentence on laboured breathing in the notes before the index film",
    "dense": "crowded nuclei in the slide",
    "sick": "nowhere directly; what is measured at all may depend on it",
    "late": "procalcitonin and a note that become available after the index film",
    "main_site": "the site's letter in the film's corner, its device and its units",
    "woman": "the sex in the record",
}

#: What a patient may lack. The film is the index event, so whoever is in a cohort has one.
OPTIONAL = ("crp", "lactate", "note", "slide")


@dataclass(frozen=True)
class Term:
    """One summand of the outcome's log odds: ``logit`` times the product of its factors (-1, +1)."""

    factors: tuple[str, ...]
    logit: float


@dataclass(frozen=True)
class StainKnobs:
    """The knobs of a hospital whose patients have a block with paired stains.

    Attributes:
        rules: marker -> what decides whether its nuclei are positive.
        fact: the hidden factor that ``by_record`` goes by; the record shows it before the H&E slide.
        pixels: side of the slides at level 0.
        shift_um, rotation_degrees, deformation_um: largest movement of a section against the H&E.
        artefacts: chance that a slide has one.
    """

    rules: tuple[tuple[str, Rule], ...]
    fact: str = "inflamed"
    pixels: int = 512
    shift_um: float = 8.0
    rotation_degrees: float = 0.8
    deformation_um: float = 3.0
    artefacts: float = 0.15


@dataclass(frozen=True)
class Scenario:
    """The knobs of one hospital.

    Attributes:
        name: as ``clinimm simulate --scenario`` takes it.
        sentence: what is planted, for a person.
        terms: summands of the outcome's log odds.
        intercept: log odds where all terms cancel.
        copies: pairs (copy, original): the copy always equals the original factor.
        women_scale: factor on every term in women; 0 means that nothing holds for them.
        late_facts: whether the factor ``late`` is recorded, after the index film.
        missing: chance that an optional input is absent, in well patients.
        missing_if_sick: the same in sick patients; None is the same chance for everybody.
        lost_to_follow_up: chance that no outcome was recorded.
        no_film: chance that a patient has a record and no film.
        second_film: chance of a follow-up film, one to five days after the index film.
        bundle: chance that the record comes as a FHIR Bundle instead of a part of the bulk export.
        loose_notes: chance that the notes come as text files instead of DocumentReferences.
        film_pixels: longer side of a film, pixels.
        slide_pixels: side of a slide at level 0, pixels; a multiple of 1024.
        stains: paired stains of one block a patient, or None. Its H&E slide is then the index event,
            there are no films, and the slides above are not made.
    """

    name: str
    sentence: str
    terms: tuple[Term, ...] = ()
    intercept: float = 0.0
    copies: tuple[tuple[str, str], ...] = ()
    women_scale: float = 1.0
    late_facts: bool = False
    missing: tuple[tuple[str, float], ...] = (
        ("crp", 0.06),
        ("lactate", 0.45),
        ("note", 0.15),
        ("slide", 0.40),
    )
    missing_if_sick: tuple[tuple[str, float], ...] | None = None
    lost_to_follow_up: float = 0.04
    no_film: float = 0.02
    second_film: float = 0.12
    bundle: float = 0.06
    loose_notes: float = 0.08
    film_pixels: int = 256
    slide_pixels: int = 1024
    stains: StainKnobs | None = None

    def probability(self, factors: dict[str, bool]) -> float:
        """The chance of deterioration, given every hidden factor."""
        signs = {name: 1.0 if present else -1.0 for name, present in factors.items()}
        scale = self.women_scale if factors["woman"] else 1.0
        logit = self.intercept + scale * sum(
            term.logit * prod(signs[name] for name in term.factors) for term in self.terms
        )
        return 1.0 / (1.0 + exp(-logit))

    def chance_present(self, name: str, sick: bool) -> float:
        """The chance that a patient has an optional input."""
        missing = self.missing_if_sick if sick and self.missing_if_sick is not None else self.missing
        return 1.0 - dict(missing)[name]


@dataclass(frozen=True)
class Hidden:
    """What was drawn for one patient, before anything is written.

    Attributes:
        factors: name in ``FACTORS`` -> whether it is so.
        present: name in ``OPTIONAL`` -> whether it became available before the index film.
        probability: chance of deterioration, given the factors.
        label: whether the patient deteriorates.
    """

    factors: dict[str, bool]
    present: dict[str, bool]
    probability: float
    label: bool


def draw_hidden(scenario: Scenario, generator: np.random.Generator) -> Hidden:
    """Draw one patient's factors, what is measured, and the outcome."""
    factors = {name: bool(generator.random() < 0.5) for name in FACTORS}
    factors |= {copy: factors[original] for copy, original in scenario.copies}
    present = {
        name: bool(generator.random() < scenario.chance_present(name, factors["sick"])) for name in OPTIONAL
    }
    probability = scenario.probability(factors)
    return Hidden(factors, present, probability, bool(generator.random() < probability))


_ALIKE = (("inflamed", "lesion"), ("distress", "lesion"), ("dense", "lesion"))

# Every patient of a staining scenario has the block and the lab; who deteriorates is a toss.
_STAINED_MISSING = (("crp", 0.0), ("lactate", 0.45), ("note", 0.15), ("slide", 0.0))

_SCENARIOS = (
    Scenario(
        "synergy",
        "An opacity and inflammation together bring deterioration, one without the other keeps it away; "
        "lab and notes both carry the inflammation; alone each shows little of it.",
        terms=(Term(("lesion", "inflamed"), 3.4), Term(("lesion",), 2.0), Term(("inflamed",), 2.0)),
        copies=(("distress", "inflamed"),),
    ),
    Scenario(
        "redundant",
        "Film, lab, notes and slide all show one and the same factor; fusion cannot add to the film.",
        terms=(Term(("lesion",), 2.4),),
        copies=_ALIKE,
    ),
    Scenario(
        "late_signal",
        "Only procalcitonin and a note that become available after the index film tell the outcome; "
        "nothing before it does.",
        terms=(Term(("late",), 3.4),),
        late_facts=True,
    ),
    Scenario(
        "site_shortcut",
        "Patients of the main site deteriorate; its letter in the film's corner, its device and its "
        "units give it away, and nothing about the patient does.",
        terms=(Term(("main_site",), 1.7),),
    ),
    Scenario(
        "missing_not_at_random",
        "Sick patients get a lactate and a slide far more often; the values themselves say nothing.",
        terms=(Term(("sick",), 2.6),),
        missing=(("crp", 0.06), ("lactate", 0.85), ("note", 0.15), ("slide", 0.85)),
        missing_if_sick=(("crp", 0.06), ("lactate", 0.10), ("note", 0.15), ("slide", 0.10)),
    ),
    Scenario(
        "subgroup_shift",
        "Opacity and inflammation foretell deterioration in men, and hardly in women.",
        terms=(Term(("lesion",), 1.8), Term(("inflamed",), 1.4)),
        women_scale=0.08,
    ),
    Scenario("null", "The outcome is a coin toss; there is nothing to find."),
    Scenario(
        "mixed",
        "Film, lab, notes and slide each tell a part, and an opacity with inflammation tells more.",
        terms=(
            Term(("lesion",), 1.1),
            Term(("inflamed",), 0.9),
            Term(("distress",), 0.7),
            Term(("dense",), 0.5),
            Term(("lesion", "inflamed"), 0.9),
        ),
        intercept=-0.6,
    ),
    Scenario(
        "stain_determined",
        "KI67 follows from the size and chromatin of tumour nuclei, PANCK from where the epithelium is; "
        "the H&E slide shows both, so that the stains can be learnt from it.",
        missing=_STAINED_MISSING,
        stains=StainKnobs((("KI67", "determined"), ("PANCK", "determined"))),
    ),
    Scenario(
        "stain_undetermined",
        "Whether a nucleus is positive is a toss for each nucleus, region and slide, at the same usual "
        "rate; no input tells it, so that the stains cannot be learnt from these data.",
        missing=_STAINED_MISSING,
        stains=StainKnobs((("KI67", "undetermined"), ("PANCK", "undetermined"))),
    ),
    Scenario(
        "stain_by_record",
        "KI67 follows from the tumour nuclei and from inflammation, which lab and notes show before the "
        "H&E slide and the slide does not; PANCK from the epithelium alone.",
        copies=(("distress", "inflamed"),),
        missing=_STAINED_MISSING,
        stains=StainKnobs((("KI67", "by_record"), ("PANCK", "determined"))),
    ),
)

#: Name -> scenario, as ``clinimm simulate --scenario`` offers them.
SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in _SCENARIOS}
