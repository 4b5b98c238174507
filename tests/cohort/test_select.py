from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pandas as pd
import pytest

from clinimm.cohort.select import require_answerable, select
from clinimm.cohort.spec import CohortSpec
from clinimm.core.errors import DataError

Rows = list[dict[str, Any]]


@pytest.fixture
def ward(
    event: Callable[..., dict[str, Any]],
    film: Callable[..., dict[str, Any]],
    table: Callable[[Rows], pd.DataFrame],
) -> pd.DataFrame:
    """Six subjects: a to e with a film, f without; ages 70, 50, 30, 10 and unknown."""
    ages = {"a": 70.0, "b": 50.0, "c": 30.0, "d": 10.0}
    rows = [film(name) for name in "abcde"] + [film("a", 5), event("f", 0, "X//1")]
    rows += [
        event(name, -1, "DEMOGRAPHIC//age_years", category="demographic", numeric_value=age)
        for name, age in ages.items()
    ]
    rows += [event("a", -1, "DEMOGRAPHIC//sex", category="demographic", text_value="female")]
    rows += [
        event("a", -2, "LOINC//8310-5", numeric_value=39.0),
        event("b", -2, "LOINC//8310-5", numeric_value=36.5),
    ]
    rows += [event("c", 2, "LOINC//8310-5", numeric_value=39.0)]
    rows += [
        event(name, 9, "outcome//sick", category="outcome", numeric_value=float(name == "a")) for name in "ab"
    ]
    return table(rows)


def test_the_first_or_the_last_event_is_the_index(
    ward: pd.DataFrame, spec: Callable[..., CohortSpec], index: datetime
) -> None:
    first = select(ward, spec()).cohort.set_index("subject_id")["index_time"]
    assert first["a"] == pd.Timestamp(index)
    last = select(ward, spec(index={"modality": "radiology", "which": "last", "delay": "1 h"})).cohort
    assert last.set_index("subject_id")["index_time"]["a"] == pd.Timestamp(index) + pd.Timedelta(
        days=5, hours=1
    )


def test_the_index_may_be_a_value(ward: pd.DataFrame, spec: Callable[..., CohortSpec]) -> None:
    chosen = select(ward, spec(index={"code": "LOINC//8310-5", "value": {"min": 38}})).cohort
    assert chosen["subject_id"].tolist() == ["a", "c"]


def test_the_flow_says_how_many_left_and_why(ward: pd.DataFrame, spec: Callable[..., CohortSpec]) -> None:
    chosen = select(
        ward,
        spec(
            inclusion=[{"name": "adults", "age_years": {"min": 18}}],
            exclusion=[{"name": "had no fever", "code": "LOINC//8310-5", "value": {"max": 37.9}}],
        ),
    )
    index_step, adults, fever = chosen.flow.steps
    assert (index_step.before, index_step.left, index_step.after) == (6, 1, 5)
    assert adults.reasons == {"age unknown": 1, "younger than 18 years": 1}
    assert (fever.kind, fever.left, fever.reasons) == ("exclusion", 1, {})
    assert chosen.cohort["subject_id"].tolist() == ["a", "c"]
    assert chosen.flow.label == {
        "task": "sick",
        "kind": "binary",
        "labelled": 1,
        "unlabelled": 1,
        "classes": {"sick": 1, "not sick": 0},
    }


