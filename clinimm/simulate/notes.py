"""Clinical notes from a bank of sentences; the planted sentence's characters are known.

Every sentence is written for this project. A note that carries a factor states it once, in one of
several wordings, between sentences that say nothing about the outcome.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from clinimm.simulate.subject import Subject

#: The sentence that carries ``distress``.
DISTRESS: dict[bool, tuple[str, ...]] = {
    True: (
        "Marked work of breathing with use of accessory muscles.",
        "Severe shortness of breath at rest, speaking in single words.",
        "In obvious respiratory distress with laboured, rapid breathing.",
        "Gasping for air and unable to lie flat.",
        "Breathlessness is getting worse by the hour despite oxygen.",
        "Struggling to breathe, with intercostal recession.",
    ),
    False: (
        "Breathing comfortably on room air.",
        "No shortness of breath, walking the corridor without help.",
        "Resting quietly, speaking in full sentences.",
        "Respiration is calm and unlaboured.",
        "Denies any breathlessness and slept well.",
        "Comfortable at rest with easy breathing.",
    ),
}

#: The sentence that carries ``late``, written after the index film.
LATE: dict[bool, tuple[str, ...]] = {
    True: (
        "Transferred to intensive care overnight because of respiratory failure.",
        "Rapid decline this morning, now on high-flow oxygen and moved to intensive care.",
    ),
    False: (
        "Much better today and fit for discharge.",
        "Steady recovery, oxygen stopped, going home tomorrow.",
    ),
}

_LESION: dict[bool, str] = {
    True: "There is a dense opacity in the {side} lung.",
    False: "Both lungs are clear.",
}
_OPENINGS = (
    "Seen on the ward round.",
    "Admitted through the emergency department.",
    "Reviewed this shift together with the nursing team.",
    "Known to the clinic from earlier visits.",
)
_HISTORY = (
    "Lives at home with family and manages daily tasks alone.",
    "Former smoker, stopped many years ago.",
    "Takes tablets for blood pressure and reports no allergies.",
    "Retired, enjoys gardening, no recent travel.",
    "Had knee surgery in the past without complications.",
)
_EXAMINATION = (
    "Abdomen soft and not tender.",
    "Heart sounds normal, no murmur heard.",
    "Skin warm, no rash, no ankle swelling.",
    "Alert and oriented to time and place.",
)
_PLAN = (
    "Plan: chest film, repeat blood tests, review tomorrow.",
    "Plan: continue current treatment and encourage fluids.",
    "Plan: physiotherapy and early mobilisation.",
)


@dataclass(frozen=True)
class Span:
    """Characters of a note that carry a hidden factor; ``stop`` is exclusive."""

    start: int
    stop: int
    factor: str
    positive: bool


@dataclass(frozen=True)
class Note:
    """One note.

    Attributes:
        kind: LOINC code and display of the document's type.
        time: when it became available, UTC.
        text: the whole text.
        spans: where planted sentences stand.
    """

    kind: tuple[str, str]
    time: datetime
    text: str
    spans: tuple[Span, ...]


PROGRESS_NOTE = ("11506-3", "Progress note")
ADMISSION_NOTE = ("34117-2", "History and physical note")
FILM_REPORT = ("18748-4", "Diagnostic imaging study")


def draw_notes(subject: Subject, lesion_side: str | None, late_facts: bool) -> tuple[Note, ...]:
    """All notes of a patient, in order of time.

    Before the index film: an admission note and often a progress note, both with ``distress``.
    After it: a report of the film for half of the patients, and, in hospitals with late facts, a
    note that tells the outcome's factor.
    """
    generator = subject.generator("notes")
    early = [
        _clinical(ADMISSION_NOTE, subject, _after(subject.admitted, 2), "distress", DISTRESS, generator),
        _clinical(PROGRESS_NOTE, subject, _after(subject.index, -2), "distress", DISTRESS, generator),
    ]
    if generator.random() < 0.4:
        early.pop()
    report = _report(subject, lesion_side, generator)
    has_report = generator.random() < 0.5 and subject.has_film
    hours = float(generator.uniform(12, 40))
    late = _clinical(PROGRESS_NOTE, subject, _after(subject.index, hours), "late", LATE, generator)
    notes = [*(early if subject.hidden.present["note"] else ()), *((report,) if has_report else ())]
    if late_facts:
        notes.append(late)
    return tuple(notes)


def _clinical(
    kind: tuple[str, str],
    subject: Subject,
    time: datetime,
    factor: str,
    bank: dict[bool, tuple[str, ...]],
    generator: np.random.Generator,
) -> Note:
    positive = subject.hidden.factors[factor]
    planted = _pick(bank[positive], generator)
    head = _header(subject, generator) + _pick(_OPENINGS, generator)
    before = " ".join([head, _pick(_HISTORY, generator)])
    after = " ".join([_pick(_EXAMINATION, generator), _pick(_PLAN, generator)])
    start = len(before) + 1
    text = f"{before} {planted} {after}"
    return Note(kind, time, text, (Span(start, start + len(planted), factor, positive),))


def _report(subject: Subject, side: str | None, generator: np.random.Generator) -> Note:
    finding = _LESION[side is not None].format(side=side)
    head = f"Chest radiograph, {subject.projection} view."
    text = f"{head} {finding} No pneumothorax. Bones unremarkable."
    span = Span(len(head) + 1, len(head) + 1 + len(finding), "lesion", side is not None)
    return Note(FILM_REPORT, _after(subject.index, float(generator.uniform(0.5, 4))), text, (span,))


def _header(subject: Subject, generator: np.random.Generator) -> str:
    """A third of the notes name the patient, as real ones do; ingest has to clean that."""
    person = subject.person
    if generator.random() > 0.35:
        return ""
    born = f"{person.birth_date:%Y-%m-%d}"
    return f"Patient: {person.given} {person.family}, MRN {person.patient_id}, born {born}. "


def _after(moment: datetime, hours: float) -> datetime:
    return (moment + timedelta(hours=hours)).replace(microsecond=0)


def _pick(choices: tuple[str, ...], generator: np.random.Generator) -> str:
    return choices[int(generator.integers(len(choices)))]
