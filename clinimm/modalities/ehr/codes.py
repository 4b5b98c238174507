"""Names of code systems, and how a FHIR CodeableConcept becomes one code."""

from __future__ import annotations

from typing import Any

#: URI of a code system -> the short name that stands before ``//`` (MEDS convention).
SYSTEMS: dict[str, str] = {
    "http://loinc.org": "LOINC",
    "http://snomed.info/sct": "SNOMED",
    "http://hl7.org/fhir/sid/icd-10-cm": "ICD10CM",
    "http://hl7.org/fhir/sid/icd-10": "ICD10",
    "http://hl7.org/fhir/sid/icd-9-cm": "ICD9CM",
    "http://www.cms.gov/Medicare/Coding/ICD10": "ICD10PCS",
    "http://www.nlm.nih.gov/research/umls/rxnorm": "RXNORM",
    "http://hl7.org/fhir/sid/ndc": "NDC",
    "http://hl7.org/fhir/sid/cvx": "CVX",
    "http://www.whocc.no/atc": "ATC",
    "http://www.ama-assn.org/go/cpt": "CPT",
    "http://dicom.nema.org/resources/ontology/DCM": "DCM",
    "http://terminology.hl7.org/CodeSystem/v3-ActCode": "ActCode",
}

#: Where a concept has several codings, the first of these systems names the event.
_PREFERRED = ("LOINC", "SNOMED", "RXNORM", "ICD10CM")


def system_name(uri: str | None) -> str:
    """The short name of a code system; the last segment of an unknown URI.

    >>> system_name("https://clinimm.example/outcome")
    'outcome'
    """
    if not uri:
        return "LOCAL"
    known = SYSTEMS.get(uri)
    if known is not None:
        return known
    return uri.rstrip("/").replace(":", "/").replace("#", "/").rpartition("/")[2] or "LOCAL"


def code_of(concept: Any) -> str | None:
    """``SYSTEM//code`` of a CodeableConcept; ``TEXT//words`` where it has only text.

    Of several codings, LOINC, SNOMED, RxNorm or ICD-10-CM wins over local ones, else the first.
    """
    if not isinstance(concept, dict):
        return None
    found = [
        f"{system_name(coding.get('system'))}//{coding['code']}"
        for coding in concept.get("coding") or ()
        if isinstance(coding, dict) and coding.get("code")
    ]
    if not found:
        text = concept.get("text")
        return f"TEXT//{text.strip()}" if isinstance(text, str) and text.strip() else None
    if len(found) > 1:
        for name in _PREFERRED:
            for code in found:
                if code.startswith(name + "//"):
                    return code
    return found[0]


def words_of(concept: Any) -> str | None:
    """What a CodeableConcept says in words: a coding's display, else its text, else a code."""
    if not isinstance(concept, dict):
        return None
    codings = [coding for coding in concept.get("coding") or () if isinstance(coding, dict)]
    for coding in codings:
        if coding.get("display"):
            return str(coding["display"])
    if concept.get("text"):
        return str(concept["text"])
    return next((str(coding["code"]) for coding in codings if coding.get("code")), None)


def first_code(concepts: Any) -> str | None:
    """The bare code of the first coding in a list of CodeableConcepts."""
    for concept in concepts if isinstance(concepts, list) else [concepts]:
        if isinstance(concept, dict):
            for coding in concept.get("coding") or ():
                if isinstance(coding, dict) and coding.get("code"):
                    return str(coding["code"])
    return None
