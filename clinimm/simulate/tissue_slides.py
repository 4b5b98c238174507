"""A patient's block as slides: an H&E, and a day later the same section in other stains."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from clinimm.ingest.reading import TRUTH_SCHEMA
from clinimm.simulate.artefacts import KINDS, Artefact, draw_artefact
from clinimm.simulate.misregister import draw_misregistration
from clinimm.simulate.scenario import StainKnobs
from clinimm.simulate.slide import MICROMETRES_PER_PIXEL
from clinimm.simulate.slide_file import Scan, slide_bytes
from clinimm.simulate.stain_look import Look, draw_look
from clinimm.simulate.subject import Subject
from clinimm.simulate.tissue import Tissue, draw_tissue
from clinimm.simulate.tissue_plan import StainPlan, TissuePlan, plan_tissue

BLOCK = "A1"
HE = "HE"
_JPEG_QUALITY = 90
_LATER_HOURS = (20.0, 28.0)
_DIGITS = 5


@dataclass(frozen=True)
class StainedSlide:
    """One slide of a block: its stain (``HE`` or a marker), its file, and when it was scanned, UTC."""

    stain: str
    path: str
    time: datetime
    look: Look


@dataclass(frozen=True)
class Block:
    """A patient's block, ready to be written.

    Attributes:
        knobs: the scenario's.
        fact: whether the patient has the factor ``knobs.fact``.
        tissue: pictures and truth.
        slides: H&E first.
        table_path: where the table of nuclei is written.
    """

    knobs: StainKnobs
    fact: bool
    tissue: Tissue
    slides: tuple[StainedSlide, ...]
    table_path: str

    def files(self) -> dict[str, bytes]:
        """Path relative to the export -> content."""
        written = {self.table_path: _table(self.tissue)}
        for slide in self.slides:
            rgb = self.tissue.he if slide.stain == HE else self.tissue.sections[slide.stain].rgb
            words = "haematoxylin and eosin" if slide.stain == HE else f"haematoxylin and DAB, {slide.stain}"
            scan = Scan(slide.look.scanner, words, _JPEG_QUALITY)
            written[slide.path] = slide_bytes(rgb, slide.time, slide.look.aperio, scan)
        return written


def draw_block(knobs: StainKnobs, subject: Subject) -> Block:
    """Draw a patient's block; the same subject gives the same block.

    Scenarios that differ only in their rules have the same H&E for the same patient.
    """
    plan = plan_block(knobs, subject)
    generator = subject.generator("stain times")
    later = timedelta(hours=float(generator.uniform(*_LATER_HOURS)))
    folder = f"slides/{subject.person.patient_id}"
    slides = [StainedSlide(HE, _path(folder, HE, plan.look), subject.index, plan.look)]
    for position, stain in enumerate(plan.stains):
        time = (subject.index + later + timedelta(minutes=9 * position)).replace(microsecond=0)
        slides.append(StainedSlide(stain.marker, _path(folder, stain.marker, stain.look), time, stain.look))
    return Block(
        knobs=knobs,
        fact=subject.hidden.factors[knobs.fact],
        tissue=draw_tissue(plan),
        slides=tuple(slides),
        table_path=f"truth/{subject.person.patient_id}.json",
    )


def plan_block(knobs: StainKnobs, subject: Subject) -> TissuePlan:
    """The plan of a patient's block, with movement and artefacts."""
    generator = subject.generator("tissue")
    stains = tuple(_plan_stain(marker, knobs, subject, generator) for marker, _ in knobs.rules)
    look = draw_look(subject.site.key, generator)
    artefacts = _artefacts(knobs, generator)
    crowded = subject.hidden.factors["dense"]
    plan = plan_tissue(generator, knobs.pixels, stains, crowded, look)
    return replace(plan, um_per_pixel=MICROMETRES_PER_PIXEL, artefacts=artefacts)


def _plan_stain(
    marker: str, knobs: StainKnobs, subject: Subject, generator: np.random.Generator
) -> StainPlan:
    return StainPlan(
        marker=marker,
        rule=dict(knobs.rules)[marker],
        fact=subject.hidden.factors[knobs.fact],
        move=draw_misregistration(generator, knobs.shift_um, knobs.rotation_degrees, knobs.deformation_um),
        look=draw_look(subject.site.key, generator),
        artefacts=_artefacts(knobs, generator),
        seed=int(generator.integers(2**32)),
    )


def _artefacts(knobs: StainKnobs, generator: np.random.Generator) -> tuple[Artefact, ...]:
    """At most one; always drawn, so that their chance changes nothing else."""
    artefact = draw_artefact(KINDS[int(generator.integers(len(KINDS)))], generator)
    return (artefact,) if generator.random() < knobs.artefacts else ()


def _path(folder: str, stain: str, look: Look) -> str:
    return f"{folder}/{BLOCK}_{stain}.{'svs' if look.aperio else 'tiff'}"


def _table(tissue: Tissue) -> bytes:
    """Every nucleus of the H&E as columns; begins as ``truth.json``, so that ingest leaves it out."""
    nuclei = tissue.nuclei
    columns: dict[str, list[object]] = {
        "column": _rounded(nuclei.column),
        "row": _rounded(nuclei.row),
        "radius_pixels": _rounded(nuclei.radius_um / tissue.plan.um_per_pixel),
        "radius_um": _rounded(nuclei.radius_um),
        "elongation": _rounded(nuclei.elongation),
        "chromatin": _rounded(nuclei.chromatin),
        "type": list(nuclei.types()),
    }
    for name, section in tissue.sections.items():
        columns[f"{name}_positive"] = section.positivity.positive.tolist()
        columns[f"{name}_intensity"] = _rounded(section.positivity.intensity)
    whole = {
        "schema": TRUTH_SCHEMA,
        "block": BLOCK,
        "um_per_pixel": tissue.plan.um_per_pixel,
        "nuclei": columns,
    }
    return (json.dumps(whole) + "\n").encode("utf-8")


def _rounded(values: np.ndarray) -> list[object]:
    return [round(float(value), _DIGITS) for value in values]
