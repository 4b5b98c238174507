"""Who and where, as FHIR: the Patient with US Core race and ethnicity, and the sites."""

from __future__ import annotations

from clinimm.simulate.fhir import TERMINOLOGY, Resource, concept, patient_reference
from clinimm.simulate.identity import ISSUER, SITES
from clinimm.simulate.subject import Subject

_US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition"


def organizations() -> list[Resource]:
    """The sites."""
    return [
        {"resourceType": "Organization", "id": f"org-{site.key}", "active": True, "name": site.name}
        for site in SITES
    ]


def patient(subject: Subject) -> Resource:
    """The Patient, identified by record number (MR) and insurance number (MB)."""
    person = subject.person
    mrn = {
        "use": "usual",
        "type": concept(f"{TERMINOLOGY}/v2-0203", "MR", "Medical record number"),
        "system": ISSUER,
        "value": person.patient_id,
    }
    insurance = {
        "use": "secondary",
        "type": concept(f"{TERMINOLOGY}/v2-0203", "MB", "Member Number"),
        "system": "https://clinimm.example/insurance",
        "value": person.insurance_number,
    }
    return {
        "resourceType": "Patient",
        "id": patient_reference(subject).removeprefix("Patient/"),
        "extension": [
            _us_core_category("race", person.race),
            _us_core_category("ethnicity", person.ethnicity),
        ],
        "identifier": [mrn, insurance],
        "active": True,
        "name": [{"use": "official", "family": person.family, "given": [person.given]}],
        "gender": person.gender,
        "birthDate": person.birth_date.isoformat(),
    }


def _us_core_category(kind: str, coded: tuple[str, str]) -> Resource:
    code, display = coded
    coding = {"system": "urn:oid:2.16.840.1.113883.6.238", "code": code, "display": display}
    return {
        "url": f"{_US_CORE}/us-core-{kind}",
        "extension": [
            {"url": "ombCategory", "valueCoding": coding},
            {"url": "text", "valueString": display},
        ],
    }
