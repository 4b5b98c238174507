from __future__ import annotations

import pandas as pd
import pytest

from clinimm.report.budget import budget_of
from clinimm.report.facts import RunFacts
from clinimm.report.subject import read_subject


def _budget(run):
    facts = RunFacts(run.workspace)
    found = budget_of(facts, read_subject(facts, run.subject))
    assert found is not None
    return found


def test_both_columns_sum_to_the_logit(run) -> None:
    budget = _budget(run)
    assert budget.whole
    by_parts = budget.start + sum(row.score or 0 for row in budget.rows) + budget.residual
    by_presence = budget.presence_start + sum(row.presence or 0 for row in budget.rows)
    assert by_parts == pytest.approx(budget.logit) == by_presence


def test_what_the_parts_leave_over_is_the_residual(run) -> None:
    path = run.workspace.root / "explain" / "summary.parquet"
    table = pd.read_parquet(path)
    table.assign(logit=table["logit"] + 0.25).to_parquet(path)
    budget = _budget(run)
    assert budget.residual == pytest.approx(0.25) and budget.whole


def test_pairs_are_named_with_their_interaction(run) -> None:
    assert _budget(run).pairs == (("Health record", "Radiology", -0.4),)


def test_a_subject_without_an_explanation_has_no_budget(run) -> None:
    facts = RunFacts(run.workspace)
    assert budget_of(facts, read_subject(facts, run.bare)) is None
