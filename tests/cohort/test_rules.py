from __future__ import annotations

from fnmatch import fnmatchcase

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinimm.cohort.event_rule import EventRule
from clinimm.cohort.rules import matches_pattern, names, says_something, says_yes

CODES = st.text(alphabet="AB/1-.+", max_size=5)
PATTERNS = st.text(alphabet="AB/1-.+*", min_size=1, max_size=5)


@given(st.lists(CODES, max_size=8), st.lists(PATTERNS, min_size=1, max_size=3))
def test_patterns_agree_with_fnmatch(codes: list[str], patterns: list[str]) -> None:
    found = matches_pattern(pd.Series(codes, dtype="str"), patterns)
    assert found.tolist() == [any(fnmatchcase(code, one) for one in patterns) for code in codes]


def test_an_absent_text_matches_nothing() -> None:
    assert not matches_pattern(pd.Series([None], dtype="str"), ["*"]).any()


@pytest.fixture
def readings() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "code": pd.Series(["X//1"] * 5, dtype="str"),
            "numeric_value": [1.0, 0.0, 38.0, 100.4, np.nan],
            "unit": pd.Series([None, None, "Cel", "[degF]", None], dtype="str"),
            "text_value": pd.Series([None, None, None, None, "Histo"], dtype="str"),
            "modality": pd.Series(["ehr"] * 5, dtype="str"),
            "category": pd.Series(["exam"] * 5, dtype="str"),
        }
    )


@pytest.mark.parametrize(
    ("value", "yes", "known"),
    [
        (True, [0], [0, 1, 2, 3]),
        (False, [1], [0, 1, 2, 3]),
        ({"min": 38}, [2, 3], [0, 1, 2, 3]),
        ({"min": 38, "max": 38}, [2], [0, 1, 2, 3]),
        ({"min": 38, "unit": "Cel"}, [2], [2]),
        ({"text": "histo"}, [4], [4]),
        ("his*", [4], [4]),
        (None, [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]),
    ],
)
def test_values(readings: pd.DataFrame, value: object, yes: list[int], known: list[int]) -> None:
    rule = EventRule.model_validate({"code": "X//1", "value": value})
    assert np.flatnonzero(says_yes(readings, rule)).tolist() == yes
    assert np.flatnonzero(says_something(readings, rule)).tolist() == known


def test_a_rule_asks_for_all_that_it_names(readings: pd.DataFrame) -> None:
    assert names(readings, EventRule.model_validate({"code": "X//*", "category": "EXAM"})).all()
    assert not names(readings, EventRule.model_validate({"code": "X//*", "modality": "notes"})).any()
