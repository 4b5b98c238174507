from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest

from clinimm.report.facts import RunFacts
from clinimm.report.patient_report import patient_page
from clinimm.report.subject import is_explained, neighbours, read_subject
from tests.report.conftest import INDEX, MockRun


def test_similar_patients_are_counted_without_the_patient(run) -> None:
    facts = RunFacts(run.workspace)
    prediction = read_subject(facts, run.subject).prediction
    found = neighbours(facts, prediction)
    table = facts.predictions
    near = table[
        (table["subject_id"] != run.subject)
        & ((table["probability"] - prediction["probability"]).abs() <= 0.1)
    ]
    assert found is not None
    assert (found.n, found.positives) == (len(near), int(near["label"].sum()))
    share, n, z = found.positives / found.n, found.n, 1.959964
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    assert found.low == pytest.approx(middle - reach, abs=1e-5), "Wilson 1927"
    assert found.high == pytest.approx(middle + reach, abs=1e-5)


def test_too_few_similar_patients_give_no_figure(run) -> None:
    facts = RunFacts(run.workspace)
    assert neighbours(facts, read_subject(facts, run.subject).prediction, minimum=1000) is None


def test_whether_a_page_would_hold_an_explanation(run) -> None:
    assert is_explained(run.workspace, run.subject)
    assert not is_explained(run.workspace, run.bare)


def test_an_explanation_made_on_request_is_found(run) -> None:
    explain = run.workspace.root / "explain"
    requested = explain / ".requested" / run.bare
    requested.mkdir(parents=True)
    for name in ("attributions", "summary", "contributions"):
        table = pd.read_parquet(explain / f"{name}.parquet").assign(subject_id=run.bare)
        table.to_parquet(requested / f"{name}.parquet")
    assert is_explained(run.workspace, run.bare)


def test_events_after_the_index_time_are_not_read(run) -> None:
    subject = read_subject(RunFacts(run.workspace), run.subject)
    assert (subject.events["time"] <= subject.prediction["index_time"]).all()
    assert 777.0 not in set(subject.events["numeric_value"])


HOUR, DAY = pd.Timedelta(hours=1), pd.Timedelta(days=1)
#: What the window keeps from the model, by what keeps it.
BARRED: dict[str, dict[str, Any]] = {
    "later": {"time": INDEX + HOUR},
    "outcome by code": {"code": "outcome//severe"},
    "outcome by category": {"category": "outcome"},
    "too old": {"time": INDEX - 400 * DAY},
    "excluded by the cohort file": {"code": "LOINC//barred-1"},
    "modality that is no input": {"modality": "genomics"},
    "time in the future of the ingest": {"flags": "future"},
    "number that cannot be": {"flags": "absurd_value", "text_value": None},
}


@pytest.mark.parametrize("reason", BARRED)
def test_fact_that_the_window_excludes_is_never_on_a_page(run: MockRun, reason: str) -> None:
    fact: dict[str, Any] = {
        "subject_id": run.subject, "time": INDEX - HOUR, "code": "LOINC//2160-0", "modality": "ehr",
        "category": "laboratory", "numeric_value": 31.4159, "text_value": "unmistakable", "unit": "mg/dL",
    }  # fmt: skip
    assert _shows(run, fact | {"code": "LOINC//6298-4"}), "a fact that is visible is shown"
    assert not _shows(run, fact | {"code": "LOINC//6298-4"} | BARRED[reason])


def _shows(run: MockRun, fact: dict[str, Any]) -> bool:
    """Whether the page shows a fact of which an attribution, rightly or wrongly, speaks."""
    path = run.workspace.root / "ingest" / "events.parquet"
    before = path.read_bytes()
    events = pd.read_parquet(path)
    row = pd.DataFrame([fact]).reindex(columns=events.columns)
    pd.concat([events, row.astype({"time": events["time"].dtype})], ignore_index=True).to_parquet(path)
    attributions = run.workspace.root / "explain" / "attributions.parquet"
    kept = attributions.read_bytes()
    table = pd.read_parquet(attributions)
    place = table[table["kind"] == "event"].iloc[[0]]
    hours = (INDEX - fact["time"]) / HOUR
    place = place.assign(text=fact["code"], time_hours=hours, score=9.0, box=json.dumps([]))
    pd.concat([table, place], ignore_index=True).to_parquet(attributions)
    try:
        facts = RunFacts(run.workspace)
        values = read_subject(facts, run.subject).events["numeric_value"]
        page = patient_page(facts, run.subject)
        shown = "31.4159" in page or "unmistakable" in page
        assert shown == bool((values == 31.4159).any())
        return shown
    finally:
        path.write_bytes(before)
        attributions.write_bytes(kept)