@pytest.mark.parametrize(
    ("criterion", "kept", "reasons"),
    [
        (
            {"code": "LOINC//8310-5", "value": {"min": 38}},
            "a",
            {"nothing recorded in the window": 3, "only with another value": 1},
        ),
        ({"code": "LOINC//8310-5", "window": ["ever", "ever"]}, "abc", {"nothing recorded in the window": 2}),
        ({"code": "LOINC//8310-5", "window": ["-2 d", "-2 d"]}, "ab", {"nothing recorded in the window": 3}),
        ({"category": "CR", "at_least": 2, "window": ["ever", "ever"]}, "a", {"fewer than 2": 4}),
        ({"age_years": {"min": 30, "max": 50}}, "bc", None),
        ({"age_years": {"max": 10}}, "d", None),
        ({"attribute": {"sex": ["Female"]}}, "a", {"sex unknown": 4}),
    ],
)
def test_inclusion(
    ward: pd.DataFrame,
    spec: Callable[..., CohortSpec],
    criterion: dict[str, Any],
    kept: str,
    reasons: dict[str, int] | None,
) -> None:
    chosen = select(ward, spec(inclusion=[{"name": "step", **criterion}]))
    assert "".join(chosen.cohort["subject_id"]) == kept
    step = chosen.flow.steps[1]
    assert sum(step.reasons.values()) == step.left
    assert reasons is None or step.reasons == reasons
    without = select(ward, spec(exclusion=[{"name": "step", **criterion}]))
    assert sorted([*chosen.cohort["subject_id"], *without.cohort["subject_id"]]) == list("abcde")


def test_selecting_on_the_future_is_said_aloud(ward: pd.DataFrame, spec: Callable[..., CohortSpec]) -> None:
    step = {"name": "was seen again", "category": "CR", "window": ["1 d", "30 d"]}
    warnings = select(ward, spec(inclusion=[step])).flow.warnings
    assert any("'was seen again' selects on what happened after the index" in text for text in warnings)


def test_unknown_labels_leave_where_the_file_says_so(
    ward: pd.DataFrame, spec: Callable[..., CohortSpec]
) -> None:
    label = {
        "task": "sick",
        "code": "outcome//sick",
        "value": True,
        "window": ["0 d", "30 d"],
        "absent": "exclude",
    }
    chosen = select(ward, spec(label=label))
    assert chosen.cohort["subject_id"].tolist() == ["a", "b"]
    assert (chosen.flow.steps[-1].name, chosen.flow.steps[-1].left) == ("sick is known", 3)


def test_columns_of_the_contract(ward: pd.DataFrame, spec: Callable[..., CohortSpec]) -> None:
    audit = {"custom": {"confirmation": {"code": "X//none"}}}
    found = select(ward, spec(audit_attributes=audit)).cohort
    assert list(found.columns) == [
        *("subject_id", "index_time", "label", "labelled", "site_id"),
        *("sex", "age_years", "age_band", "race", "ethnicity", "confirmation"),
    ]
    assert str(found["index_time"].dtype) == "datetime64[us, UTC]"
    assert found["labelled"].dtype == bool


def test_an_empty_cohort_names_the_step_and_what_the_data_hold(
    ward: pd.DataFrame, spec: Callable[..., CohortSpec]
) -> None:
    for parts, words in (
        ({"index": {"modality": "pathology"}}, "The data hold the modalities ehr (11), radiology (6)"),
        ({"inclusion": [{"name": "old", "age_years": {"min": 99}}]}, "after the step 'old' (5 before)"),
        (
            {"label": {"task": "x", "code": "outcome//x", "value": True, "window": ["0 d", "1 d"]}},
            "outcome//sick (2)",
        ),
    ):
        with pytest.raises(DataError) as raised:
            require_answerable(select(ward, spec(**parts)), ward, spec(**parts))
        assert words in str(raised.value)


def test_an_input_that_sees_nothing_and_impossible_times_are_said_aloud(
    ward: pd.DataFrame,
    spec: Callable[..., CohortSpec],
    event: Callable[..., dict[str, Any]],
    table: Callable[[Rows], pd.DataFrame],
) -> None:
    events = pd.concat([ward, table([event("a", -3, "X//9", flags="future")])], ignore_index=True)
    warnings = select(events, spec(inputs={"ehr": {}, "radilogy": {}})).flow.warnings
    assert "1 events have a time in the future and are left out." in warnings
    assert "input 'radilogy' sees nothing: the data hold ehr, radiology." in warnings


def test_the_order_of_the_events_does_not_matter(ward: pd.DataFrame, spec: Callable[..., CohortSpec]) -> None:
    shuffled = ward.sample(frac=1, random_state=0).reset_index(drop=True)
    pd.testing.assert_frame_equal(select(ward, spec()).cohort, select(shuffled, spec()).cohort)
