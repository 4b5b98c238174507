"""The small parts that FHIR R4 resources are made of: codes, quantities, instants, references."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from clinimm.simulate.subject import Subject

Resource = dict[str, Any]

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
SNOMED = "http://snomed.info/sct"
ICD10 = "http://hl7.org/fhir/sid/icd-10-cm"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"


def instant(moment: datetime) -> str:
    """FHIR instant in UTC.

    >>> from datetime import UTC
    >>> instant(datetime(2022, 3, 4, 5, 6, 7, tzinfo=UTC))
    '2022-03-04T05:06:07Z'
    """
    return f"{moment:%Y-%m-%dT%H:%M:%S}Z"


def patient_reference(subject: Subject) -> str:
    """The logical id is not the record number: linkage has to go by identifier."""
    return f"Patient/pat-{subject.person.patient_id.lower()}"


def observation_id(subject: Subject, position: int) -> str:
    """Id of the Observation of the measurement at ``position``."""
    return f"obs-{subject.person.patient_id.lower()}-{position:03d}"


def document_id(subject: Subject, position: int) -> str:
    """Id of the DocumentReference of the note at ``position``."""
    return f"doc-{subject.person.patient_id.lower()}-{position}"


def encounter_id(subject: Subject, key: str) -> str:
    """Id of the patient's Encounter ``key``: ``amb`` is an earlier visit, ``imp`` the stay."""
    return f"enc-{subject.person.patient_id.lower()}-{key}"


def links(subject: Subject, encounter: str = "imp") -> Resource:
    """``subject`` and ``encounter`` of a resource."""
    return {
        "subject": {"reference": patient_reference(subject)},
        "encounter": {"reference": f"Encounter/{encounter_id(subject, encounter)}"},
    }


def concept(system: str, code: str, display: str) -> Resource:
    """A CodeableConcept with one coding."""
    return {"coding": [{"system": system, "code": code, "display": display}], "text": display}


def quantity(value: float, unit: str) -> Resource:
    """A Quantity whose ``unit`` is a UCUM code."""
    number = int(value) if float(value).is_integer() else value
    return {"value": number, "unit": unit, "system": UCUM, "code": unit}
