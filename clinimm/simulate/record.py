"""A patient's record as FHIR R4 resources (plain JSON values), every time in UTC.

Structure: https://hl7.org/fhir/R4/; race, ethnicity and vital signs as in US Core.
"""

from __future__ import annotations

import base64
from datetime import datetime, timedelta

import numpy as np

from clinimm.simulate.demographics import patient
from clinimm.simulate.fhir import (
    ICD10,
    LOINC,
    RXNORM,
    SNOMED,
    TERMINOLOGY,
    Resource,
    concept,
    document_id,
    encounter_id,
    instant,
    links,
    observation_id,
    patient_reference,
    quantity,
)
from clinimm.simulate.imaging_study import imaging_studies
from clinimm.simulate.measure import Measurement, Measurements
from clinimm.simulate.notes import Note
from clinimm.simulate.subject import Subject

OUTCOME_SYSTEM = "https://clinimm.example/outcome"
#: The planted outcome's code, a Boolean: ``outcome//deterioration`` after ingest.
OUTCOME = "deterioration"
#: A second outcome for multi-class tasks: ``home``, ``intensive_care`` or ``died``.
COURSE = "course"

_CATEGORY = f"{TERMINOLOGY}/observation-category"

# SNOMED CT code, display, ICD-10-CM code, and a drug that goes with it (RxNorm code, display).
_LONG_TERM: tuple[tuple[str, str, str, tuple[str, str]], ...] = (
    ("38341003", "Hypertensive disorder", "I10", ("314076", "lisinopril 10 MG Oral Tablet")),
    (
        "44054006",
        "Diabetes mellitus type 2",
        "E11.9",
        ("860975", "24 HR Metformin hydrochloride 500 MG Extended Release Oral Tablet"),
    ),
    ("55822004", "Hyperlipidemia", "E78.5", ("259255", "atorvastatin 80 MG Oral Tablet")),
    ("396275006", "Osteoarthritis", "M19.90", ("313782", "Acetaminophen 325 MG Oral Tablet")),
)


def patient_record(
    subject: Subject, measurements: Measurements, notes: tuple[Note, ...], generator: np.random.Generator
) -> list[Resource]:
    """All resources of one patient, the Patient first and each before what refers to it.

    A few Observations come twice, as real exports have it.
    """
    observations = [_observation(subject, item, position) for position, item in enumerate(measurements.items)]
    documents = [] if subject.loose_notes else [_document(subject, n, i) for i, n in enumerate(notes)]
    outcome = _outcomes(subject, generator)
    return [
        patient(subject),
        *_encounters(subject),
        *_long_term(subject, generator),
        *observations,
        *(observations[position] for position in measurements.repeated),
        *imaging_studies(subject),
        *documents,
        *(outcome if subject.followed_up else ()),
    ]


def _encounters(subject: Subject) -> list[Resource]:
    visit = subject.admitted - timedelta(days=60 + subject.number % 200)
    return [
        _encounter(subject, "amb", ("AMB", "ambulatory"), visit, visit + timedelta(minutes=30)),
        _encounter(subject, "imp", ("IMP", "inpatient encounter"), subject.admitted, subject.outcome_issued),
    ]


def _encounter(subject: Subject, key: str, kind: tuple[str, str], start: datetime, end: datetime) -> Resource:
    return {
        "resourceType": "Encounter",
        "id": encounter_id(subject, key),
        "status": "finished",
        "class": {"system": f"{TERMINOLOGY}/v3-ActCode", "code": kind[0], "display": kind[1]},
        "subject": {"reference": patient_reference(subject)},
        "period": {"start": instant(start), "end": instant(end)},
        "serviceProvider": {
            "reference": f"Organization/org-{subject.site.key}",
            "display": subject.site.name,
        },
    }


def _long_term(subject: Subject, generator: np.random.Generator) -> list[Resource]:
    """Long-standing diseases and their drugs, recorded at the earlier visit; none bears on the outcome."""
    recorded = subject.admitted - timedelta(days=60 + subject.number % 200)
    resources: list[Resource] = []
    for code, display, icd10, drug in _LONG_TERM:
        has, treated = generator.random(2) < (0.35, 0.8)
        condition = _condition(subject, code, display, icd10, recorded)
        resources += [condition] if has else []
        resources += [_prescription(subject, drug, recorded)] if has and treated else []
    return resources


