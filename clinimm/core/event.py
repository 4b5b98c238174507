"""The event: one fact about one subject, at the time at which it became available.

Follows the MEDS data schema (``subject_id, time, code, numeric_value, text_value``) with the
extra columns that MEDS allows. Two departures: ``subject_id`` is a string (a keyed hash), and
``time`` is never null (law 1: a fact without a time cannot be placed before an index time).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

#: Column name -> Arrow type name, in the order in which ``events.parquet`` holds them.
EVENT_COLUMNS: dict[str, str] = {
    "subject_id": "string",
    "time": "timestamp[us, tz=UTC]",
    "code": "string",
    "numeric_value": "float64",
    "unit": "string",
    "text_value": "string",
    "modality": "string",
    "category": "string",
    "encounter_id": "string",
    "uri": "string",
    "digest": "string",
    "flags": "string",
    "attributes": "string",
    "until": "timestamp[us, tz=UTC]",
}

#: ``code`` of the facts that ingest derives from the Patient resource or the DICOM header.
SEX = "DEMOGRAPHIC//sex"
AGE_YEARS = "DEMOGRAPHIC//age_years"
RACE = "DEMOGRAPHIC//race"
ETHNICITY = "DEMOGRAPHIC//ethnicity"


@dataclass(frozen=True)
class Event:
    """One fact.

    Attributes:
        subject_id: keyed pseudonym of the patient (26 characters, base 32).
        time: when the fact became *available* in the record, UTC, aware.
        code: ``SYSTEM//code``, such as ``LOINC//2160-0``.
        numeric_value: the value in ``unit``, or None.
        unit: UCUM unit after normalisation, or None.
        text_value: a coded or free text value; for a note, its whole text.
        modality: ``ehr``, ``notes``, ``radiology``, ``pathology`` or an outside modality's name.
        category: FHIR category code (``laboratory``, ``vital-signs``, ``outcome``, ...), the
            resource type in lower case where there is none, or the DICOM Modality.
        encounter_id: keyed hash of the encounter, or None.
        uri: sealed locator of the bytes (see ``ingest/pseudonym.py``), or None.
        digest: SHA-256 of the file's bytes, or None.
        flags: comma-separated warnings such as ``future,absurd_value``, or None.
        attributes: a JSON object of further facts (``site``, ``view``, ``device``, reference
            range), or None.
        until: when the record took the fact back or put another version in its place, UTC; None
            while it stands.
    """

    subject_id: str
    time: datetime
    code: str
    numeric_value: float | None = None
    unit: str | None = None
    text_value: str | None = None
    modality: str = "ehr"
    category: str | None = None
    encounter_id: str | None = None
    uri: str | None = None
    digest: str | None = None
    flags: str | None = None
    attributes: str | None = None
    until: datetime | None = None
