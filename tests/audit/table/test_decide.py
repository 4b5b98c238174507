from __future__ import annotations

import math

import pytest

from clinimm.audit.policy import Rule
from clinimm.audit.table.decide import Needed, needed_text, verdict_of
from tests.audit.table.conftest import rule

_NAN = math.nan


@pytest.mark.parametrize(
    ("metric", "low", "high", "verdict"),
    [
        ("fnr", -0.30, 0.05, "pass"),  # better than the others is no harm to this group
        ("fnr", 0.11, 0.30, "fail"),
        ("fnr", 0.05, 0.20, "inconclusive"),
        ("auroc", -0.09, 0.30, "pass"),
        ("auroc", -0.30, -0.11, "fail"),
        ("auroc", -0.20, 0.00, "inconclusive"),
        ("selection_rate", -0.09, 0.09, "pass"),  # both directions count
        ("selection_rate", 0.11, 0.20, "fail"),
        ("selection_rate", -0.20, -0.11, "fail"),
        ("selection_rate", -0.20, 0.05, "inconclusive"),
        ("fnr", _NAN, _NAN, "inconclusive"),
    ],
)
def test_the_whole_interval_decides(metric: str, low: float, high: float, verdict: str) -> None:
    asked = Rule.model_validate(rule(metric, margin=0.1))
    assert verdict_of(asked, (low + high) / 2, low, high) == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.85, 1.2, "pass"), (0.5, 0.79, "fail"), (0.7, 0.9, "inconclusive"), (1.3, math.inf, "fail")],
)
def test_four_fifths_both_ways(low: float, high: float, verdict: str) -> None:
    asked = Rule.model_validate(rule("selection_rate", margin=0.8, stat="ratio"))
    assert verdict_of(asked, (low + min(high, 3)) / 2, low, high) == verdict


def test_needed_in_words() -> None:
    assert needed_text(Needed(1600, "group"), "positives") == (
        "about 1,600 more positives of this group would settle it"
    )
    assert "in the whole table" in needed_text(Needed(20, "table"), "rows")
    assert needed_text(None, "rows").startswith("no number")
