import base64
import csv
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from clinimm.config import IngestConfig
from clinimm.core.errors import InputRejected
from clinimm.core.fact import Fact, FactRows, Row
from clinimm.modalities.ehr.reader import accepts, scan
from clinimm.modality import Scan
from clinimm.sources.local import LocalSource
from clinimm.sources.memory import MemorySource

Json = dict[str, Any]
_WHO = {"reference": "Patient/p1"}
_WHEN = "2020-05-01T08:00:00+00:00"


def read(content: Json | list[Any] | bytes, name: str = "a.json", **rules: Any) -> Scan:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    source = MemorySource({name: data}, rules=IngestConfig(**rules))
    return scan(source, next(source.files()))


def coded(code: str, system: str = "http://loinc.org", **more: Any) -> Json:
    return {"coding": [{"system": system, "code": code, **more}]}


def observation(**fields: Any) -> Json:
    base: Json = {
        "resourceType": "Observation", "id": "o1", "status": "final", "code": coded("8867-4"),
        "category": [coded("vital-signs", "http://terminology.hl7.org/CodeSystem/observation-category")],
        "subject": _WHO, "effectiveDateTime": _WHEN, "issued": _WHEN,
    }  # fmt: skip
    return base | fields


def quantity(value: Any, unit: str | None = None) -> Json:
    return {"value": value, **({"system": "http://unitsofmeasure.org", "code": unit} if unit else {})}


def only(scanned: Scan) -> Fact:
    (fact,) = scanned.facts
    return fact


def test_a_quantity() -> None:
    fact = only(
        read(observation(valueQuantity=quantity(71, "/min"), encounter={"reference": "Encounter/e9"}))
    )
    assert fact.patient == "Patient/p1"
    assert (fact.code, fact.numeric_value, fact.unit) == ("LOINC//8867-4", 71.0, "/min")
    assert (fact.modality, fact.category, fact.encounter) == ("ehr", "vital-signs", "Encounter/e9")
    assert fact.time == datetime(2020, 5, 1, 8, tzinfo=UTC)
    assert fact.instance == "Observation/o1"
    assert fact.flags == ()


@pytest.mark.parametrize(
    ("fields", "number", "text"),
    [
        ({"valueBoolean": True}, 1.0, None),
        ({"valueBoolean": False}, 0.0, None),
        ({"valueInteger": 3}, 3.0, None),
        ({"valueString": "left eye"}, None, "left eye"),
        ({"valueCodeableConcept": coded("1", display="Never smoker")}, None, "Never smoker"),
        ({"valueRatio": {"numerator": {"value": 1}, "denominator": {"value": 128}}}, None, "1:128"),
    ],
)
def test_every_kind_of_value(fields: Json, number: float | None, text: str | None) -> None:
    fact = only(read(observation(**fields)))
    assert (fact.numeric_value, fact.text_value) == (number, text)


def test_blood_pressure_is_its_components() -> None:
    parts = [
        {"code": coded("8480-6"), "valueQuantity": quantity(120, "mm[Hg]")},
        {"code": coded("8462-4"), "valueQuantity": quantity(80, "mm[Hg]")},
    ]
    facts = list(read(observation(code=coded("85354-9"), component=parts)).facts)
    assert [(fact.code, fact.numeric_value) for fact in facts] == [
        ("LOINC//8480-6", 120),
        ("LOINC//8462-4", 80),
    ]
    assert {fact.instance for fact in facts} == {"Observation/o1"}


def test_reference_range_goes_into_the_unit_of_the_value() -> None:
    low_high = [{"low": quantity(97.0, "[degF]"), "high": quantity(99.5, "[degF]")}]
    fact = only(
        read(
            observation(code=coded("8310-5"), valueQuantity=quantity(98.6, "[degF]"), referenceRange=low_high)
        )
    )
    assert fact.unit == "Cel"
    assert fact.numeric_value == pytest.approx(37.0)
    assert fact.attributes["reference_low"] == pytest.approx((97.0 - 32) / 1.8)
    assert fact.attributes["reference_high"] == pytest.approx(37.5)


