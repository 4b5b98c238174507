"""Codes in words, for the commonest ones; the record's own display text goes first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clinimm.report.values import clipped

#: Code -> name. LOINC names are the short consumer names of loinc.org.
_NAMES = {
    "DEMOGRAPHIC//sex": "Sex",
    "DEMOGRAPHIC//age_years": "Age (years)",
    "DEMOGRAPHIC//race": "Race",
    "DEMOGRAPHIC//ethnicity": "Ethnicity",
    "LOINC//8310-5": "Body temperature",
    "LOINC//8867-4": "Heart rate",
    "LOINC//9279-1": "Respiratory rate",
    "LOINC//59408-5": "Oxygen saturation (pulse oximetry)",
    "LOINC//2708-6": "Oxygen saturation",
    "LOINC//8480-6": "Systolic blood pressure",
    "LOINC//8462-4": "Diastolic blood pressure",
    "LOINC//29463-7": "Body weight",
    "LOINC//8302-2": "Body height",
    "LOINC//39156-5": "Body mass index",
    "LOINC//2160-0": "Creatinine",
    "LOINC//3094-0": "Urea nitrogen",
    "LOINC//2951-2": "Sodium",
    "LOINC//2823-3": "Potassium",
    "LOINC//2345-7": "Glucose",
    "LOINC//718-7": "Haemoglobin",
    "LOINC//6690-2": "Leukocytes",
    "LOINC//26499-4": "Neutrophils",
    "LOINC//26474-7": "Lymphocytes",
    "LOINC//731-0": "Lymphocytes",
    "LOINC//777-3": "Platelets",
    "LOINC//1988-5": "C-reactive protein",
    "LOINC//2524-7": "Lactate",
    "LOINC//32693-4": "Lactate",
    "LOINC//33959-8": "Procalcitonin",
    "LOINC//14804-9": "Lactate dehydrogenase",
    "LOINC//2532-0": "Lactate dehydrogenase",
    "LOINC//48065-7": "D-dimer",
    "LOINC//6598-7": "Troponin T",
    "LOINC//2276-4": "Ferritin",
    "LOINC//1920-8": "AST",
    "LOINC//1742-6": "ALT",
    "LOINC//1975-2": "Bilirubin, total",
    "LOINC//1751-7": "Albumin",
    "LOINC//11506-3": "Progress note",
    "LOINC//18748-4": "Diagnostic imaging report",
    "LOINC//34117-2": "History and physical note",
    "FHIR//ImagingStudy": "Imaging study",
    "DICOM//CR": "Computed radiograph",
    "DICOM//DX": "Digital radiograph",
    "SLIDE//HE": "H&E slide",
}


def spoken(code: str, attributes: Mapping[str, Any]) -> str:
    """What a person calls a code.

    >>> spoken("LOINC//2160-0", {})
    'Creatinine (LOINC 2160-0)'
    >>> spoken("SNOMED//386661006", {"display": "Fever"})
    'Fever (SNOMED 386661006)'
    >>> spoken("local//x7", {})
    'local x7'
    """
    own = attributes.get("display")
    name = own if isinstance(own, str) and own.strip() else _NAMES.get(code)
    system, _, value = code.partition("//")
    if name is None:
        return clipped(f"{system} {value}".strip())
    known = system in {"DEMOGRAPHIC", "FHIR", "DICOM", "SLIDE"}
    return clipped(name) if known else f"{clipped(name)} ({clipped(f'{system} {value}')})"
