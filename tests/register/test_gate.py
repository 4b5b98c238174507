"""No model is registered without its audit; only one that passed is a candidate."""

from __future__ import annotations

import pytest

from clinimm.core.errors import AuditGateError
from clinimm.register.gate import decide

NOW = {"predict/predictions.parquet": "1", "cohort/cohort.parquet": "2"}


@pytest.mark.parametrize(("status", "candidate"), [(0, True), (1, False), (2, False), (None, False)])
def test_only_an_audit_that_passed_makes_a_candidate(status: int | None, candidate: bool) -> None:
    decision = decide({"exit_status": status}, NOW, NOW)
    assert decision.candidate is candidate


def test_broken_and_undecided_have_different_reasons() -> None:
    reasons = {decide({"exit_status": status}, NOW, NOW).reason for status in (0, 1, 2)}
    assert len(reasons) == 3


def test_no_audit_no_registration() -> None:
    with pytest.raises(AuditGateError, match="no model is registered without its audit"):
        decide(None, NOW, NOW)


@pytest.mark.parametrize("name", sorted(NOW))
def test_audit_of_other_tables_does_not_count(name: str) -> None:
    with pytest.raises(AuditGateError, match=name):
        decide({"exit_status": 0}, NOW | {name: "other"}, NOW)
    with pytest.raises(AuditGateError, match=name):
        decide({"exit_status": 0}, {key: value for key, value in NOW.items() if key != name}, NOW)
