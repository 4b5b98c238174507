from __future__ import annotations

import pytest

from clinimm.audit.groups import MISSING, levels_of
from clinimm.core.errors import DataError


def test_attributes_are_the_cohorts_audit_columns(tables):
    found = levels_of(tables.cohort(300), [f"S{i:05d}" for i in range(300)])
    assert set(found) == {"site", "sex", "age_band", "race", "ethnicity"}


def test_a_missing_demographic_is_a_level_of_its_own_and_nobody_vanishes(tables):
    found = levels_of(tables.cohort(300), [f"S{i:05d}" for i in range(300)])
    assert set(found["sex"]) == {"female", "male", MISSING}
    assert len(found["sex"]) == 300
    assert set(found["ethnicity"]) == {MISSING}


def test_attributes_follow_the_subject_not_the_row(tables):
    table = tables.cohort(4, sex=["a", "b", "c", "d"]).iloc[::-1]
    assert levels_of(table, ["S00002", "S00000"])["sex"].tolist() == ["c", "a"]


def test_a_predicted_subject_outside_the_cohort_is_an_error(tables):
    with pytest.raises(DataError, match="10 predicted subjects are not in the cohort"):
        levels_of(tables.cohort(50), [f"S{i:05d}" for i in range(60)])
