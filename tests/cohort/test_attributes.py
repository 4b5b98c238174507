from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from clinimm.cohort.attributes import age_bands, attribute_table
from clinimm.cohort.select import index_times
from clinimm.cohort.spec import CohortSpec

Rows = list[dict[str, Any]]


@pytest.fixture
def attributes(
    table: Callable[[Rows], pd.DataFrame],
    film: Callable[..., dict[str, Any]],
    spec: Callable[..., CohortSpec],
) -> Callable[..., pd.DataFrame]:
    def build(rows: Rows, **audit: Any) -> pd.DataFrame:
        events = table([*rows, film("a"), film("b")])
        cohort_spec = spec(audit_attributes=audit)
        cohort = index_times(events, cohort_spec.index)
        return attribute_table(events, cohort, cohort_spec.audit_attributes).set_index("subject_id")

    return build


@pytest.fixture
def person(event: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def build(subject: str, name: str, value: str | float, days: float = -365.25) -> dict[str, Any]:
        field = "text_value" if isinstance(value, str) else "numeric_value"
        return event(subject, days, f"DEMOGRAPHIC//{name}", category="demographic", **{field: value})

    return build


def test_age_grows_from_the_newest_record_and_stops_at_ninety(
    attributes: Callable[..., pd.DataFrame], person: Callable[..., dict[str, Any]]
) -> None:
    found = attributes(
        [
            person("a", "age_years", 63.0, -2 * 365.25),
            person("a", "age_years", 64.0, -365.25 / 2),
            person("a", "age_years", 12.0, 1),
            person("b", "age_years", 90.0),
        ]
    )
    assert found["age_years"].tolist() == pytest.approx([64.5, 90.0])
    assert found["age_band"].tolist() == ["40-64", "65+"]


def test_an_unknown_age_has_no_band(attributes: Callable[..., pd.DataFrame]) -> None:
    found = attributes([])
    assert math.isnan(found["age_years"].iloc[0])
    assert found[["age_band", "sex", "race", "ethnicity", "site_id"]].isna().all(axis=None)


def test_bands_include_their_lower_edge() -> None:
    ages = pd.Series([0.0, 17.99, 18.0, 39.99, 65.0, 90.0])
    assert age_bands(ages, [0, 18, 40, 65, 130]).tolist() == ["0-17", "0-17", "18-39", "18-39", "65+", "65+"]
    assert age_bands(pd.Series([70.0]), [0, 40, 65]).isna().all()


def test_sex_race_and_ethnicity_as_known_at_the_index(
    attributes: Callable[..., pd.DataFrame], person: Callable[..., dict[str, Any]]
) -> None:
    rows = [person("a", "sex", "female"), person("a", "sex", "male", 1), person("a", "race", "Asian")]
    found = attributes(rows)
    assert found.loc["a", ["sex", "race"]].tolist() == ["female", "Asian"]
    hidden = attributes(rows, race=False)
    assert hidden["race"].isna().all()
    assert hidden["_race"].tolist()[0] == "Asian"


def test_the_newest_site_at_or_before_the_index(
    attributes: Callable[..., pd.DataFrame], event: Callable[..., dict[str, Any]]
) -> None:
    rows = [
        event("a", -9, "X//1", attributes='{"site": "old"}'),
        event("a", -2, "X//1", attributes='{"view":"AP","site":"new"}'),
        event("a", -1, "X//1", attributes='{"site": null}'),
        event("a", 1, "X//1", attributes='{"site": "later"}'),
    ]
    assert attributes(rows)["site_id"].tolist()[0] == "new"


def test_a_custom_attribute_may_be_an_outcome(
    attributes: Callable[..., pd.DataFrame], event: Callable[..., dict[str, Any]]
) -> None:
    rows = [
        event("a", 5, "outcome//confirmed_by", category="outcome", text_value="histo"),
        event("a", 3, "X//grade", numeric_value=2.0),
        event("a", 4, "X//grade", numeric_value=3.0),
        event("b", 1, "X//seen"),
    ]
    custom = {
        "confirmation": {"code": "outcome//confirmed_by"},
        "grade": {"code": "X//grade", "which": "first"},
        "seen": {"code": "X//seen", "window": ["0 d", "1 d"]},
    }
    found = attributes(rows, custom=custom)
    assert found.loc["a", ["confirmation", "grade"]].tolist() == ["histo", "2"]
    assert found["seen"].fillna("-").tolist() == ["-", "yes"]
