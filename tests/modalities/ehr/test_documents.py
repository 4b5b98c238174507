import base64
from typing import Any

import pytest

from clinimm.modalities.ehr.collect import Collector
from clinimm.modalities.ehr.documents import attached_text
from clinimm.modalities.ehr.fhir_time import Clock


def attached(*attachments: dict[str, Any]) -> tuple[tuple[str, list[str]] | None, list[str]]:
    collector = Collector("a.json", Clock("UTC"))
    text = attached_text(collector, {"resourceType": "DocumentReference", "id": "d"}, list(attachments))
    return text, [refusal.code for refusal in collector.refusals]


def inline(content: bytes, kind: str = "text/plain") -> dict[str, Any]:
    return {"contentType": kind, "data": base64.b64encode(content).decode()}


def test_character_sets() -> None:
    assert attached(inline("Fièvre\r\n".encode())) == (("Fièvre\n", []), [])
    latin = inline("Fièvre".encode("latin-1"), "text/plain; charset=iso-8859-1")
    assert attached(latin) == (("Fièvre", []), [])
    wrong = inline("Fièvre".encode("latin-1"), "text/plain; charset=utf-8")
    assert attached(wrong) == (("Fièvre", ["charset_guessed"]), [])
    unknown = inline(b"Fever", "text/plain; charset=klingon")
    assert attached(unknown) == (("Fever", ["charset_guessed"]), [])


def test_html_becomes_its_words() -> None:
    page = (
        b"<html><style>p {}</style><body><p>Fever &amp; <b>cough</b></p><p>since May</p><script>x()</script>"
    )
    assert attached(inline(page, "text/html")) == (("Fever & cough\nsince May", []), [])


@pytest.mark.parametrize(
    ("attachment", "code"),
    [
        ({"contentType": "text/plain", "url": "Binary/1"}, "attachment-not-inline"),
        (inline(b"%PDF", "application/pdf"), "attachment-type"),
        ({"contentType": "text/plain", "data": "A"}, "bad-base64"),
        (inline(b" \n"), "empty-note"),
        ({"contentType": "text/plain", "data": 7}, "attachment-not-inline"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(attachment: dict[str, Any], code: str) -> None:
    assert attached(attachment) == (None, [code])


def test_of_several_forms_the_first_readable_one_is_taken() -> None:
    assert attached(inline(b"%PDF", "application/pdf"), inline(b"Fever")) == (("Fever", []), [])
    assert attached() == (None, ["no-attachment"])
