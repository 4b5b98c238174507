from typing import Any

import pytest

from clinimm.modalities.ehr.collect import Collector
from clinimm.modalities.ehr.fhir_time import Clock
from clinimm.modalities.ehr.patient import LOGICAL_ID, patient
from clinimm.modality import Identity

_US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-"


def collected(**fields: Any) -> Collector:
    collector = Collector("a.json", Clock("UTC"))
    patient(collector, {"resourceType": "Patient", "id": "p1"} | fields)
    return collector


def identity(**fields: Any) -> Identity:
    (found,) = collected(**fields).identities
    return found


def test_the_medical_record_number_comes_first_and_the_own_id_last() -> None:
    identifiers = [
        {"system": "http://ssn.example", "value": "999", "type": {"coding": [{"code": "SS"}]}},
        {"system": "http://plain.example", "value": "P"},
        {"system": "http://mrn.example", "value": " M1 ", "type": {"coding": [{"code": "MR"}]}},
        {"system": "http://mrn.example", "value": "OLD", "use": "old"},
        {"system": "http://mrn.example"},
    ]
    assert identity(identifier=identifiers).keys == (
        ("http://mrn.example", "M1"),
        ("http://plain.example", "P"),
        ("http://ssn.example", "999"),
        (LOGICAL_ID, "p1"),
    )


@pytest.mark.parametrize(
    ("birth_date", "kept"),
    [
        ("1984-07-02", "1984-07-02"), ("1984-07", "1984-07"), ("1984", "1984"), ("1984-13-45", None),
        ("1984-02-30", None), ("02.07.1984", None), ("", None), (1984, None), (None, None),
    ],
)  # fmt: skip
def test_birth_dates(birth_date: Any, kept: str | None) -> None:
    assert identity(birthDate=birth_date).birth_date == kept


@pytest.mark.parametrize(
    ("gender", "sex"), [("female", "female"), ("helicopter", "unknown"), ("M", "unknown"), (None, None)]
)
def test_genders(gender: Any, sex: str | None) -> None:
    assert identity(gender=gender).sex == sex


def test_us_core_race_and_ethnicity() -> None:
    def extension(what: str, *parts: dict[str, Any]) -> dict[str, Any]:
        return {"url": _US_CORE + what, "extension": list(parts)}

    white = {"url": "ombCategory", "valueCoding": {"code": "2106-3", "display": "White"}}
    asian = {"url": "ombCategory", "valueCoding": {"code": "2028-9", "display": "Asian"}}
    found = identity(
        extension=[
            extension("race", white, asian, {"url": "text", "valueString": "Mixed"}),
            extension("ethnicity", {"url": "text", "valueString": "Hispanic"}),
        ]
    )
    assert (found.race, found.race_source) == ("Asian; White", "us-core ombCategory")
    assert found.ethnicity == "Hispanic"


def test_names_hold_what_could_name_the_patient_in_a_note() -> None:
    found = identity(
        name=[{"family": "Brannick", "given": ["Elva", "M"], "text": "Elva M Brannick"}],
        telecom=[{"value": "555-0100"}],
        address=[{"line": ["12 Mill Lane"], "city": "Northfield", "postalCode": "01234"}],
        contact=[{"name": {"family": "Corwyn"}}],
    )
    assert {"Brannick", "Elva", "555-0100", "12 Mill Lane", "01234", "Corwyn"} <= set(found.names)


def test_a_dated_death_is_a_fact_and_an_undated_one_is_counted() -> None:
    (fact,) = collected(deceasedDateTime="2020-01-01T00:00:00Z").rows
    assert "FHIR//PatientDeceased" in fact
    assert collected(deceasedBoolean=True).dropped == {"death-without-date": 1}
    assert collected(deceasedBoolean=False).dropped == {}


def test_merged_records_share_their_keys() -> None:
    kept, merged = collected(link=[{"type": "replaces", "other": {"reference": "Patient/p0"}}]).identities
    assert merged.reference == "Patient/p0"
    assert merged.keys == kept.keys