def _condition(subject: Subject, code: str, display: str, icd10: str, recorded: datetime) -> Resource:
    return {
        "resourceType": "Condition",
        "id": f"con-{subject.person.patient_id.lower()}-{code}",
        "clinicalStatus": concept(f"{TERMINOLOGY}/condition-clinical", "active", "Active"),
        "verificationStatus": concept(f"{TERMINOLOGY}/condition-ver-status", "confirmed", "Confirmed"),
        "category": [concept(f"{TERMINOLOGY}/condition-category", "problem-list-item", "Problem List Item")],
        "code": {
            "coding": [
                {"system": SNOMED, "code": code, "display": display},
                {"system": ICD10, "code": icd10},
            ],
            "text": display,
        },
        **links(subject, "amb"),
        "onsetDateTime": f"{recorded - timedelta(days=400):%Y-%m}",
        "recordedDate": instant(recorded),
    }


def _prescription(subject: Subject, drug: tuple[str, str], authored: datetime) -> Resource:
    code, display = drug
    return {
        "resourceType": "MedicationRequest",
        "id": f"med-{subject.person.patient_id.lower()}-{code}",
        "status": "active",
        "intent": "order",
        "medicationCodeableConcept": concept(RXNORM, code, display),
        **links(subject, "amb"),
        "authoredOn": instant(authored),
    }


def _observation(subject: Subject, item: Measurement, position: int) -> Resource:
    analyte = item.analyte
    resource: Resource = {
        "resourceType": "Observation",
        "id": observation_id(subject, position),
        "status": item.status,
        "category": [concept(_CATEGORY, analyte.category, analyte.category.replace("-", " ").title())],
        "code": concept(LOINC, analyte.code, analyte.display),
        **links(subject),
        "effectiveDateTime": instant(item.effective),
        "issued": instant(item.issued),
    }
    if item.diastolic is not None:
        return resource | _blood_pressure(item.value, item.diastolic)
    resource["valueQuantity"] = quantity(item.value, item.unit)
    if analyte.reference is not None:
        low, high = (quantity(_as_reported(bound, item), item.unit) for bound in analyte.reference)
        resource["referenceRange"] = [{"low": low, "high": high}]
    return resource


def _blood_pressure(systolic: float, diastolic: float) -> Resource:
    parts = (
        ("8480-6", "Systolic blood pressure", systolic),
        ("8462-4", "Diastolic blood pressure", diastolic),
    )
    return {
        "code": concept(LOINC, "85354-9", "Blood pressure panel with all children optional"),
        "component": [
            {"code": concept(LOINC, code, name), "valueQuantity": quantity(value, "mm[Hg]")}
            for code, name, value in parts
        ],
    }


def _as_reported(bound: float, item: Measurement) -> float:
    analyte = item.analyte
    other = item.unit != analyte.unit
    return round(bound * analyte.scale + analyte.offset if other else bound, 3)


def _document(subject: Subject, note: Note, position: int) -> Resource:
    code, display = note.kind
    text = note.text.encode("utf-8")
    attachment = {
        "contentType": "text/plain; charset=utf-8",
        "data": base64.b64encode(text).decode("ascii"),
    }
    return {
        "resourceType": "DocumentReference",
        "id": document_id(subject, position),
        "status": "current",
        "docStatus": "final",
        "type": concept(LOINC, code, display),
        "subject": {"reference": patient_reference(subject)},
        "date": instant(note.time),
        "content": [{"attachment": attachment}],
        "context": {"encounter": [{"reference": f"Encounter/{encounter_id(subject, 'imp')}"}]},
    }


def _outcomes(subject: Subject, generator: np.random.Generator) -> list[Resource]:
    """The label, and a coarser course of three classes that follows from it."""
    died = bool(generator.random() < 0.3)
    course = ("died" if died else "intensive_care") if subject.hidden.label else "home"
    name = {"died": "Died", "intensive_care": "Intensive care", "home": "Discharged home"}[course]
    return [
        _outcome(subject, OUTCOME, {"valueBoolean": subject.hidden.label}),
        _outcome(subject, COURSE, {"valueCodeableConcept": concept(OUTCOME_SYSTEM, course, name)}),
    ]


def _outcome(subject: Subject, code: str, value: Resource) -> Resource:
    return {
        "resourceType": "Observation",
        "id": f"out-{subject.person.patient_id.lower()}-{code}",
        "status": "final",
        "category": [{"coding": [{"system": OUTCOME_SYSTEM, "code": "outcome"}]}],
        "code": concept(OUTCOME_SYSTEM, code, code.capitalize()),
        **links(subject),
        "effectiveDateTime": instant(subject.outcome_issued),
        "issued": instant(subject.outcome_issued),
        **value,
    }
