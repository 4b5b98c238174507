"""People of one site see that site's patients: on every address, in every list."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from fastapi.testclient import TestClient

from clinimm.serve.identity import Role
from clinimm.serve.office import Office
from clinimm.serve.rules import RULES
from tests.serve.hospital import OTHER, SUBJECT, Hospital, form, sign_again, sign_in

NORTH, SOUTH = frozenset({"north"}), frozenset({"south"})


@pytest.fixture(scope="module")
def divided(hospital: Hospital) -> Hospital:
    """The first patient is of the south, the second of nobody, the rest of the north."""
    path = hospital.run / "cohort" / "cohort.parquet"
    table = pd.read_parquet(path)
    table.loc[table["subject_id"] == SUBJECT, "site_id"] = "south"
    table.loc[table["subject_id"] == "S001", "site_id"] = None
    table.to_parquet(path)
    sign_again(hospital)
    return hospital


@pytest.fixture
def office(divided: Hospital, tmp_path) -> Office:  # type: ignore[no-untyped-def]
    from clinimm.serve.app import open_office
    from clinimm.serve.settings import ServeSettings
    from tests.serve.hospital import SHOW

    return open_office(divided.runs, ServeSettings.model_validate(SHOW), records=tmp_path / "records")


@pytest.mark.parametrize(
    ("method", "address"),
    [pytest.param(*one, id=" ".join(one)) for one in sorted(one for one in RULES if "{subject}" in one[1])],
)
def test_no_address_tells_of_a_patient_of_others(
    client: TestClient, office: Office, method: str, address: str
) -> None:
    headers = sign_in(client, office, Role.CLINICIAN, Role.DATA_SCIENTIST, sites=NORTH)
    path = address.format(run="mock", subject=SUBJECT, name="0" * 16, index=0, level=0, tile="0_0")
    sent = {"json": {"verdict": "agree"}, "headers": headers} if "/api/" in path else form(headers, x="y")
    answer = client.get(path) if method == "GET" else client.post(path, **sent)
    assert answer.status_code == 403 and "another-site" in answer.text
    line = json.loads(office.log.path.read_text().splitlines()[-1])
    assert (line["outcome"], line["subject"], line["detail"]["code"]) == ("refused", SUBJECT, "another-site")


def test_the_list_holds_the_own_site_s_patients(client: TestClient, office: Office) -> None:
    sign_in(client, office, Role.CLINICIAN, sites=SOUTH)
    found = client.get("/api/runs/mock/predictions").json()
    assert [row["subject_id"] for row in found["predictions"]] == [SUBJECT] and found["found"] == 1
    page = client.get("/runs/mock").text
    assert "1 patient of 1" in page and "north" not in page
    assert client.get(f"/runs/mock/patients/{SUBJECT}").status_code == 200
    sign_in(client, office, Role.CLINICIAN, sites=NORTH)
    assert client.get("/api/runs/mock/predictions").json()["found"] == 58


@pytest.mark.parametrize("sites", [frozenset(), frozenset({""}), frozenset({"nan", "None"})])
def test_who_has_no_site_sees_nobody(client: TestClient, office: Office, sites: frozenset[str]) -> None:
    """Nor is a patient without a site everybody's."""
    sign_in(client, office, Role.CLINICIAN, sites=sites)
    assert client.get("/api/runs/mock/predictions").json()["found"] == 0
    assert client.get("/runs/mock/patients/S001").status_code == 403


def test_what_was_said_stays_at_the_site_except_for_the_auditor(client: TestClient, office: Office) -> None:
    for subject in (SUBJECT, OTHER):
        headers = sign_in(client, office, Role.CLINICIAN)
        sent = form(headers, verdict="agree")
        assert client.post(f"/runs/mock/patients/{subject}/feedback", **sent).status_code == 303
    for role, sites, subjects in (
        (Role.DATA_SCIENTIST, NORTH, [OTHER]),
        (Role.DATA_SCIENTIST, SOUTH, [SUBJECT]),
        (Role.DATA_SCIENTIST, None, [SUBJECT, OTHER]),
        (Role.AUDITOR, frozenset(), [SUBJECT, OTHER]),
    ):
        sign_in(client, office, role, sites=sites)
        assert [row["subject_id"] for row in client.get("/api/feedback").json()] == subjects