def test_an_absurd_value_is_nulled_flagged_and_kept_beside() -> None:
    fact = only(read(observation(code=coded("29463-7"), valueQuantity=quantity(77000, "kg"))))
    assert fact.numeric_value is None
    assert fact.flags == ("absurd_value",)
    assert fact.attributes == {"original_value": 77000, "original_unit": "kg"}


@pytest.mark.parametrize("value", ["NaN", "12", None, True, [1]])
def test_what_is_no_number_is_dropped_and_counted(value: Any) -> None:
    scanned = read(observation(valueQuantity=quantity(value, "/min")))
    assert not scanned.facts
    assert scanned.dropped == {"value-not-a-number": 1}


def test_a_comparator_is_flagged() -> None:
    fact = only(read(observation(valueQuantity=quantity(5, "/min") | {"comparator": "<"})))
    assert (fact.numeric_value, fact.flags, fact.attributes) == (5, ("comparator",), {"comparator": "<"})


def test_it_is_available_when_issued_and_never_before_it_was_true() -> None:
    late = only(read(observation(valueInteger=1, issued="2020-05-03T00:00:00Z")))
    assert late.time == datetime(2020, 5, 3, tzinfo=UTC)
    future = only(read(observation(valueInteger=1, effectiveDateTime="2199-01-01T00:00:00Z")))
    assert future.time.year == 2199
    whole = observation(
        valueInteger=1, issued=None, effectivePeriod={"start": _WHEN, "end": "2020-05-02T08:00:00Z"}
    )
    del whole["effectiveDateTime"]
    assert only(read(whole)).time == datetime(2020, 5, 2, 8, tzinfo=UTC)


def test_a_fact_without_time_is_refused() -> None:
    scanned = read(observation(valueInteger=1, issued=None, effectiveDateTime=None))
    assert not scanned.facts
    assert [(refusal.item, refusal.code) for refusal in scanned.refusals] == [("Observation/o1", "no-time")]


@pytest.mark.parametrize(("status", "rows"), [("cancelled", [""]), ("registered", [])])
def test_what_did_not_happen_is_dropped_and_a_cancellation_ends_earlier_versions(
    status: str, rows: list[str]
) -> None:
    scanned = read(observation(valueInteger=1, status=status))
    assert [fact.code for fact in scanned.facts] == rows
    assert scanned.dropped == {f"status:{status}": 1}


_LATER = "2020-05-01T20:00:00Z"


@pytest.mark.parametrize("status", ["corrected", "amended", "appended"])
@pytest.mark.parametrize(
    ("fields", "hour", "flag"),
    [
        ({"issued": _LATER}, 20, "revised"),
        ({"meta": {"lastUpdated": _LATER}}, 20, "revised"),
        ({"meta": {"lastUpdated": _LATER}, "issued": "2020-05-01T09:00:00Z"}, 20, "revised"),
        ({"meta": {"lastUpdated": "2020-05-01T09:00:00Z"}, "issued": _LATER}, 20, "revised"),
        ({"issued": _WHEN}, 8, "undated_revision"),
        ({"issued": None}, 8, "undated_revision"),
    ],
)
def test_a_corrected_result_is_known_when_it_was_corrected(
    status: str, fields: Json, hour: int, flag: str
) -> None:
    fact = only(read(observation(valueInteger=1, status=status, **fields)))
    assert (fact.time.hour, fact.flags) == (hour, (flag,))
    final = only(read(observation(valueInteger=1, meta={"lastUpdated": _LATER})))
    assert (final.time.hour, final.flags) == (8, ())


