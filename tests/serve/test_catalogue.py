"""Only what was signed is served, and not a moment longer."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from clinimm.core.errors import ConfigError
from clinimm.serve.catalogue import Catalogue
from clinimm.serve.errors import Refused
from clinimm.serve.identity import Role
from clinimm.serve.settings import ServeSettings
from tests.serve.hospital import SHOW, SUBJECT, Hospital, make_client, make_office, sign_again, sign_in

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
        "encode/index.json",
        "evaluate/figures/roc.svg",
        "ingest/subjects.parquet",
    ],
)
def test_a_file_that_changes_while_it_is_served_closes_the_run(own_hospital: Hospital, file: str) -> None:
    office = make_office(own_hospital)
    client = make_client(office)
    sign_in(client, office, Role.CLINICIAN)
    address = f"/api/runs/mock/patients/{SUBJECT}/prediction"
    assert client.get(address).status_code == 200
    path = own_hospital.run / file
    path.write_bytes((path.read_bytes() if path.exists() else b"") + b" ")
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


def test_a_change_that_keeps_size_and_time_is_noticed(own_hospital: Hospital) -> None:
    catalogue = Catalogue(own_hospital.runs, SETTINGS)
    catalogue.run("mock")
    path = own_hospital.run / "predict" / "predictions.parquet"
    content, status = bytearray(path.read_bytes()), path.stat()
    content[len(content) // 2] ^= 1
    with path.open("r+b") as stream:
        stream.write(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(Refused, match=r"predictions\.parquet"):
        catalogue.run("mock")


@pytest.mark.parametrize(
    "address",
    [f"/runs/mock/patients/{SUBJECT}/record", f"/api/runs/mock/patients/{SUBJECT}/explanation",
     f"/runs/mock/patients/{SUBJECT}/report", "/runs/mock/audit/page"],
)  # fmt: skip
def test_a_page_that_was_made_while_the_run_was_replaced_is_not_shown(
    own_hospital: Hospital, address: str
) -> None:
    """What was read first may be of the old run and what was read last of the new one."""
    office = make_office(own_hospital)
    client = make_client(office)
    sign_in(client, office, *Role)
    real = type(office.log).append
    patch = pytest.MonkeyPatch()  # an own one: undoing the test's would give back the keys of whoever runs it

    def replaced(self: object, entry: object) -> object:
        (own_hospital.run / "pipeline.yaml").touch()
        return real(self, entry)  # type: ignore[arg-type]

    if "audit" not in address:
        patch.setattr(type(office.log), "append", replaced)
    else:
        patch.setattr(
            "clinimm.serve.review_pages.audit_page",
            lambda content: (own_hospital.run / "pipeline.yaml").touch() or STRICT,
        )
    patch.setattr("clinimm.serve.patient_pages.patient_page", lambda *given, **more: STRICT)
    answer = client.get(address)
    assert answer.status_code == 409 and "run-changed" in answer.text
    patch.undo()
    assert client.get(address).status_code == 200


STRICT = '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'">'


def test_the_log_names_the_model_whose_answer_was_shown(
    own_hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One request, one run: it is looked up once."""
    office = make_office(own_hospital)
    client = make_client(office)
    sign_in(client, office, Role.CLINICIAN)
    real, asked = office.catalogue.run, []
    monkeypatch.setattr(office.catalogue, "run", lambda name: asked.append(name) or real(name))
    assert client.get(f"/api/runs/mock/patients/{SUBJECT}/prediction").status_code == 200
    assert asked == ["mock"]


def test_a_staining_run_is_named_for_what_it_is(
    own_hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clinimm.settings import load_run

    def staining(folder: Path) -> object:
        return load_run(folder).model_copy(update={"staining": object()})

    monkeypatch.setattr("clinimm.serve.catalogue.load_run", staining)
    assert "stained tiles and no answers" in Catalogue(own_hospital.runs, SETTINGS).refused()["mock"]


def test_a_run_that_explained_nobody_is_served_and_says_so(own_hospital: Hospital) -> None:
    shutil.rmtree(own_hospital.run / "explain")
    (own_hospital.run / "explain").mkdir()
    sign_again(own_hospital)
    office = make_office(own_hospital)
    client = make_client(office)
    sign_in(client, office, Role.CLINICIAN)
    page = client.get(f"/runs/mock/patients/{SUBJECT}")
    assert page.status_code == 200 and "Not explained yet" in page.text
    answer = client.get(f"/api/runs/mock/patients/{SUBJECT}/explanation")
    assert answer.status_code == 404 and answer.json()["type"].endswith("not-explained")
