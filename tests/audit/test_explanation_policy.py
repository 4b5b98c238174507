from __future__ import annotations

from typing import get_args

import pytest
from pydantic import ValidationError

from clinimm.audit.explanation_policy import CheckName, ExplanationPolicy
from clinimm.explain.check import CHECKS


def test_every_check_can_have_a_rule_and_no_other() -> None:
    assert set(get_args(CheckName)) == set(CHECKS)
    with pytest.raises(ValidationError, match="check"):
        ExplanationPolicy.model_validate({"rules": [{"check": "beauty", "limit": 1}]})


def test_a_check_has_one_rule() -> None:
    rule = {"check": "deletion", "limit": 0}
    with pytest.raises(ValidationError, match="doubled: deletion"):
        ExplanationPolicy.model_validate({"rules": [rule, rule]})


def test_a_policy_without_the_part_judges_nothing() -> None:
    assert ExplanationPolicy().rules == ()