def test_an_amended_report_and_an_amended_note_are_known_when_they_were_amended() -> None:
    report = {
        "resourceType": "DiagnosticReport", "id": "r", "status": "amended", "subject": _WHO,
        "code": coded("58410-2"), "effectiveDateTime": _WHEN, "meta": {"lastUpdated": _LATER},
    }  # fmt: skip
    note = {
        "resourceType": "DocumentReference", "id": "d", "status": "current", "docStatus": "amended",
        "subject": _WHO, "date": _WHEN, "meta": {"lastUpdated": _LATER},
        "content": [{"attachment": {"contentType": "text/plain", "data": "RmV2ZXIu"}}],
    }  # fmt: skip
    for resource in (report, note):
        fact = only(read(resource))
        assert (fact.time.hour, fact.flags) == (20, ("revised",))
    del note["meta"]
    assert only(read(note)).flags == ("undated_revision",)


_REFUTED = {
    "resourceType": "Condition", "id": "c", "code": coded("I10", "http://hl7.org/fhir/sid/icd-10-cm"),
    "subject": _WHO, "recordedDate": _WHEN, "meta": {"lastUpdated": _LATER},
    "verificationStatus": coded("refuted", "x"),
}  # fmt: skip
_CANCELLED = {
    "resourceType": "MedicationRequest", "id": "m", "status": "cancelled", "intent": "order",
    "subject": _WHO, "medicationCodeableConcept": coded("314076"), "authoredOn": _WHEN,
    "meta": {"lastUpdated": _LATER},
}  # fmt: skip
_ALLERGY = {
    "resourceType": "AllergyIntolerance", "id": "a", "patient": _WHO, "code": coded("7980"),
    "recordedDate": _WHEN, "verificationStatus": coded("refuted", "x"), "meta": {"lastUpdated": _LATER},
}  # fmt: skip
_WRONG = observation(valueInteger=1, status="entered-in-error", meta={"lastUpdated": _LATER})


@pytest.mark.parametrize(
    ("resource", "reason"),
    [
        (_REFUTED, "status:refuted"),
        (_CANCELLED, "status:cancelled"),
        (_ALLERGY, "status:refuted"),
        (_WRONG, "entered-in-error"),
    ],
)
def test_what_was_taken_back_is_known_until_then_where_that_time_can_be_relied_on(
    resource: Json, reason: str
) -> None:
    scanned = read(resource)
    assert [fact.code for fact in scanned.facts] == [""]
    assert scanned.dropped == {reason: 1}
    relied = read(resource, last_updated_is_change=True)
    assert relied.dropped == {}
    assert isinstance(relied.facts, FactRows)
    end, known = sorted((Row(*row) for row in relied.facts.rows), key=lambda row: row.code or "")
    assert (end.code, end.version_us) == (None, 1588363200_000000)
    assert (known.instance, known.time_us, known.version_us) == (end.instance, 1588320000_000000, 0)
    undated = {name: value for name, value in resource.items() if name != "meta"}
    assert read(undated, last_updated_is_change=True).dropped == {reason: 1}


def test_entered_in_error_is_dropped_and_takes_back_earlier_copies() -> None:
    scanned = read(observation(valueInteger=1, status="entered-in-error"))
    assert scanned.dropped == {"entered-in-error": 1}
    assert [(row.code, row.instance) for row in scanned.facts] == [("", "Observation/o1")]


def test_preliminary_stays_with_a_flag() -> None:
    assert only(read(observation(valueInteger=1, status="preliminary"))).flags == ("preliminary",)


@pytest.mark.parametrize(
    ("reference", "patient"),
    [
        ("Patient/7", "Patient/7"),
        ("Patient/7/_history/3", "Patient/7"),
        ("https://fhir.example/r4/Patient/7", "Patient/7"),
        ("urn:uuid:7", "Patient/7"),
        ("Patient?identifier=http://mrn.example|M7", ("http://mrn.example", "M7")),
    ],
)
def test_references_resolve(reference: str, patient: Any) -> None:
    assert only(read(observation(valueInteger=1, subject={"reference": reference}))).patient == patient


