"""``truth.json``: what was planted, where, and how strongly. Never an input of anything.

Ingest knows it by its ``schema`` and leaves it out: it is no part of the export.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from clinimm.ingest.reading import TRUTH_SCHEMA
from clinimm.simulate.bayes import bayes_auroc
from clinimm.simulate.fhir import document_id, instant, observation_id
from clinimm.simulate.film_file import film_uids
from clinimm.simulate.measure import CRP_MG_PER_L, PROCALCITONIN_NG_PER_ML, TEMPERATURE
from clinimm.simulate.patient import Patient, PlacedFilm, PlacedNote
from clinimm.simulate.record import OUTCOME
from clinimm.simulate.scenario import FACTORS, Scenario
from clinimm.simulate.slide import MICROMETRES_PER_PIXEL, NUCLEI_PER_MM2
from clinimm.simulate.tissue_truth import block_truth

VERSION = 1
_HOTTEST_CEL = 50


def hospital_truth(scenario: Scenario, seed: int, patients: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The whole of ``truth.json``.

    Args:
        scenario: the knobs.
        seed: the hospital's seed.
        patients: medical record number -> ``patient_truth``.
    """
    return {
        "schema": TRUTH_SCHEMA,
        "version": VERSION,
        "scenario": scenario.name,
        "sentence": scenario.sentence,
        "seed": seed,
        "subjects": len(patients),
        "knobs": _knobs(scenario),
        "factors": FACTORS,
        "effects": {
            "crp_mg_per_l_median_and_log_sd": _by_factor(CRP_MG_PER_L),
            "procalcitonin_ng_per_ml_median_and_log_sd": _by_factor(PROCALCITONIN_NG_PER_ML),
            "nuclei_per_mm2": _by_factor(NUCLEI_PER_MM2),
        },
        "outcome": f"outcome//{OUTCOME}",
        "bayes_auroc": {name: round(value, 6) for name, value in bayes_auroc(scenario).items()},
        "patients": patients,
    }


def patient_truth(patient: Patient) -> dict[str, Any]:
    """What was planted in one patient; times are UTC, boxes exclude their right and bottom edge."""
    subject, person = patient.subject, patient.subject.person
    return {
        "number": subject.number,
        "site": subject.site.name,
        "device": f"{subject.site.manufacturer} {subject.site.model}",
        "projection": subject.projection,
        "sex": person.gender,
        "race": person.race[1],
        "ethnicity": person.ethnicity[1],
        "birth_date": person.birth_date.isoformat(),
        "age_years": person.age_years(subject.index.date()),
        "index_time": instant(subject.index) if subject.has_film or patient.block else None,
        "factors": subject.hidden.factors,
        "probability": round(subject.hidden.probability, 6),
        "label": subject.hidden.label if subject.followed_up else None,
        "label_issued": instant(subject.outcome_issued) if subject.followed_up else None,
        "present": {"film": subject.has_film} | subject.hidden.present,
        "in_bundle": subject.in_bundle,
        "films": [_film(patient, film) for film in patient.films],
        "labs": _labs(patient),
        "notes": [_note(patient, placed) for placed in patient.notes],
        "slide": _slide(patient),
        "flaws": _flaws(patient),
        **({"block": block_truth(patient.block)} if patient.block else {}),
    }


def _knobs(scenario: Scenario) -> dict[str, Any]:
    """As the scenario has them; those of paired stains only where there are any."""
    knobs = asdict(scenario)
    return knobs if scenario.stains else {name: knob for name, knob in knobs.items() if name != "stains"}


def _film(patient: Patient, placed: PlacedFilm) -> dict[str, Any]:
    rows, columns = placed.film.grey.shape
    return {
        "file": placed.path,
        "sop_instance_uid": film_uids(patient.subject, placed.number)["instance"],
        "time": instant(placed.taken),
        "rows": rows,
        "columns": columns,
        "lesions": [
            {"box": list(box), "side": lesion.side, "contrast": round(lesion.contrast, 4)}
            for box, lesion in zip(placed.film.boxes, placed.lesions, strict=True)
        ],
    }


def _labs(patient: Patient) -> list[dict[str, Any]]:
    """The values that carry a factor."""
    return [
        {
            "observation": observation_id(patient.subject, position),
            "code": f"LOINC//{item.analyte.code}",
            "value": item.value,
            "unit": item.unit,
            "usual_value": round(item.usual_unit_value, 6),
            "usual_unit": item.analyte.unit,
            "effective": instant(item.effective),
            "issued": instant(item.issued),
            "factor": item.factor,
        }
        for position, item in enumerate(patient.measurements.items)
        if item.factor is not None
    ]


def _note(patient: Patient, placed: PlacedNote) -> dict[str, Any]:
    note = placed.note
    return {
        "document": None if placed.path else document_id(patient.subject, placed.position),
        "file": placed.path,
        "time": instant(note.time),
        "spans": [asdict(span) | {"text": note.text[span.start : span.stop]} for span in note.spans],
    }


def _slide(patient: Patient) -> dict[str, Any] | None:
    time = patient.subject.slide_time
    if patient.slide is None or time is None:
        return None
    return {
        "file": patient.slide_path,
        "time": instant(time),
        "micrometres_per_pixel": MICROMETRES_PER_PIXEL,
        "pixels": int(patient.slide.rgb.shape[0]),
        "nuclei": patient.slide.nuclei,
        "tissue_mm2": round(patient.slide.tissue_mm2, 6),
    }


def _flaws(patient: Patient) -> dict[str, list[str]]:
    """What is wrong on purpose: an ingest has to drop or flag these."""
    subject, items = patient.subject, patient.measurements.items
    return {
        "entered_in_error": [
            observation_id(subject, i) for i, item in enumerate(items) if item.status == "entered-in-error"
        ],
        "absurd": [
            observation_id(subject, i)
            for i, item in enumerate(items)
            if item.status == "final"
            and item.analyte.code == TEMPERATURE
            and item.usual_unit_value > _HOTTEST_CEL
        ],
        "repeated_in_export": []
        if subject.in_bundle
        else [observation_id(subject, i) for i in patient.measurements.repeated],
        "copied_files": [path for path in patient.files if path.endswith("_copy.dcm")],
    }


def _by_factor(values: dict[bool, Any]) -> dict[str, Any]:
    return {"absent": values[False], "present": values[True]}
