from __future__ import annotations

import pandas as pd

from clinimm.report.facts import RunFacts
from clinimm.report.standings import check_rows, left_after_randomisation, map_states
from clinimm.report.subject import read_subject


def test_each_map_has_the_state_that_the_run_gave_it(run) -> None:
    path = run.workspace.root / "explain" / "standings.parquet"
    table = pd.read_parquet(path)
    table.loc[table["modality"] == "radiology", ["state", "sentence"]] = ["hidden", "Not shown: why."]
    table[table["modality"] != "notes"].to_parquet(path)
    facts = RunFacts(run.workspace)
    found = map_states(facts, read_subject(facts, run.subject))
    assert found["radiology"].hidden and found["radiology"].sentence == "Not shown: why."
    assert found["ehr"].state == "shown" and found["ehr"].measured
    assert not found["notes"].measured, "a map without a row was not checked"


def test_checks_stand_beside_what_the_policy_asks(run) -> None:
    facts = RunFacts(run.workspace)
    rows = dict(check_rows(facts, read_subject(facts, run.subject)))
    assert next(iter(rows)) == "All sources together" and len(rows) == 5
    (row,) = rows["Radiology"]
    assert row.holds and row.found == "−0.20 against +0.30, a gain of +0.50" and row.asked == "at least 0"


def test_a_check_that_fails_says_so(run) -> None:
    path = run.workspace.root / "explain" / "checks.parquet"
    pd.read_parquet(path).assign(value=0.9, judged=-0.6).to_parquet(path)
    facts = RunFacts(run.workspace)
    assert not any(
        row.holds for _, rows in check_rows(facts, read_subject(facts, run.subject)) for row in rows
    )


def test_what_is_left_after_randomisation_is_a_mean_over_shuffles(run) -> None:
    rows = [("encoders", 0, 0.2), ("encoders", 0, 0.4), ("encoders", 1, -0.5), ("answer", 0, 0.9)]
    table = pd.DataFrame(rows, columns=["depth", "seed", "correlation"]).assign(modality="radiology")
    table.to_parquet(run.workspace.root / "explain" / "randomisation.parquet")
    ((title, left, shuffles),) = left_after_randomisation(RunFacts(run.workspace))
    assert (title, round(left, 6), shuffles) == ("Radiology", 0.4, 2)
