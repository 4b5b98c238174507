"""The report in a frame and alone, and whom it never names."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from clinimm.report.facts import RunFacts
from clinimm.report.patient_report import patient_page
from clinimm.serve.identity import Role
from clinimm.serve.office import Office
from clinimm.serve.render import environment
from tests.serve.hospital import SUBJECT, sign_in

REPORT = f"/runs/mock/patients/{SUBJECT}/report"
_FRAMED = '<html lang="en" class="framed">'


def test_the_banner_is_left_to_our_page_only_where_the_browser_says_that_it_frames(
    client: TestClient, office: Office
) -> None:
    sign_in(client, office, Role.CLINICIAN)
    inside = client.get(REPORT, headers={"Sec-Fetch-Dest": "iframe"})
    assert inside.status_code == 200 and _FRAMED in inside.text
    for headers in ({}, {"Sec-Fetch-Dest": "document"}):
        alone = client.get(REPORT, headers=headers)
        assert alone.status_code == 200 and _FRAMED not in alone.text
    assert inside.headers["cache-control"] == "no-store", "one is never shown for the other"
    assert 'aria-label="Warning">Research use only.' in inside.text, "on paper it has its own"
    around = client.get(f"/runs/mock/patients/{SUBJECT}").text
    assert '<aside class="banner" aria-label="Warning">Research use only.' in around


def test_training_patients_are_not_named_in_the_application(
    client: TestClient, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may see this patient may not be one who may see those, so the page is not given them."""
    given: list[object] = []

    def page(facts: RunFacts, *arguments: object, nearest: object = None, **named: object) -> str:
        given.extend((arguments[2:], nearest))
        return patient_page(facts, SUBJECT, framed=bool(named["framed"]))

    monkeypatch.setattr("clinimm.serve.patient_pages.patient_page", page)
    sign_in(client, office, Role.CLINICIAN)
    assert 'id="nearest"' not in client.get(REPORT).text
    assert given == [(), None]


def test_characters_that_cannot_be_seen_are_replaced_on_our_own_pages() -> None:
    made = environment().from_string("{{ name }}").render(name="a\u202eb\x00<")
    assert made == "a\ufffdb\ufffd&lt;"
