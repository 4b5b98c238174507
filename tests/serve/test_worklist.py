"""Search, filters and order of the worklist, against the tables read anew."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from fastapi.testclient import TestClient

from clinimm.serve.catalogue import Catalogue, ServedRun
from clinimm.serve.feedback import Feedback
from clinimm.serve.identity import Role
from clinimm.serve.office import Office
from clinimm.serve.settings import ServeSettings
from clinimm.serve.worklist import Question, feedback_states, worklist
from tests.serve.hospital import SHOW, SUBJECT, Hospital, sign_in


@pytest.fixture
def run(hospital: Hospital) -> ServedRun:
    return Catalogue(hospital.runs, ServeSettings.model_validate(SHOW)).run("mock")


def shown(
    run: ServedRun, said: list[Feedback] | None = None, hidden: frozenset[str] = frozenset(), **asked: Any
):  # type: ignore[no-untyped-def]
    return worklist(run, Question.model_validate(asked), said or [], hidden)


def said(kind: str, subject: str, digest: str = "d" * 64) -> Feedback:
    return Feedback(kind, "mock", subject, "severe", digest, 0.5, "u", None, None, "", None, "t")  # type: ignore[arg-type]


def table(run: ServedRun) -> pd.DataFrame:
    return pd.read_parquet(run.workspace.root / "predict" / "predictions.parquet")


def test_everybody_is_there_most_probable_first_fifty_a_page(run: ServedRun) -> None:
    first, second = shown(run), shown(run, page=2)
    assert (first.found, first.total, first.pages, len(first.rows), len(second.rows)) == (60, 60, 2, 50, 10)
    listed = [row["probability"] for row in (*first.rows, *second.rows)]
    assert listed == sorted(table(run)["probability"], reverse=True)
    assert shown(run, page=99).page == 2


def test_a_probability_range_holds_both_ends(run: ServedRun) -> None:
    values = sorted(table(run)["probability"])
    found = shown(run, least=values[10], most=values[20])
    assert sorted(row["probability"] for row in found.rows) == values[10:21]


@pytest.mark.parametrize(("asked", "count"), [("s00", 10), ("S000", 1), (" s05 ", 10), ("%", 0), (".", 0)])
def test_search_is_for_a_part_of_the_pseudonym_and_no_pattern(run: ServedRun, asked: str, count: int) -> None:
    assert shown(run, search=asked).found == count


def test_days_sites_and_refusals(run: ServedRun) -> None:
    assert shown(run, since="2024-03-02", until="2024-03-02").found == 60
    assert shown(run, since="2024-03-03").found == shown(run, until="2024-03-01").found == 0
    assert shown(run, site="north").found == 60 and shown(run, site="south").found == 0
    assert [row["subject_id"] for row in shown(run, refusals="some").rows] == [SUBJECT]
    assert shown(run, refusals="none").found == 59


def test_the_last_word_on_a_patient_counts(run: ServedRun) -> None:
    rows = [said("impression", "S001"), said("agree", "S001"), said("object", "S002"), said("agree", "S002")]
    rows += [said("impression", "S003"), said("object", "S004"), said("impression", "S004")]
    states = {"S001": "agree", "S002": "agree", "S003": "impression", "S004": "object"}
    assert feedback_states(rows) == states
    for state in ("agree", "object", "impression"):
        found = {row["subject_id"] for row in shown(run, rows, feedback=state).rows}
        assert found == {subject for subject, value in states.items() if value == state}
    assert shown(run, rows, feedback="open").found == 56


@pytest.mark.parametrize("sort", ["probability", "-probability", "date", "-date", "patient"])
def test_the_order_is_whole(run: ServedRun, sort: str) -> None:
    rows = [*shown(run, sort=sort).rows, *shown(run, sort=sort, page=2).rows]
    assert len({row["subject_id"] for row in rows}) == 60
    if sort == "patient":
        assert [row["subject_id"] for row in rows] == sorted(row["subject_id"] for row in rows)


def test_nothing_of_a_hidden_answer_can_be_asked_out(run: ServedRun) -> None:
    """Neither the number, nor its place in the order, nor a range that it would fit."""
    everybody = frozenset(f"S{number:03d}" for number in range(60))
    hidden = everybody - {"S001", "S002"}
    assert all(row["probability"] is None for row in shown(run, hidden=everybody).rows)
    rows = shown(run, hidden=hidden).rows
    assert {row["subject_id"] for row in rows[:2]} == {"S001", "S002"}
    rest = [row["subject_id"] for row in rows[2:]]
    assert rest == sorted(rest)  # by pseudonym: the order tells nothing
    assert {row["subject_id"] for row in shown(run, hidden=hidden, least=0.0).rows} == {"S001", "S002"}
    assert shown(run, hidden=everybody, most=1.0).found == 0


@pytest.mark.parametrize(
    "query",
    [
        "least=2",
        "least=x",
        "sort=label",
        "page=0",
        "since=yesterday",
        "unknown=1",
        "search=" + "x" * 65,
        "site=north&site=south",
        "site=" + "x" * 201,
    ],
)
def test_what_cannot_be_looked_for_is_named(client: TestClient, office: Office, query: str) -> None:
    sign_in(client, office, Role.CLINICIAN)
    for address in ("/runs/mock", "/api/runs/mock/predictions"):
        answer = client.get(f"{address}?{query}")
        assert answer.status_code == 422 and "not-a-question" in answer.text
        assert query.partition("=")[0] in answer.text


def test_the_page_shows_the_rows_and_keeps_the_question(client: TestClient, office: Office) -> None:
    sign_in(client, office, Role.CLINICIAN)
    page = client.get("/runs/mock?sort=patient&since=2024-01-01&search=").text
    assert page.count("/runs/mock/patients/S0") == 50 and "60 patients of 60" in page
    assert "sort=patient&amp;page=2" in page or "page=2" in page
    assert 'value="2024-01-01"' in page and "<details open>" in page


def test_the_interface_gives_the_same_rows(client: TestClient, office: Office, run: ServedRun) -> None:
    sign_in(client, office, Role.DATA_SCIENTIST)
    given = client.get("/api/runs/mock/predictions?least=0.5&sort=patient").json()
    expected = table(run).query("probability >= 0.5").sort_values("subject_id")
    assert [row["subject_id"] for row in given["predictions"]] == list(expected["subject_id"])[:50]
    assert [row["probability"] for row in given["predictions"]] == pytest.approx(
        list(expected["probability"])[:50]
    )
    assert {row["answered_by"] for row in given["predictions"]} == {"held-out fit"}