def test_a_logical_reference_is_an_identifier() -> None:
    subject = {"identifier": {"system": "http://mrn.example", "value": "M7"}}
    assert only(read(observation(valueInteger=1, subject=subject))).patient == ("http://mrn.example", "M7")


def test_a_subject_that_is_no_patient_is_counted_and_none_is_refused() -> None:
    assert read(observation(valueInteger=1, subject={"reference": "Device/1"})).dropped == {
        "subject-is-no-patient": 1
    }
    assert read(observation(valueInteger=1, subject=None)).refusals[0].code == "no-subject"


def bundle(*resources: Json, **fields: Any) -> Json:
    entries = [{"fullUrl": f"urn:uuid:{number}", "resource": item} for number, item in enumerate(resources)]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries} | fields


@pytest.mark.parametrize("kind", ["transaction", "collection", "searchset", "batch", "document"])
def test_a_bundle_resolves_its_own_names(kind: str) -> None:
    patient = {"resourceType": "Patient", "id": "p1", "identifier": [{"value": "M1"}]}
    inner = observation(valueInteger=1, subject={"reference": "urn:uuid:0"})
    scanned = read(bundle(patient, inner, type=kind))
    assert only(scanned).patient == scanned.identities[0].reference == "Patient/p1"


def test_a_resource_without_id_takes_its_name_from_the_full_url() -> None:
    scanned = read(
        bundle({"resourceType": "Patient"}, observation(valueInteger=1, subject={"reference": "urn:uuid:0"}))
    )
    assert only(scanned).patient == scanned.identities[0].reference == "Patient/0"


def test_conditions_are_known_when_recorded() -> None:
    condition = {
        "resourceType": "Condition", "id": "c", "code": coded("I10", "http://hl7.org/fhir/sid/icd-10-cm"),
        "subject": _WHO, "onsetDateTime": "1999-01-01", "recordedDate": _WHEN,
    }  # fmt: skip
    fact = only(read(condition))
    assert (fact.code, fact.category, fact.time.year) == ("ICD10CM//I10", "condition", 2020)
    del condition["recordedDate"]
    assert read(condition).refusals[0].code == "no-time"
    refuted = condition | {"recordedDate": _WHEN, "verificationStatus": coded("refuted", "x")}
    assert read(refuted).dropped == {"status:refuted": 1}
    wrong = condition | {"recordedDate": _WHEN, "verificationStatus": coded("entered-in-error", "x")}
    assert read(wrong).dropped == {"entered-in-error": 1}


def test_an_encounter_is_two_facts() -> None:
    stay = {
        "resourceType": "Encounter", "id": "e9", "status": "finished", "class": {"code": "IMP"},
        "subject": _WHO, "period": {"start": _WHEN, "end": "2020-05-09T08:00:00Z"},
        "serviceProvider": {"display": "North"},
    }  # fmt: skip
    start, end = read(stay).facts
    assert (start.code, start.text_value, start.time.day) == ("FHIR//Encounter", "IMP", 1)
    assert (end.code, end.time.day) == ("FHIR//EncounterEnd", 9)
    assert start.encounter == end.encounter == "Encounter/e9"
    assert start.attributes == {"site": "North"}


