"""The licensed exports and broken samples go through, and nobody's identity comes out."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from pydicom import Dataset, dcmread

from clinimm.config import IngestConfig
from clinimm.core.pseudonym import Pseudonymiser
from clinimm.ingest.stage import ingest
from clinimm.modalities import all_modalities
from clinimm.progress import QUIET
from clinimm.sources.local import LocalSource
from clinimm.sources.memory import MemorySource
from tests.nobody import assert_nobody_is_named

_PSEUDONYMS = Pseudonymiser(b"0123456789abcdef")


def _records(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def _header(path: Path) -> Dataset:
    header = dcmread(path, specific_tags=["PatientBirthDate"], stop_before_pixels=True)
    header.setdefault("PatientBirthDate", "")
    return header


def test_a_hospital_export_links_and_counts(test_data: Path, tmp_path: Path) -> None:
    root = test_data / "covid_cxr"
    notes = ingest(
        [LocalSource(root)], all_modalities(), IngestConfig(workers=1), _PSEUDONYMS, tmp_path, QUIET
    )
    events = pd.read_parquet(tmp_path / "events.parquet")
    refusals = pd.read_parquet(tmp_path / "refusals.parquet")
    counts = events["code"].value_counts()
    assert notes["subjects"] == len(_records(root / "fhir" / "Patient.ndjson"))
    assert counts["FHIR//ImagingStudy"] == len(_records(root / "fhir" / "ImagingStudy.ndjson"))
    assert counts["FHIR//Encounter"] == len(_records(root / "fhir" / "Encounter.ndjson"))
    assert counts["LOINC//11506-3"] == len(_records(root / "fhir" / "DocumentReference.ndjson"))
    films = len(list(root.glob("dicom/*/*.dcm")))
    # One film states another birth date than the Patient resource with its identifier.
    assert dict(Counter(refusals["code"])) == {"identity-conflict": 1, "not-fhir": 1, "unknown-format": 1}
    assert counts["DICOM//CR"] == films - 1
    severe = events[events["code"] == "outcome//severe"]
    stated = [
        record
        for record in _records(root / "fhir" / "Observation.ndjson")
        if record["code"]["text"] == "severe"
    ]  # type: ignore[index]
    assert severe["numeric_value"].sum() == sum(bool(record["valueBoolean"]) for record in stated)
    folds = {row["patient_id"] for row in csv.DictReader((root / "folds.csv").open())}
    known = set(pd.read_parquet(tmp_path / "subjects.parquet")["identifier_hash"])
    assert {_PSEUDONYMS.identifier(patient) for patient in folds} <= known
    # Also the birth date of the film that was refused.
    births = {header.PatientBirthDate for header in map(_header, root.glob("dicom/*/*.dcm"))} - {""}
    assert births
    dates = births | {f"{birth[:4]}-{birth[4:6]}-{birth[6:]}" for birth in births}
    assert_nobody_is_named(tmp_path, dates | {path.name for path in (root / "dicom").iterdir()})


def test_fhir_of_another_export_counts(test_data: Path, tmp_path: Path) -> None:
    root = test_data / "ham10000" / "fhir"
    notes = ingest(
        [LocalSource(root)], all_modalities(), IngestConfig(workers=1), _PSEUDONYMS, tmp_path, QUIET
    )
    lines = {path.stem: len(path.read_bytes().splitlines()) for path in root.glob("*.ndjson")}
    codes = pd.read_parquet(tmp_path / "events.parquet")["code"]
    demographic = codes.str.startswith("DEMOGRAPHIC//").sum()
    ends = (codes == "FHIR//EncounterEnd").sum()
    assert notes["subjects"] == lines["Patient"]
    assert len(codes) - demographic - ends == sum(lines.values()) - lines["Patient"]
    assert notes["refused"] == 0


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("empty.json", "empty-file"), ("not_json.json", "not-json"), ("bundle_no_entry.json", "empty-bundle"),
        ("array_top.json", "not-fhir"), ("no_patient.json", "orphan"),
    ],
)  # fmt: skip
def test_malformed_fhir_ends_in_a_named_refusal(
    test_data: Path, tmp_path: Path, file: str, code: str
) -> None:
    _, _, refusals = _alone(test_data, tmp_path, file)
    assert set(refusals["code"]) == {code}


@pytest.mark.parametrize(
    ("file", "age", "sex", "race"),
    [
        ("birthdate_bad.json", None, "male", "Asian"), ("birthdate_year_only.json", 28, "male", "Asian"),
        ("gender_bad.json", 28, "unknown", "Asian"), ("no_extensions.json", 28, "male", None),
    ],
)  # fmt: skip
def test_malformed_demographics(
    test_data: Path, tmp_path: Path, file: str, age: float | None, sex: str, race: str | None
) -> None:
    events, _, refusals = _alone(test_data, tmp_path, file)
    by_code = events.set_index("code")
    assert by_code["numeric_value"].get("DEMOGRAPHIC//age_years") == age
    assert by_code["text_value"].get("DEMOGRAPHIC//sex") == sex
    assert by_code["text_value"].get("DEMOGRAPHIC//race") == race
    assert refusals.empty


def test_malformed_facts(test_data: Path, tmp_path: Path) -> None:
    _, notes, _ = _alone(test_data, tmp_path, "status_entered_in_error.json")
    assert notes["dropped"]["entered-in-error"] == 48
    _, notes, _ = _alone(test_data, tmp_path, "value_nan_string.json")
    assert notes["dropped"]["value-not-a-number"] == 35
    _, notes, _ = _alone(test_data, tmp_path, "no_units.json")
    assert notes["flags"]["no_unit"] == 42
    _, notes, _ = _alone(test_data, tmp_path, "future_dates.json")
    assert notes["flags"]["future"] > 40
    events, _, _ = _alone(test_data, tmp_path, "weight_in_pounds.json")
    weights = events[events["code"] == "LOINC//29463-7"]
    assert set(weights["unit"]) == {"kg"}
    assert weights["numeric_value"].between(70, 90).all()


def test_bundles_of_many_people_name_nobody(test_data: Path, tmp_path: Path) -> None:
    root = test_data / "samples" / "fhir" / "synthea_r4"
    notes = ingest(
        [LocalSource(root)], all_modalities(), IngestConfig(workers=1), _PSEUDONYMS, tmp_path, QUIET
    )
    patients = [
        entry["resource"]
        for path in root.glob("*.json")
        for entry in json.loads(path.read_bytes())["entry"]
        if entry["resource"]["resourceType"] == "Patient"
    ]
    assert notes["subjects"] == len(patients) == 28
    names = {name["family"] for patient in patients for name in patient["name"]}
    secrets = {item["value"] for patient in patients for item in patient["identifier"]}
    assert_nobody_is_named(tmp_path, secrets | names | {patient["birthDate"] for patient in patients})


def _alone(
    test_data: Path, tmp_path: Path, name: str
) -> tuple[pd.DataFrame, dict[str, object], pd.DataFrame]:
    content = (test_data / "samples" / "fhir" / "malformed" / name).read_bytes()
    folder = tmp_path / name
    folder.mkdir()
    source = MemorySource({name: content})
    notes = ingest([source], all_modalities(), IngestConfig(workers=1), _PSEUDONYMS, folder, QUIET)
    return pd.read_parquet(folder / "events.parquet"), notes, pd.read_parquet(folder / "refusals.parquet")
