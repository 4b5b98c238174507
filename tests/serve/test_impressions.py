"""Own impression first: until then nothing of the answer leaves the server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from fastapi.testclient import TestClient

from clinimm.serve.app import open_office
from clinimm.serve.identity import Role
from clinimm.serve.office import Office
from clinimm.serve.settings import ServeSettings
from tests.serve.hospital import (
    OTHER,
    SHOW,
    SUBJECT,
    Hospital,
    form,
    make_client,
    make_office,
    sign_again,
    sign_in,
)

PATIENT = f"/runs/mock/patients/{SUBJECT}"


@pytest.fixture
def office(hospital: Hospital, tmp_path: Path) -> Office:
    settings = ServeSettings.model_validate(SHOW | {"impression_first": True})
    return open_office(hospital.runs, settings, tmp_path / "records")


@pytest.fixture
def client(office: Office) -> Iterator[TestClient]:
    with make_client(office) as found:
        yield found


@pytest.mark.parametrize(
    "path", [f"{PATIENT}/report", f"/api{PATIENT}/prediction", f"/api{PATIENT}/explanation"]
)
def test_the_answer_is_refused_before_and_given_after(client: TestClient, office: Office, path: str) -> None:
    headers = sign_in(client, office, Role.CLINICIAN)
    before = client.get(path)
    assert before.status_code == 403 and "impression-needed" in before.text
    assert client.post(f"{PATIENT}/feedback", **form(headers, verdict="agree")).status_code == 403
    assert client.post(f"{PATIENT}/impression", **form(headers, estimate=30)).status_code == 303
    assert client.get(path).status_code == 200
    assert client.post(f"{PATIENT}/feedback", **form(headers, verdict="agree")).status_code == 303
    assert client.get(path.replace(SUBJECT, OTHER)).status_code == 403


def test_no_page_tells_the_number_before(client: TestClient, office: Office) -> None:
    sign_in(client, office, Role.CLINICIAN)
    answer = office.catalogue.run("mock").answer(SUBJECT)["probability"]
    for path in ("/runs/mock", PATIENT, f"{PATIENT}/record", "/api/runs/mock/predictions"):
        text = client.get(path).text
        assert f"{100 * answer:.0f}\u00a0%" not in text and str(answer)[:6] not in text
    assert "<iframe" not in client.get(PATIENT).text


def test_pictures_and_record_may_be_seen_before(client: TestClient, office: Office) -> None:
    sign_in(client, office, Role.CLINICIAN)
    study = office.pictures.study(office.catalogue.run("mock"), SUBJECT)
    assert client.get(f"{PATIENT}/series/{study.series[0].name}").status_code == 200
    assert client.get(f"{PATIENT}/slides/{study.slides[0].name}").status_code == 200
    assert client.get(f"{PATIENT}/record").status_code == 200


def test_a_first_impression_is_given_once(client: TestClient, office: Office) -> None:
    headers = sign_in(client, office, Role.CLINICIAN)
    for status in (303, 409):
        assert client.post(f"{PATIENT}/impression", **form(headers, estimate=30)).status_code == status
    assert [row.estimate for row in office.feedback.rows()] == [0.3]


@pytest.mark.parametrize("estimate", ["", "-1", "101", "many", "nan"])
def test_an_impression_is_a_percentage(client: TestClient, office: Office, estimate: str) -> None:
    headers = sign_in(client, office, Role.CLINICIAN)
    assert client.post(f"{PATIENT}/impression", **form(headers, estimate=estimate)).status_code == 422
    assert office.feedback.rows() == []


def test_what_another_clinician_thought_reveals_nothing(client: TestClient, office: Office) -> None:
    headers = sign_in(client, office, Role.CLINICIAN, subject="first")
    client.post(f"{PATIENT}/impression", **form(headers, estimate=30, comment="clearly ill"))
    client.post(
        f"{PATIENT}/feedback", **form(headers, verdict="object", reason="wrong-answer", comment="far too low")
    )
    sign_in(client, office, Role.CLINICIAN, Role.DATA_SCIENTIST, subject="second")
    assert client.get(f"{PATIENT}/report").status_code == 403
    for path in (PATIENT, "/feedback", "/api/feedback"):
        assert "clearly ill" not in client.get(path).text and "far too low" not in client.get(path).text


def test_who_is_no_clinician_sees_answers_at_once(client: TestClient, office: Office) -> None:
    sign_in(client, office, Role.DATA_SCIENTIST)
    assert client.get(f"{PATIENT}/report").status_code == 200
    assert client.get("/api/runs/mock/predictions").json()["predictions"][0]["probability"] is not None


def test_another_role_beside_does_not_help_a_clinician(client: TestClient, office: Office) -> None:
    sign_in(client, office, *Role)
    assert client.get(f"{PATIENT}/report").status_code == 403


def test_another_model_s_answer_hides_again(client: TestClient, office: Office) -> None:
    headers = sign_in(client, office, Role.CLINICIAN)
    client.post(f"{PATIENT}/impression", **form(headers, estimate=30))
    run = office.catalogue.run("mock")
    from tests.serve.hospital import person

    assert SUBJECT not in office.hidden(person(Role.CLINICIAN), run)
    run.answers.loc[SUBJECT, "model_digest"] = "e" * 64
    assert SUBJECT in office.hidden(person(Role.CLINICIAN), run)


def test_where_nothing_is_hidden_no_impression_is_first(hospital: Hospital, tmp_path: Path) -> None:
    office = open_office(hospital.runs, ServeSettings.model_validate(SHOW), tmp_path / "open")
    client = make_client(office)
    headers = sign_in(client, office, Role.CLINICIAN)
    assert client.get(f"{PATIENT}/report").status_code == 200
    assert client.post(f"{PATIENT}/impression", **form(headers, estimate=30)).status_code == 409
    assert office.feedback.rows() == []


def test_nor_does_what_another_clinician_said_show_in_the_list(client: TestClient, office: Office) -> None:
    headers = sign_in(client, office, Role.CLINICIAN, subject="first")
    client.post(f"{PATIENT}/impression", **form(headers, estimate=30))
    client.post(f"{PATIENT}/feedback", **form(headers, verdict="object", reason="wrong-answer"))
    assert SUBJECT in client.get("/runs/mock?feedback=object").text
    sign_in(client, office, Role.CLINICIAN, subject="second")
    assert SUBJECT not in client.get("/runs/mock?feedback=object").text


@pytest.fixture
def several(own_hospital: Hospital, tmp_path: Path) -> Office:
    """A run that chooses among three outcomes; for our patient it says `viral`."""
    folder = own_hospital.run
    table = pd.read_parquet(folder / "predict" / "predictions.parquet")
    parts = [
        table.assign(class_name=name, probability=share, label=float("nan"))
        for name, share in (("bacterial", 0.2), ("viral", 0.7), ("none", 0.1))
    ]
    pd.concat(parts, ignore_index=True).to_parquet(folder / "predict" / "predictions.parquet")
    task = {"name": "cause", "kind": "multiclass", "classes": ["bacterial", "viral", "none"]}
    (folder / "cohort" / "task.json").write_text(json.dumps(task))
    sign_again(own_hospital)
    return make_office(own_hospital, impression_first=True)


def test_of_several_outcomes_the_likeliest_one_is_hidden_too(several: Office) -> None:
    client = make_client(several)
    headers = sign_in(client, several, Role.CLINICIAN)
    rows = client.get("/api/runs/mock/predictions").json()["predictions"]
    assert {(row["class_name"], row["probability"]) for row in rows} == {(None, None)}
    assert "viral" not in client.get("/runs/mock").text
    page = client.get(PATIENT).text
    assert page.count("<option") == 4 and "selected" not in page  # every outcome is offered, none first
    for sent in ({}, {"class_name": "another"}):
        answer = client.post(f"/api{PATIENT}/impression", json={"estimate": 0.6, **sent}, headers=headers)
        assert answer.status_code == 422 and "viral, none" in answer.json()["detail"]
    kept = client.post(f"{PATIENT}/impression", **form(headers, estimate=60, class_name="bacterial"))
    assert kept.status_code == 303
    (row,) = several.feedback.rows()
    assert (row.class_name, row.estimate, row.probability) == ("bacterial", 0.6, 0.2)
    assert client.get(f"/api{PATIENT}/prediction").json()["class_name"] == "viral"
