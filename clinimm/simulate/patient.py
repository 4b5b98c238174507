"""Everything of one simulated patient: its files, its part of the bulk export, its truth."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from clinimm.simulate.bundle import bundle_bytes, ndjson_lines
from clinimm.simulate.film import Film, Lesion, draw_body, draw_lesions, plan_film, render_film
from clinimm.simulate.film_file import film_bytes, film_dataset
from clinimm.simulate.measure import Measurements, draw_measurements
from clinimm.simulate.notes import Note, draw_notes
from clinimm.simulate.record import patient_record
from clinimm.simulate.scenario import Scenario
from clinimm.simulate.slide import Slide, plan_slide, render_slide
from clinimm.simulate.slide_file import slide_bytes
from clinimm.simulate.subject import Subject, draw_subject
from clinimm.simulate.tissue_slides import Block, draw_block

_RUN_LENGTH_EVERY = 8
_COPIED_FILM_EVERY = 60
_GENERIC_SLIDE_EVERY = 3


@dataclass(frozen=True)
class PlacedFilm:
    """A film, its file (relative to the export) and its lesions."""

    number: int
    taken: datetime
    path: str
    film: Film
    lesions: tuple[Lesion, ...]


@dataclass(frozen=True)
class PlacedNote:
    """A note and the text file that holds it, or None where a DocumentReference does."""

    position: int
    note: Note
    path: str | None


@dataclass(frozen=True)
class Patient:
    """One patient, ready to be written.

    Attributes:
        subject: the plan.
        files: path relative to the export -> content.
        ndjson: resource type -> lines of the bulk export; empty for a patient in a Bundle.
        films, notes, measurements, slide, slide_path, block: what the truth is told from.
    """

    subject: Subject
    measurements: Measurements
    films: tuple[PlacedFilm, ...]
    notes: tuple[PlacedNote, ...]
    slide: Slide | None
    slide_path: str
    block: Block | None
    files: dict[str, bytes] = field(repr=False)
    ndjson: dict[str, bytes] = field(repr=False)


def make_patient(scenario: Scenario, seed: int, number: int) -> Patient:
    """Draw and render patient ``number``; the same arguments give the same bytes."""
    subject = draw_subject(scenario, seed, number)
    files: dict[str, bytes] = {}
    films = _films(scenario, subject, files)
    measurements = draw_measurements(subject, scenario.late_facts)
    notes = _notes(subject, films, scenario.late_facts, files)
    slide, slide_path = _slide(scenario, subject, files)
    block = _block(scenario, subject, files)
    record = patient_record(
        subject, measurements, tuple(placed.note for placed in notes), subject.generator("record")
    )
    ndjson = _export(subject, record, files)
    return Patient(subject, measurements, films, notes, slide, slide_path, block, files, ndjson)


def _films(scenario: Scenario, subject: Subject, files: dict[str, bytes]) -> tuple[PlacedFilm, ...]:
    if not subject.has_film:
        return ()
    generator = subject.generator("film")
    body = draw_body(generator)
    lesions = draw_lesions(subject.hidden.factors["lesion"], generator)
    size = (scenario.film_pixels, round(scenario.film_pixels * subject.site.aspect))
    placed = []
    for number, taken in enumerate((subject.index, subject.second_film), start=1):
        if taken is None:
            continue
        plan = plan_film(size, subject.site.letter, subject.projection, body, lesions, generator)
        film = render_film(plan)
        path = f"dicom/{subject.person.patient_id}/{taken:%Y%m%d}_{number}.dcm"
        dataset = film_dataset(subject, number, taken, film.grey)
        files[path] = film_bytes(dataset, run_length=subject.number % _RUN_LENGTH_EVERY == 3)
        placed.append(PlacedFilm(number, taken, path, film, lesions))
    if subject.number % _COPIED_FILM_EVERY == 7:
        files[placed[0].path.replace(".dcm", "_copy.dcm")] = files[placed[0].path]
    return tuple(placed)


def _notes(
    subject: Subject, films: tuple[PlacedFilm, ...], late_facts: bool, files: dict[str, bytes]
) -> tuple[PlacedNote, ...]:
    side = films[0].lesions[0].side if films and films[0].lesions else None
    placed = []
    for position, note in enumerate(draw_notes(subject, side, late_facts)):
        path = None
        if subject.loose_notes:
            path = f"notes/{subject.person.patient_id}__{note.time:%Y%m%dT%H%M%SZ}.txt"
            files[path] = note.text.encode("utf-8")
        placed.append(PlacedNote(position, note, path))
    return tuple(placed)


def _slide(scenario: Scenario, subject: Subject, files: dict[str, bytes]) -> tuple[Slide | None, str]:
    if subject.slide_time is None or scenario.stains is not None:
        return None, ""
    plan = plan_slide(subject.hidden.factors["dense"], scenario.slide_pixels, subject.generator("slide"))
    slide = render_slide(plan)
    aperio = subject.number % _GENERIC_SLIDE_EVERY != 0
    path = f"slides/{subject.person.patient_id}/HE.{'svs' if aperio else 'tiff'}"
    files[path] = slide_bytes(slide.rgb, subject.slide_time, aperio)
    return slide, path


def _block(scenario: Scenario, subject: Subject, files: dict[str, bytes]) -> Block | None:
    if scenario.stains is None:
        return None
    block = draw_block(scenario.stains, subject)
    files.update(block.files())
    return block


def _export(subject: Subject, record: list[dict[str, Any]], files: dict[str, bytes]) -> dict[str, bytes]:
    if not subject.in_bundle:
        return ndjson_lines(record)
    transaction = subject.number % 2 == 0
    files[f"fhir/bundles/{subject.person.patient_id}.json"] = bundle_bytes(record, subject.ids, transaction)
    return {}
