import base64
import re
from datetime import datetime

import pytest

from clinimm.simulate.identity import ISSUER

_KINDS = (
    "Organization",
    "Patient",
    "Encounter",
    "Condition",
    "MedicationRequest",
    "Observation",
    "ImagingStudy",
    "DocumentReference",
)


@pytest.mark.parametrize("kind", _KINDS)
def test_r4b_accepts_every_resource(hospital, kind):
    from fhir.resources.R4B import get_fhir_model_class

    model = get_fhir_model_class(kind)
    resources = hospital.resources(kind)
    assert resources
    for resource in resources:
        model.model_validate(resource)


def _times(node):
    if isinstance(node, dict):
        for child in node.values():
            yield from _times(child)
    elif isinstance(node, list):
        for child in node:
            yield from _times(child)
    elif isinstance(node, str) and re.match(r"\d{4}-\d\d-\d\dT", node):
        yield node


def test_every_time_is_utc(hospital):
    found = [time for kind in _KINDS for resource in hospital.resources(kind) for time in _times(resource)]
    assert len(found) > 500
    assert all(time.endswith("Z") and datetime.fromisoformat(time) for time in found)


def test_patients_link_by_identifier_and_have_race_and_ethnicity(hospital):
    patients = hospital.resources("Patient")
    values = {p["identifier"][0]["value"]: p for p in patients}
    assert set(values) == set(hospital.patients)
    for patient_id, patient in values.items():
        assert patient["identifier"][0]["system"] == ISSUER
        assert patient["identifier"][0]["type"]["coding"][0]["code"] == "MR"
        assert patient["id"] != patient_id
        race, ethnicity = patient["extension"]
        assert race["url"] == "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race"
        assert race["extension"][0]["valueCoding"]["display"] == hospital.patients[patient_id]["race"]
        assert ethnicity["extension"][1]["valueString"] == hospital.patients[patient_id]["ethnicity"]


def test_decisive_labs_stand_in_the_record_with_value_and_times(hospital):
    observations = {o["id"]: o for o in hospital.resources("Observation")}
    labs = [lab for patient in hospital.patients.values() for lab in patient["labs"]]
    assert len(labs) >= 16
    for lab in labs:
        resource = observations[lab["observation"]]
        assert f"LOINC//{resource['code']['coding'][0]['code']}" == lab["code"]
        assert resource["valueQuantity"]["value"] == lab["value"]
        assert resource["valueQuantity"]["code"] == lab["unit"]
        assert (resource["effectiveDateTime"], resource["issued"]) == (lab["effective"], lab["issued"])
        assert resource["referenceRange"][0]["high"]["code"] == lab["unit"]


def test_planted_sentences_stand_at_their_characters(hospital):
    documents = {d["id"]: d for d in hospital.resources("DocumentReference")}
    checked = {"document": 0, "file": 0}
    for patient_id, patient in hospital.patients.items():
        for note in patient["notes"]:
            if note["document"] is None:
                path = hospital.folder / note["file"]
                stamp = note["time"].replace("-", "").replace(":", "")
                assert path.name == f"{patient_id}__{stamp}.txt"
                text = path.read_text(encoding="utf-8")
            else:
                resource = documents[note["document"]]
                assert resource["date"] == note["time"]
                text = base64.b64decode(resource["content"][0]["attachment"]["data"]).decode("utf-8")
            for span in note["spans"]:
                assert text[span["start"] : span["stop"]] == span["text"]
            checked["file" if note["document"] is None else "document"] += 1
    assert min(checked.values()) > 0


def test_the_outcome_is_issued_after_the_index_film(hospital):
    outcomes = {o["id"]: o for o in hospital.resources("Observation") if o["id"].endswith("deterioration")}
    followed = {key: p for key, p in hospital.patients.items() if p["label"] is not None}
    assert len(outcomes) == len(followed)
    for patient_id, patient in followed.items():
        resource = outcomes[f"out-{patient_id.lower()}-deterioration"]
        assert resource["valueBoolean"] is patient["label"]
        assert resource["issued"] == patient["label_issued"]
        assert resource["category"][0]["coding"][0]["code"] == "outcome"
        if patient["index_time"]:
            waited = datetime.fromisoformat(resource["issued"]) - datetime.fromisoformat(
                patient["index_time"]
            )
            assert 2 <= waited.total_seconds() / 86400 <= 14


def test_imaging_studies_name_the_films(hospital):
    uids = {s["series"][0]["instance"][0]["uid"]: s["started"] for s in hospital.resources("ImagingStudy")}
    films = {f["sop_instance_uid"]: f["time"] for p in hospital.patients.values() for f in p["films"]}
    assert uids == films
