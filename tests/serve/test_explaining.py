"""An explanation that nobody vouches for is shown nowhere."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from clinimm.core.errors import IntegrityError
from clinimm.serve.catalogue import computed_from_signed
from clinimm.serve.identity import Role
from clinimm.serve.office import Office
from tests.report.conftest import explanations
from tests.serve.hospital import OTHER, Hospital, form, make_client, make_office, sign_in

PATIENT = f"/runs/mock/patients/{OTHER}"


@pytest.fixture
def office(own_hospital: Hospital) -> Office:
    return make_office(own_hospital)


@pytest.fixture
def client(office: Office) -> Iterator[TestClient]:
    with make_client(office) as found:
        yield found


def put(folder: Path, text: str = "") -> None:
    """What ``clinimm explain`` leaves for a patient that the run did not explain."""
    explanations(OTHER, "0" * 64, text).write(folder / "explain" / ".requested" / OTHER)


@pytest.fixture
def explainer(own_hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clinimm.explain.stage.explain_subjects", lambda *given: put(own_hospital.run))


def test_what_somebody_else_put_there_is_shown_nowhere(
    client: TestClient, office: Office, own_hospital: Hospital
) -> None:
    put(own_hospital.run, "PLANTED")
    sign_in(client, office, Role.CLINICIAN)
    page = client.get(PATIENT)
    assert "did not make" in page.text and "<iframe" not in page.text and "Explain this answer" in page.text
    for address in (f"{PATIENT}/report", f"/api{PATIENT}/explanation"):
        answer = client.get(address)
        assert answer.status_code == 409 and "foreign-explanation" in answer.text
        assert "PLANTED" not in answer.text


@pytest.mark.usefixtures("explainer")
def test_what_was_made_here_is_shown_until_somebody_changes_it(
    client: TestClient, office: Office, own_hospital: Hospital
) -> None:
    headers = sign_in(client, office, Role.CLINICIAN)
    assert client.post(f"{PATIENT}/explanation", **form(headers)).status_code == 303
    assert client.get(f"/api{PATIENT}/explanation").status_code == 200
    assert office.explainer.standing(office.catalogue.run("mock"), OTHER) == "explained"
    put(own_hospital.run, "PLANTED")
    assert client.get(f"/api{PATIENT}/explanation").status_code == 409
    # Another server's word, or that for another patient, is worth nothing.
    assert client.post(f"{PATIENT}/explanation", **form(headers)).status_code == 303
    signed = office.log.path.parent / "explanations" / "mock" / f"{OTHER}.json"
    signed.rename(signed.with_name("S003.json"))
    assert client.get(f"/api{PATIENT}/explanation").status_code == 409


def test_an_explanation_is_computed_from_signed_files_alone(
    client: TestClient, office: Office, own_hospital: Hospital
) -> None:
    run = office.catalogue.run("mock")
    with computed_from_signed(run):
        pass
    (own_hospital.run / "train" / "model" / "more.bin").write_bytes(b"x")  # not of the record: not read
    with computed_from_signed(office.catalogue.run("mock")):
        pass
    path = own_hospital.run / "encode" / "refusals.parquet"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(IntegrityError, match=r"encode/refusals\.parquet"), computed_from_signed(run):
        pass


def test_file_swapped_between_check_and_load_and_put_back_after(
    office: Office, own_hospital: Hospital
) -> None:
    run, path = office.catalogue.run("mock"), own_hospital.run / "encode" / "refusals.parquet"
    before, times = path.read_bytes(), path.stat()
    with pytest.raises(IntegrityError, match="changed meanwhile"), computed_from_signed(run):
        path.write_bytes(b"others!")
        path.write_bytes(before)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_run_that_is_being_changed_is_not_explained(
    client: TestClient, office: Office, own_hospital: Hospital
) -> None:
    import multiprocessing

    headers = sign_in(client, office, Role.CLINICIAN)
    context = multiprocessing.get_context("fork")
    held, over = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(own_hospital.run, held, over))
    other.start()
    try:
        assert held.wait(20)
        answer = client.post(f"/api{PATIENT}/explanation", headers=headers)
    finally:
        over.set()
        other.join(20)
    assert answer.status_code == 422 and answer.json()["type"].endswith("cannot-explain")


def _hold(folder: Path, held, over) -> None:  # type: ignore[no-untyped-def]
    from clinimm.lock import locked

    with locked(folder):
        held.set()
        over.wait(30)


def test_a_number_that_is_none_is_null(
    client: TestClient, office: Office, own_hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clinimm.report.subject import read_subject

    def without(*given):  # type: ignore[no-untyped-def]
        found = read_subject(*given)
        return type(found)(**{**vars(found), "summary": {**found.summary, "deletion_auc": math.nan}})

    monkeypatch.setattr("clinimm.serve.explaining.read_subject", without)
    sign_in(client, office, Role.CLINICIAN)
    answer = client.get("/api/runs/mock/patients/S000/explanation")
    assert answer.status_code == 200 and answer.json()["summary"]["deletion_auc"] is None


def test_pictures_that_cannot_be_opened_are_not_taken_for_none(
    client: TestClient, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clinimm.serve.pictures.open_pixels", lambda workspace: "no key")
    sign_in(client, office, Role.CLINICIAN)
    assert "Pictures are missing here" in client.get("/runs/mock/patients/S000").text
    assert "Pictures are missing here" not in client.get(PATIENT).text  # this patient has none
