"""Who reads which audit: small groups are for those who judge models."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from clinimm.serve.identity import Role
from clinimm.serve.office import Office
from tests.serve.hospital import sign_in

PAGE = "/runs/mock/audit/page"


@pytest.mark.parametrize("roles", [(Role.AUDITOR,), (Role.DATA_SCIENTIST,), (Role.CLINICIAN, Role.AUDITOR)])
def test_who_judges_models_reads_small_groups(
    client: TestClient, office: Office, roles: tuple[Role, ...]
) -> None:
    sign_in(client, office, *roles)
    answer = client.get(PAGE)
    assert answer.status_code == 200
    assert "published view" not in answer.text


def test_a_clinician_reads_what_may_be_published(client: TestClient, office: Office) -> None:
    sign_in(client, office, Role.CLINICIAN)
    answer = client.get(PAGE)
    assert answer.status_code == 200
    assert "published view" in answer.text
    assert "hidden: a count is below" in answer.text
