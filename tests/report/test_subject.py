from __future__ import annotations

import pandas as pd
import pytest

from clinimm.report.facts import RunFacts
from clinimm.report.subject import is_explained, neighbours, read_subject


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
