"""Only what was signed is served, and not a moment longer."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from clinimm.core.errors import ConfigError
from clinimm.serve.catalogue import Catalogue
from clinimm.serve.errors import Refused
from clinimm.serve.identity import Role
from clinimm.serve.settings import ServeSettings
from tests.serve.hospital import SHOW, SUBJECT, Hospital, make_client, make_office, sign_in

SETTINGS = ServeSettings.model_validate(SHOW)


def test_a_signed_run_is_served_by_its_folder_or_the_folder_of_runs(hospital: Hospital) -> None:
    for folder in (hospital.runs, hospital.run):
        catalogue = Catalogue(folder, SETTINGS)
        assert [run.name for run in catalogue.runs()] == ["mock"] and catalogue.refused() == {}
        assert catalogue.home == hospital.runs


@pytest.mark.parametrize(
    "file",
    [
        "predict/predictions.parquet",
        "train/model/model.safetensors",
        "train/model/config.json",
        "audit/audit.json",
        "evaluate/metrics.json",
        "register/manifest.json",
        "ingest/events.parquet",
        "explain/attributions.parquet",
        "explain/summary.parquet",
        "cohort/spec.json",
        "explain/record.json",
    ],
)
def test_a_file_that_changes_while_it_is_served_closes_the_run(own_hospital: Hospital, file: str) -> None:
    office = make_office(own_hospital)
    client = make_client(office)
    sign_in(client, office, Role.CLINICIAN)
    address = f"/api/runs/mock/patients/{SUBJECT}/prediction"
    assert client.get(address).status_code == 200
    path = own_hospital.run / file
    path.write_bytes(path.read_bytes() + b" ")
    if file.endswith("record.json"):  # the same record with another number in it
        path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": 1}))
    if file.endswith("manifest.json"):
        path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    answer = client.get(address)
    assert answer.status_code == 409 and answer.json()["type"] == "urn:clinimm:error:run-not-served"
    assert str(own_hospital.runs) not in answer.text
    assert client.get("/runs/mock").status_code == 409


def test_a_run_whose_file_is_put_back_is_served_again(own_hospital: Hospital) -> None:
    catalogue = Catalogue(own_hospital.runs, SETTINGS)
    path = own_hospital.run / "predict" / "predictions.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(Refused, match=r"predictions\.parquet"):
        catalogue.run("mock")
    path.write_bytes(whole)
    assert catalogue.run("mock").answer(SUBJECT)["subject_id"] == SUBJECT


def test_a_model_that_is_not_the_signed_one_is_refused(own_hospital: Hospital) -> None:
    from clinimm.register.manifest import write_manifest

    write_manifest(own_hospital.workspace, "0" * 64, None)  # signed, but for another model
    catalogue = Catalogue(own_hospital.runs, SETTINGS)
    assert "not the one that was signed" in catalogue.refused()["mock"]


def test_a_run_that_a_stranger_signed_is_refused(
    own_hospital: Hospital, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clinimm.core.sign import sign

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "me"))
    sign(b"")
    assert "which is trusted here" in Catalogue(own_hospital.runs, SETTINGS).refused()["mock"]


def test_a_run_that_the_audit_blocks_is_refused_unless_asked_for(own_hospital: Hospital) -> None:
    path = own_hospital.run / "audit" / "audit.json"
    audit = json.loads(path.read_text())
    from clinimm.register.manifest import write_manifest
    from clinimm.report.facts import RunFacts

    path.write_text(json.dumps(audit | {"exit_status": 1}))
    write_manifest(own_hospital.workspace, str(RunFacts(own_hospital.workspace).model_digest), None)
    refusing = Catalogue(own_hospital.runs, SETTINGS.model_copy(update={"blocked_runs": "refuse"}))
    assert "its audit blocks it" in refusing.refused()["mock"]
    assert Catalogue(own_hospital.runs, SETTINGS).run("mock").blocked


def test_a_run_that_was_never_registered_is_named(own_hospital: Hospital) -> None:
    (own_hospital.run / "register" / "manifest.json").unlink()
    assert "never registered" in Catalogue(own_hospital.runs, SETTINGS).refused()["mock"]


def test_names_lead_nowhere_else(hospital: Hospital) -> None:
    catalogue = Catalogue(hospital.runs, SETTINGS)
    for name in ("..", ".", "mock/../mock", "", "MOCK", "serve-records"):
        with pytest.raises(Refused, match="no such run"):
            catalogue.run(name)


def test_a_folder_without_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither the folder of a run"):
        Catalogue(tmp_path, SETTINGS)


def test_an_answer_is_the_row_of_the_table(hospital: Hospital) -> None:
    rows = pd.read_parquet(hospital.run / "predict" / "predictions.parquet").set_index("subject_id")
    run = Catalogue(hospital.runs, SETTINGS).run("mock")
    for subject in ("S000", "S001", "S059"):
        assert run.answer(subject)["probability"] == rows.loc[subject, "probability"]
    with pytest.raises(Refused):
        run.answer("S999")