def test_other_resources() -> None:
    rxnorm = "http://www.nlm.nih.gov/research/umls/rxnorm"
    resources: list[Json] = [
        {"resourceType": "MedicationRequest", "status": "active", "intent": "order", "subject": _WHO,
         "medicationCodeableConcept": coded("314076", rxnorm), "authoredOn": _WHEN},
        {"resourceType": "Medication", "id": "m1", "code": coded("197361", rxnorm)},
        {"resourceType": "MedicationRequest", "status": "active", "intent": "order", "subject": _WHO,
         "medicationReference": {"reference": "Medication/m1"}, "authoredOn": _WHEN},
        {"resourceType": "Procedure", "status": "completed", "subject": _WHO, "performedDateTime": _WHEN,
         "code": coded("80146002", "http://snomed.info/sct")},
        {"resourceType": "AllergyIntolerance", "patient": _WHO, "recordedDate": _WHEN,
         "code": coded("7980", rxnorm)},
        {"resourceType": "Immunization", "status": "completed", "patient": _WHO, "occurrenceDateTime": _WHEN,
         "vaccineCode": coded("140", "http://hl7.org/fhir/sid/cvx")},
        {"resourceType": "DiagnosticReport", "status": "final", "subject": _WHO, "issued": _WHEN,
         "code": coded("58410-2"), "conclusion": "No anaemia."},
        {"resourceType": "ImagingStudy", "status": "available", "subject": _WHO, "started": _WHEN,
         "series": [{"uid": "1.2", "modality": {"code": "CR"}}]},
        {"resourceType": "Claim", "patient": _WHO},
    ]  # fmt: skip
    scanned = read(bundle(*resources))
    assert [(fact.code, fact.text_value) for fact in scanned.facts] == [
        ("RXNORM//314076", None),
        ("RXNORM//197361", None),
        ("SNOMED//80146002", None),
        ("RXNORM//7980", None),
        ("CVX//140", None),
        ("LOINC//58410-2", "No anaemia."),
        ("FHIR//ImagingStudy", "CR"),
    ]
    assert scanned.dropped == {"not-read:Claim": 1}


def test_a_resource_of_the_wrong_shape_is_refused_alone() -> None:
    scanned = read(
        bundle(
            observation(code="8867-4", valueInteger=1, id="bad", meta=3, category=7),
            observation(valueInteger=2),
        )
    )
    assert [fact.numeric_value for fact in scanned.facts][-1] == 2
    scanned = read(
        bundle({"resourceType": "Patient", "id": "x", "name": [{"given": 7}]}, observation(valueInteger=2))
    )
    assert [refusal.code for refusal in scanned.refusals] == ["malformed-resource"]
    assert only(scanned).numeric_value == 2


def test_ndjson_refuses_a_bad_line_and_reads_the_rest() -> None:
    lines = [observation(valueInteger=1), observation(valueInteger=2, id="o2")]
    text = b"\xef\xbb\xbf" + b"\n".join(
        [json.dumps(lines[0]).encode(), b"{oops", b"", b"[1]", json.dumps(lines[1]).encode()]
    )
    scanned = read(text, "a.ndjson")
    assert [fact.numeric_value for fact in scanned.facts] == [1, 2]
    assert [(refusal.item, refusal.code) for refusal in scanned.refusals] == [
        ("line 2", "not-json"),
        ("line 4", "not-fhir"),
    ]


def test_ndjson_under_another_name_is_recognised() -> None:
    lines = b"\n".join(json.dumps(observation(valueInteger=k, id=str(k))).encode() for k in range(3))
    assert len(read(lines, "export.json").facts) == 3


def test_a_file_of_foreign_lines_is_one_refusal() -> None:
    with pytest.raises(InputRejected, match="no line holds a FHIR resource"):
        read(b'{"a": 1}\n{"a": 2}\n', "log.ndjson")


def test_many_refusals_of_a_kind_end_in_a_count() -> None:
    good = json.dumps(observation(valueInteger=1)).encode()
    refusals = read(good + b"\n{oops" * 250, "a.ndjson").refusals
    assert len(refusals) == 100
    assert refusals[-1].item == "line 251 and 150 before it"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty-file"),
        (b" \n", "empty-file"),
        (b"[1, 2]", "not-fhir"),
        (b'{"a": 1}', "not-fhir"),
        (b'{"resourceType": 7}', "not-fhir"),
        (b'{"resourceType": "Bundle", "entry": []}', "empty-bundle"),
        (b'{"resourceType": "Bundle"', "not-json"),
        (b"\xff\xfe{", "not-json"),
        (b'{"resourceType": ' * 40 + b"1" + b"}" * 40, "nested-too-deep"),
        (b"[" * 100000, "nested-too-deep"),
    ],
)
def test_whole_files_are_refused_by_name(content: bytes, code: str) -> None:
    with pytest.raises(InputRejected) as refusal:
        read(content)
    assert refusal.value.code == code


