import json

from clinimm.simulate.bundle import bundle_bytes, ndjson_lines
from clinimm.simulate.identity import Ids

_PATIENT = {"resourceType": "Patient", "id": "p"}
_VISIT = {"resourceType": "Encounter", "id": "e", "subject": {"reference": "Patient/p"}}
_SITE = {"resourceType": "Encounter", "id": "f", "serviceProvider": {"reference": "Organization/o"}}


def test_a_transaction_points_at_full_urls_and_leaves_other_references():
    bundle = json.loads(bundle_bytes([_PATIENT, _VISIT, _SITE], Ids("x"), transaction=True))
    patient, visit, site = bundle["entry"]
    assert patient["fullUrl"].startswith("urn:uuid:")
    assert visit["resource"]["subject"]["reference"] == patient["fullUrl"]
    assert visit["request"] == {"method": "POST", "url": "Encounter"}
    assert site["resource"]["serviceProvider"]["reference"] == "Organization/o"
    assert _VISIT["subject"]["reference"] == "Patient/p"


def test_a_full_url_comes_once():
    bundle = json.loads(bundle_bytes([_PATIENT, _VISIT, _VISIT], Ids("x"), transaction=False))
    urls = [entry["fullUrl"] for entry in bundle["entry"]]
    assert len(urls) == len(set(urls)) == 2


def test_lines_keep_repetitions_and_end_with_a_newline():
    lines = ndjson_lines([_PATIENT, _VISIT, _VISIT])
    assert lines["Encounter"].count(b"\n") == 2
    assert json.loads(lines["Patient"]) == _PATIENT


def test_r4b_accepts_the_hospitals_bundles(hospital):
    from fhir.resources.R4B.bundle import Bundle

    bundles = hospital.bundles()
    assert {bundle["type"] for bundle in bundles} == {"transaction", "collection"}
    for bundle in bundles:
        Bundle.model_validate(bundle)


def test_a_patient_comes_in_a_bundle_or_in_the_bulk_export_and_not_in_both(hospital):
    bulk = {p["identifier"][0]["value"] for p in hospital.lines("Patient")}
    bundled = {key for key, patient in hospital.patients.items() if patient["in_bundle"]}
    assert bundled
    assert bulk | bundled == set(hospital.patients)
    assert not bulk & bundled
