"""One simulated patient as a plan: who, where, when, what is hidden. Nothing is written here.

Each patient's randomness comes from its own number, so patient 7 is the same person with the same
data however many patients the hospital has, and in whatever order they are made.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from clinimm.simulate.identity import Ids, Person, Site, draw_person, draw_site
from clinimm.simulate.scenario import Hidden, Scenario, draw_hidden

_FIRST_DAY = datetime(2021, 1, 4, tzinfo=UTC)
_DAYS = 1000

#: One independent stream of random numbers a part, so that a change to one leaves the others.
_STREAMS = ("hidden", "plan", "film", "measurements", "notes", "slide", "record", "tissue", "stain times")


@dataclass(frozen=True)
class Subject:
    """One patient's plan.

    Attributes:
        number: 0, 1, ...
        seed: the hospital's seed.
        ids: makes this patient's UIDs and resource ids.
        person, site, hidden: who, where, and what was drawn.
        admitted: start of the inpatient encounter, UTC.
        index: acquisition of the first film, or of the H&E slide where the scenario has paired stains
            and no films, UTC: the index event.
        outcome_issued: when the outcome was recorded, UTC; two to fourteen days after ``index``.
        followed_up: whether an outcome was recorded at all.
        has_film: whether there is a film.
        second_film: acquisition of a follow-up film, UTC, or None.
        slide_time: scan time of the slide, UTC, or None; it lies after ``index`` for a few.
        projection: ``PA`` or ``AP``.
        in_bundle: whether the record comes as a Bundle.
        loose_notes: whether the notes come as text files.
    """

    number: int
    seed: int
    ids: Ids
    person: Person
    site: Site
    hidden: Hidden
    admitted: datetime
    index: datetime
    outcome_issued: datetime
    followed_up: bool
    has_film: bool
    second_film: datetime | None
    slide_time: datetime | None
    projection: str
    in_bundle: bool
    loose_notes: bool

    def generator(self, stream: str) -> np.random.Generator:
        """This patient's own random numbers for one part of the data."""
        return _generator(self.seed, self.number, stream)


def draw_subject(scenario: Scenario, seed: int, number: int) -> Subject:
    """Draw the plan of patient ``number``."""
    hidden = draw_hidden(scenario, _generator(seed, number, "hidden"))
    generator = _generator(seed, number, "plan")
    index = _FIRST_DAY + timedelta(
        days=int(generator.integers(_DAYS)), seconds=int(generator.integers(7 * 3600, 21 * 3600))
    )
    second_after = timedelta(hours=float(generator.uniform(24, 120)))
    slide_before = timedelta(days=float(generator.uniform(1, 20)))
    has_second, has_late_slide = generator.random(2) < (scenario.second_film, 0.08)
    slide_time = index - slide_before if hidden.present["slide"] else None
    if slide_time is None and has_late_slide:
        slide_time = index + slide_before
    if scenario.stains is not None:
        slide_time = index
    return Subject(
        number=number,
        seed=seed,
        ids=Ids(f"{scenario.name}/{seed}/{number}"),
        person=draw_person(seed, number, hidden.factors["woman"], index.date(), generator),
        site=draw_site(hidden.factors["main_site"], generator),
        hidden=hidden,
        admitted=_whole_seconds(index - timedelta(hours=float(generator.uniform(7, 48)))),
        index=index,
        outcome_issued=_whole_seconds(index + timedelta(days=float(generator.uniform(2.1, 13.9)))),
        followed_up=bool(generator.random() >= scenario.lost_to_follow_up),
        has_film=bool(generator.random() >= scenario.no_film) and scenario.stains is None,
        second_film=_whole_seconds(index + second_after) if has_second else None,
        slide_time=None if slide_time is None else _whole_seconds(slide_time),
        projection="AP" if generator.random() < 0.3 else "PA",
        in_bundle=bool(generator.random() < scenario.bundle),
        loose_notes=bool(generator.random() < scenario.loose_notes),
    )


def _generator(seed: int, number: int, stream: str) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number, _STREAMS.index(stream))))


def _whole_seconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)