def test_accepts() -> None:
    assert accepts("a/b.JSON", b"")
    assert accepts("a.ndjson", b"")
    assert accepts("bundle", b'\n{"resourceType": "Bundle"')
    assert not accepts("a.dcm", b"\0" * 128 + b"DICM")


def test_validation_of_all_refuses_and_of_a_sample_counts() -> None:
    wrong = observation(valueInteger="one")
    refusal = read(wrong, validate_fhir="all").refusals[0]
    assert (refusal.code, refusal.reason.split(":")[0]) == ("invalid-fhir", "valueInteger")
    line = json.dumps(wrong).encode()
    sampled = read(line, "a.ndjson", validate_fhir="sample").dropped
    assert (sampled["(validated)"], sampled["(invalid in sample)"]) == (1, 1)
    assert "(validated)" not in read(line, "a.ndjson", validate_fhir="none").dropped


def test_a_note_in_a_document_reference_belongs_to_notes() -> None:
    text = "Fever since Monday."
    content = [
        {"attachment": {"contentType": "text/plain", "data": base64.b64encode(text.encode()).decode()}}
    ]
    note = {
        "resourceType": "DocumentReference", "id": "d", "status": "current", "type": coded("11506-3"),
        "subject": _WHO, "date": _WHEN, "content": content,
    }  # fmt: skip
    fact = only(read(note))
    assert (fact.modality, fact.code, fact.text_value) == ("notes", "LOINC//11506-3", text)


def test_the_malformed_samples_end_as_expected(test_data: Path) -> None:
    folder = test_data / "samples" / "fhir" / "malformed"
    expected = {row["file"]: row["expected"] for row in csv.DictReader((folder / "expected.csv").open())}
    source = LocalSource(folder)
    scans: dict[str, Scan] = {}
    refused: dict[str, str] = {}
    for file in source.files():
        if file.path.endswith(".json"):
            try:
                scans[file.path] = scan(source, file)
            except InputRejected as refusal:
                refused[file.path] = refusal.code
    assert refused == {
        "empty.json": "empty-file", "not_json.json": "not-json", "array_top.json": "not-fhir",
        "bundle_no_entry.json": "empty-bundle",
    }  # fmt: skip
    assert set(expected) == set(refused) | set(scans)
    assert scans["birthdate_bad.json"].identities[0].birth_date is None
    assert scans["birthdate_year_only.json"].identities[0].birth_date == "1984"
    assert scans["gender_bad.json"].identities[0].sex == "unknown"
    assert scans["no_extensions.json"].identities[0].race is None
    assert scans["no_patient.json"].identities == ()
    assert scans["value_nan_string.json"].dropped["value-not-a-number"] == 35
    assert scans["status_entered_in_error.json"].dropped["entered-in-error"] == 48
    assert Counter(flag for fact in scans["no_units.json"].facts for flag in fact.flags) == {"no_unit": 42}
    future = json.loads((folder / "future_dates.json").read_bytes())["entry"]
    late = [r for r in (e["resource"] for e in future) if r.get("effectiveDateTime", "").startswith("2199")]
    assert sum(fact.time.year == 2199 for fact in scans["future_dates.json"].facts) == sum(
        len(r.get("component", [r])) for r in late
    )
    weights = {
        name: [fact for fact in scans[name].facts if fact.code == "LOINC//29463-7"]
        for name in ("weight_in_pounds.json", "gender_bad.json")
    }
    for pounds, kilograms in zip(*weights.values(), strict=True):
        assert pounds.unit == kilograms.unit == "kg"
        assert pounds.numeric_value == pytest.approx(kilograms.numeric_value, rel=1e-3)
