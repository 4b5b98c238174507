"""Feedback is added and never changed, and goes to training as proposals that nothing applies."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pandas as pd
import pytest
from fastapi.testclient import TestClient

from clinimm.cli import app as cli
from clinimm.core.errors import DataError, IntegrityError
from clinimm.core.event import EVENT_COLUMNS
from clinimm.core.pseudonym import load_pseudonymiser
from clinimm.modalities import all_modalities
from clinimm.serve.access_log import LOG_NAME, AccessLog, Entry
from clinimm.serve.decisions import Verdict
from clinimm.serve.feedback import REASONS, Feedback, FeedbackTable
from clinimm.serve.feedback_check import check_feedback
from clinimm.serve.identity import Role
from clinimm.serve.office import Office
from clinimm.serve.proposals import export
from tests.serve.hospital import SUBJECT, Hospital, form, sign_in

PATIENT = f"/runs/mock/patients/{SUBJECT}"


def row(kind: str = "agree", comment: str = "", run: str = "demo") -> Feedback:
    reason = "wrong-answer" if kind == "object" else None
    estimate = 0.25 if kind == "impression" else None
    return Feedback(
        kind,
        run,
        "S1",
        "severe",
        "d" * 64,
        0.7,
        "i|s",
        None,
        reason,
        comment,
        estimate,
        "2026-01-01T00:00:00.000+00:00",
    )  # type: ignore[arg-type]


def ignore(digest: str) -> None:
    """No log in this test."""


def test_a_verdict_is_kept_with_who_when_and_which_model(
    client: TestClient, office: Office, tmp_path: Path
) -> None:
    headers = sign_in(client, office, Role.CLINICIAN)
    sent = form(
        headers, verdict="object", reason="wrong-evidence", comment="The device, not the lung.\r\nSee film."
    )
    assert client.post(f"{PATIENT}/feedback", **sent).status_code == 303
    (kept,) = office.feedback.rows()
    answer = office.catalogue.run("mock").answer(SUBJECT)
    assert (kept.kind, kept.reason, kept.comment) == (
        "object",
        "wrong-evidence",
        "The device, not the lung.\nSee film.",
    )
    assert (kept.user, kept.fhir_user) == ("https://id.example|p1", "Practitioner/p1")
    assert (kept.model_digest, kept.probability) == (answer["model_digest"], answer["probability"])
    assert abs((pd.Timestamp.now(tz="UTC") - pd.Timestamp(kept.time)).total_seconds()) < 60
    line = json.loads((tmp_path / "records" / LOG_NAME).read_text().splitlines()[-1])
    assert line["action"] == "give-object" and line["detail"]["row"] == kept.digest
    assert "device" not in json.dumps(line)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"verdict": "perhaps"},
        {"verdict": "object"},
        {"verdict": "object", "reason": "because"},
        {"verdict": "agree", "reason": "wrong-answer"},
        {"verdict": "agree", "comment": "x" * 2001},
    ],
)
def test_a_verdict_that_is_none_is_refused(
    client: TestClient, office: Office, fields: dict[str, str]
) -> None:
    headers = sign_in(client, office, Role.CLINICIAN)
    assert client.post(f"{PATIENT}/feedback", **form(headers, **fields)).status_code == 422
    assert office.feedback.rows() == []


def test_signs_that_hide_or_turn_text_round_are_taken_out() -> None:
    assert Verdict(verdict="agree", comment=" a\u202eb\x00c\x1b[31m\u200b\nd ").comment == "abc[31m\nd"


def test_the_interface_does_the_same(client: TestClient, office: Office) -> None:
    headers = sign_in(client, office, Role.CLINICIAN)
    answer = client.post(f"/api{PATIENT}/feedback", json={"verdict": "agree"}, headers=headers)
    assert answer.status_code == 201 and answer.json()["kind"] == "agree"
    sign_in(client, office, Role.AUDITOR)
    assert "the access log names each of them" in client.get("/feedback").text
    line = json.loads(office.log.path.read_text().splitlines()[-1])
    assert (line["action"], line["detail"]["subjects"]) == ("view-feedback", [f"mock/{SUBJECT}"])
    assert [one["kind"] for one in client.get("/api/feedback?run=mock").json()] == ["agree"]
    assert client.get("/api/feedback?run=other").json() == []


def test_the_table_refuses_to_forget(tmp_path: Path) -> None:
    table = FeedbackTable(tmp_path)
    table.add(row(), ignore)
    with sqlite3.connect(table.path) as database:
        for order in ("UPDATE feedback SET kind = 'object'", "DELETE FROM feedback"):
            with pytest.raises(sqlite3.IntegrityError, match="never"):
                database.execute(order)
    assert [one.kind for one in FeedbackTable(tmp_path).rows()] == ["agree"]


def given(folder: Path, *rows: Feedback) -> FeedbackTable:
    """Rows as the application keeps them: each named in the access log."""
    log, table = AccessLog(folder), FeedbackTable(folder)
    for one in rows:

        def enter(digest: str, one: Feedback = one) -> None:
            log.append(Entry(f"give-{one.kind}", run=one.run, subject=one.subject_id, detail={"row": digest}))

        table.add(one, enter)
    return table


def force(table: FeedbackTable, *orders: str) -> None:
    """What somebody does who may write the file."""
    with sqlite3.connect(table.path) as database:
        database.execute("DROP TRIGGER feedback_is_never_changed")
        database.execute("DROP TRIGGER feedback_is_never_removed")
        for order in orders:
            database.execute(order)


def test_a_row_that_was_changed_by_force_is_found_and_not_exported(tmp_path: Path) -> None:
    table = given(tmp_path, row(), row("object"))
    force(table, "UPDATE feedback SET reason = 'other' WHERE number = 2")
    assert check_feedback(tmp_path).changed == (2,)
    with pytest.raises(DataError, match="rows 2"):
        export(tmp_path, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_a_row_that_was_changed_with_its_digest_is_found_by_the_log(tmp_path: Path) -> None:
    table, liar = given(tmp_path, row("object")), row("agree")
    force(
        table, f"UPDATE feedback SET kind = 'agree', reason = NULL, digest = '{liar.digest}' WHERE number = 1"
    )
    state = check_feedback(tmp_path)
    assert (state.changed, state.unknown, state.missing) == ((), (1,), (1,))
    with pytest.raises(DataError, match="Never given here"):
        export(tmp_path, tmp_path / "out.parquet")


def test_a_row_that_was_removed_is_told_and_the_others_are_exported(tmp_path: Path) -> None:
    table = given(tmp_path, row("object"), row("agree"))
    force(table, "DELETE FROM feedback WHERE number = 1")
    found = export(tmp_path, tmp_path / "out.parquet")
    assert found.count == 1 and "access log's lines 1" in found.problems[0]


def test_nothing_is_exported_on_the_word_of_a_log_that_is_not_whole(tmp_path: Path) -> None:
    given(tmp_path, row(), row("object"))
    path = tmp_path / LOG_NAME
    path.write_bytes(path.read_bytes().replace(b"give-agree", b"give-agrEe"))
    with pytest.raises(IntegrityError, match="not whole"):
        export(tmp_path, tmp_path / "out.parquet")


def test_a_first_impression_is_once_however_fast_somebody_clicks(tmp_path: Path) -> None:
    table = FeedbackTable(tmp_path)
    table.add(row("impression"), ignore)
    with pytest.raises(sqlite3.IntegrityError):
        table.add(row("impression"), ignore)
    table.add(row("agree"), ignore)
    table.add(row("agree"), ignore)


def test_a_table_that_is_held_by_somebody_else_is_said(
    client: TestClient, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clinimm.serve.feedback._TIMEOUT_S", 0.1)
    headers = sign_in(client, office, Role.CLINICIAN)
    with office.feedback.held():
        answer = client.post(f"/api{PATIENT}/feedback", json={"verdict": "agree"}, headers=headers)
    assert answer.status_code == 503 and answer.json()["type"].endswith("feedback-unavailable")
    assert "give-agree" not in office.log.path.read_text()


def test_a_log_that_fails_leaves_no_row(tmp_path: Path) -> None:
    table = FeedbackTable(tmp_path)

    def fail(digest: str) -> None:
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        table.add(row(), fail)
    assert table.rows() == []


def test_proposals_have_the_columns_of_events_and_no_comment(tmp_path: Path) -> None:
    given(tmp_path, row("impression"), row("object", "Mrs Doe told me"), row("agree", run="other"))
    assert export(tmp_path, tmp_path / "all.parquet").count == 3
    found = pd.read_parquet(tmp_path / "all.parquet")
    assert list(found.columns) == list(EVENT_COLUMNS)
    assert list(found["code"]) == ["FEEDBACK//impression", "FEEDBACK//object", "FEEDBACK//agree"]
    assert found["numeric_value"].tolist()[0] == 0.25 and found["numeric_value"].isna().tolist() == [
        False,
        True,
        True,
    ]
    assert str(found["time"].dtype) == "datetime64[us, UTC]"
    assert b"Doe" not in (tmp_path / "all.parquet").read_bytes()
    about = json.loads(found["attributes"][1])
    assert (about["reason"], about["model_digest"], about["probability"]) == ("wrong-answer", "d" * 64, 0.7)
    assert "i|s" not in found["attributes"][1] and about["reviewer"] == load_pseudonymiser().hash(
        "reviewer", "i|s"
    )
    assert export(tmp_path, tmp_path / "one.parquet", "demo", with_comments=True).count == 2
    assert "Mrs Doe told me" in pd.read_parquet(tmp_path / "one.parquet")["text_value"].tolist()


def test_no_modality_reads_proposals() -> None:
    assert "feedback" not in all_modalities(())
    assert not any(
        item.accepts("proposals.parquet", b"PAR1" + b"\0" * 508) for item in all_modalities(()).values()
    )


def test_the_verb_writes_them(
    own_hospital: Hospital, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, out = own_hospital.runs, tmp_path / "p.parquet"
    assert cli.run(["feedback", "export", str(runs), "--out", str(out)]) == 2
    assert "nobody gave feedback" in capsys.readouterr().err
    given(runs / "serve-records", row())
    assert cli.run(["feedback", "export", str(own_hospital.run), "--out", str(out)]) == 0
    assert "n = 1" in capsys.readouterr().out and len(pd.read_parquet(out)) == 1


def test_every_reason_is_in_words() -> None:
    assert all(code.islower() and words[0].isupper() for code, words in REASONS.items())
