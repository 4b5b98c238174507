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


def _change(run, **columns) -> None:
    path = run.workspace.root / "explain" / "summary.parquet"
    table = pd.read_parquet(path)
    table.assign(**{name: table[name] + by for name, by in columns.items()}).to_parquet(path)


def test_both_columns_sum_to_the_logit(run) -> None:
    budget = _budget(run)
    by_parts = budget.start + sum(row.score or 0 for row in budget.rows) + budget.residual
    by_presence = budget.presence_start + sum(row.presence or 0 for row in budget.rows)
    assert by_parts == pytest.approx(budget.logit) == by_presence + budget.presence_residual
    assert budget.presence_residual == pytest.approx(0, abs=1e-9)


def test_what_the_parts_leave_over_is_the_residual_of_each_column(run) -> None:
    _change(run, logit=0.25)
    budget = _budget(run)
    assert budget.residual == pytest.approx(0.25) == budget.presence_residual


def test_a_start_that_does_not_fit_the_values_is_seen_and_not_made_up_for(run) -> None:
    start = _budget(run).presence_start
    _change(run, empty_logit=-0.1)
    budget = _budget(run)
    assert budget.presence_start == pytest.approx(start - 0.1)
    assert budget.presence_residual == pytest.approx(0.1) and budget.residual == pytest.approx(0)


def test_a_run_of_an_earlier_version_has_no_start_and_no_residual_for_presence(run) -> None:
    path = run.workspace.root / "explain" / "summary.parquet"
    pd.read_parquet(path).drop(columns="empty_logit").to_parquet(path)
    budget = _budget(run)
    assert budget.presence_start is None and budget.presence_residual is None
    assert budget.residual == pytest.approx(0) and any(row.presence for row in budget.rows)


def test_pairs_are_named_with_their_interaction(run) -> None:
    assert _budget(run).pairs == (("Health record", "Radiology", -0.4),)


def test_a_subject_without_an_explanation_has_no_budget(run) -> None:
    facts = RunFacts(run.workspace)
    assert budget_of(facts, read_subject(facts, run.bare)) is None
