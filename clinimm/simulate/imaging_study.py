"""The films as FHIR ImagingStudy resources, with the same UIDs as the DICOM objects."""

from __future__ import annotations

from datetime import datetime

from clinimm.simulate.fhir import SNOMED, Resource, instant, links
from clinimm.simulate.film_file import CR_CLASS, DX_CLASS, film_uids
from clinimm.simulate.subject import Subject


def imaging_studies(subject: Subject) -> list[Resource]:
    """One ImagingStudy a film, available when the film was taken."""
    films = [(1, subject.index)] if subject.has_film else []
    if subject.has_film and subject.second_film is not None:
        films.append((2, subject.second_film))
    return [_imaging_study(subject, number, taken) for number, taken in films]


def _imaging_study(subject: Subject, number: int, taken: datetime) -> Resource:
    uids, digital = film_uids(subject, number), subject.site.digital
    sop_class = DX_CLASS if digital else CR_CLASS
    instance = {
        "uid": uids["instance"],
        "sopClass": {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{sop_class}"},
        "number": 1,
    }
    series = {
        "uid": uids["series"],
        "number": 1,
        "modality": {
            "system": "http://dicom.nema.org/resources/ontology/DCM",
            "code": "DX" if digital else "CR",
        },
        "numberOfInstances": 1,
        "bodySite": {"system": SNOMED, "code": "51185008", "display": "Thoracic structure"},
        "started": instant(taken),
        "instance": [instance],
    }
    return {
        "resourceType": "ImagingStudy",
        "id": f"img-{subject.person.patient_id.lower()}-{number}",
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{uids['study']}"}],
        "status": "available",
        **links(subject),
        "started": instant(taken),
        "numberOfSeries": 1,
        "numberOfInstances": 1,
        "series": [series],
    }
