"""Law 1: nothing later than the index time reaches a model."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clinimm.cohort.spec import CohortSpec
from clinimm.cohort.window import after_index, trusted, visible, with_index

Rows = list[dict[str, Any]]
MICROSECOND = timedelta(microseconds=1)


@pytest.fixture(scope="module")
def cohort(index: datetime) -> pd.DataFrame:
    times = pd.Series([index, index + timedelta(days=2)], dtype="datetime64[us, UTC]")
    return pd.DataFrame({"subject_id": pd.Series(["a", "b"], dtype="str"), "index_time": times})


@pytest.fixture(scope="module")
def codes_seen(
    table: Callable[[Rows], pd.DataFrame], cohort: pd.DataFrame
) -> Callable[[Rows, CohortSpec], list[str]]:
    return lambda rows, spec: visible(table(rows), cohort, spec, "ehr")["code"].tolist()


def test_a_fact_of_the_very_moment_is_visible_and_one_microsecond_later_is_not(
    event: Callable[..., dict[str, Any]],
    spec: Callable[..., CohortSpec],
    codes_seen: Callable[..., list[str]],
) -> None:
    rows = [event("a", timedelta(), "X//now"), event("a", MICROSECOND, "X//later")]
    assert codes_seen(rows, spec()) == ["X//now"]


def test_look_back_includes_its_edge(
    event: Callable[..., dict[str, Any]],
    spec: Callable[..., CohortSpec],
    codes_seen: Callable[..., list[str]],
) -> None:
    rows = [event("a", -30, "X//edge"), event("a", timedelta(days=-30) - MICROSECOND, "X//too_old")]
    assert codes_seen(rows, spec()) == ["X//edge"]
    assert codes_seen(rows, spec(inputs={"ehr": {}})) == ["X//too_old", "X//edge"]


def test_demographic_facts_are_timeless_but_not_prophetic(
    event: Callable[..., dict[str, Any]],
    spec: Callable[..., CohortSpec],
    codes_seen: Callable[..., list[str]],
) -> None:
    rows = [
        event("a", -4000, "DEMOGRAPHIC//sex", category="demographic"),
        event("a", MICROSECOND, "DEMOGRAPHIC//race", category="demographic"),
    ]
    assert codes_seen(rows, spec()) == ["DEMOGRAPHIC//sex"]


@pytest.mark.parametrize(
    "fields",
    [
        {"code": "X//1", "category": "outcome"},
        {"code": "X//1", "category": "Outcome"},
        {"code": "outcome//sick", "category": "exam"},
        {"code": "outcome//sick", "category": None},
    ],
)
def test_an_outcome_is_never_visible_whatever_the_file_says(
    event: Callable[..., dict[str, Any]],
    spec: Callable[..., CohortSpec],
    codes_seen: Callable[..., list[str]],
    fields: dict[str, Any],
) -> None:
    code = fields.pop("code")
    rows = [event("a", -1, code, **fields)]
    for rule in ({}, {"include": ["*"]}, {"include": ["out*", "X//1"], "categories": {"include": ["*"]}}):
        assert codes_seen(rows, spec(inputs={"ehr": rule})) == []


def test_filters(
    event: Callable[..., dict[str, Any]],
    spec: Callable[..., CohortSpec],
    codes_seen: Callable[..., list[str]],
) -> None:
    rows = [
        event("a", -3, "LOINC//1"),
        event("a", -2, "LOINC//2", category="vital-signs"),
        event("a", -1, "ICD10CM//I10", category="condition"),
    ]
    assert codes_seen(rows, spec(inputs={"ehr": {"include": ["LOINC//*"]}})) == ["LOINC//1", "LOINC//2"]
    assert codes_seen(rows, spec(inputs={"ehr": {"exclude": ["LOINC//*"]}})) == ["ICD10CM//I10"]
    only = {"categories": {"include": ["vital-signs", "condition"], "exclude": ["condition"]}}
    assert codes_seen(rows, spec(inputs={"ehr": only})) == ["LOINC//2"]


def test_a_modality_that_the_file_does_not_name_is_invisible(
    film: Callable[..., dict[str, Any]],
    spec: Callable[..., CohortSpec],
    table: Callable[[Rows], pd.DataFrame],
    cohort: pd.DataFrame,
) -> None:
    events = table([film("a")])
    assert len(visible(events, cohort, spec(), "radiology")) == 1
    nothing = visible(events, cohort, spec(inputs={"ehr": {}}), "radiology")
    assert nothing.empty
    assert list(nothing.columns) == [*events.columns, "index_time", "time_hours"]
    assert nothing.dtypes.equals(visible(events, cohort, spec(), "radiology").dtypes)


def test_hours_and_order(
    event: Callable[..., dict[str, Any]],
    spec: Callable[..., CohortSpec],
    table: Callable[[Rows], pd.DataFrame],
    cohort: pd.DataFrame,
) -> None:
    events = table(
        [event("b", 0, "X//1"), event("a", -1, "X//1"), event("a", -2, "X//2"), event("c", -1, "X//1")]
    )
    seen = visible(events, cohort, spec(), "ehr")
    assert seen["subject_id"].tolist() == ["a", "a", "b"]
    assert seen["time_hours"].tolist() == [48.0, 24.0, 48.0]


def test_impossible_times_are_left_out_and_absurd_numbers_are_null(
    event: Callable[..., dict[str, Any]], table: Callable[[Rows], pd.DataFrame]
) -> None:
    events = table(
        [
            event("a", -3, "X//1", numeric_value=1.0),
            event("a", -2, "X//2", numeric_value=999.0, flags="absurd_value"),
            event("a", -1, "X//3", numeric_value=3.0, flags="absurd_value,future"),
            event("a", 0, "X//4", numeric_value=4.0, flags="futuristic"),
        ]
    )
    sound = trusted(events)
    assert sound["code"].tolist() == ["X//1", "X//2", "X//4"]
    assert sound["numeric_value"].isna().tolist() == [False, True, False]


def test_a_replaced_fact_is_an_input_until_then_and_does_not_tell_that_it_will_be_replaced(
    event: Callable[..., dict[str, Any]],
    spec: Callable[..., CohortSpec],
    table: Callable[[Rows], pd.DataFrame],
    cohort: pd.DataFrame,
    index: datetime,
) -> None:
    events = table(
        [
            event("a", -3, "X//ended", until=index - timedelta(days=1)),
            event("a", -3, "X//ended_at_the_index", until=index),
            event("a", -3, "X//ended_later", until=index + MICROSECOND),
            event("a", -3, "X//stands"),
            event("a", -3, "X//changed_some_time", flags="undated_revision"),
        ]
    )
    seen = visible(events, cohort, spec(), "ehr")
    assert seen["code"].tolist() == ["X//ended_later", "X//stands"]
    assert seen["until"].isna().all()
    assert trusted(events)["code"].tolist() == ["X//stands"]


def test_the_label_window_is_open_on_the_left_and_closed_on_the_right(
    event: Callable[..., dict[str, Any]], table: Callable[[Rows], pd.DataFrame], cohort: pd.DataFrame
) -> None:
    offsets = [
        timedelta(),
        MICROSECOND,
        timedelta(days=7),
        timedelta(days=30),
        timedelta(days=30) + MICROSECOND,
    ]
    placed = with_index(table([event("a", offset, "X//1") for offset in offsets]), cohort)
    month = timedelta(days=30)
    assert after_index(placed, (timedelta(), month)).tolist() == [False, True, True, True, False]
    assert after_index(placed, (timedelta(days=7), None)).tolist() == [False, False, False, True, True]


# One instant in four strategies' worth of trouble: at the index, next to it, before and after it.
OFFSETS = st.one_of(
    st.sampled_from([timedelta(), MICROSECOND, -MICROSECOND]),
    st.timedeltas(min_value=timedelta(days=-60), max_value=timedelta(days=60)),
)
FACTS = st.tuples(
    st.sampled_from("abc"),
    OFFSETS,
    st.sampled_from(["LOINC//1", "LOINC//2", "DEMOGRAPHIC//sex", "outcome//sick", "NOTE//1"]),
    st.sampled_from(["ehr", "notes", "radiology"]),
    st.sampled_from(["laboratory", "demographic", "outcome", None]),
    st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
    st.sampled_from([None, "future", "absurd_value", "undated_revision"]),
    st.one_of(st.none(), OFFSETS),
)
FIELDS = ("modality", "category", "numeric_value", "flags", "until")


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    facts=st.lists(FACTS, max_size=12),
    later=st.lists(st.tuples(FACTS, st.timedeltas(MICROSECOND, timedelta(days=900))), max_size=8),
    dropped=st.sets(st.integers(0, 11)),
    changed=st.sets(st.integers(0, 11)),
)
def test_law_1_later_facts_change_no_byte(
    event: Callable[..., dict[str, Any]],
    spec: Callable[..., CohortSpec],
    table: Callable[[Rows], pd.DataFrame],
    cohort: pd.DataFrame,
    index: datetime,
    facts: list[tuple[Any, ...]],
    later: list[tuple[tuple[Any, ...], timedelta]],
    dropped: set[int],
    changed: set[int],
) -> None:
    index_of = dict(zip(cohort["subject_id"], cohort["index_time"], strict=True))

    def row(fact: tuple[Any, ...]) -> dict[str, Any]:
        one = event(*fact[:3], **dict(zip(FIELDS, fact[3:], strict=True)))
        return {**one, "until": None if one["until"] is None else one["time"] + abs(one["until"])}

    before = [row(fact) for fact in facts]
    after = []
    for number, fact_row in enumerate(before):
        one = fact_row
        at = index_of.get(one["subject_id"], index)
        is_later = one["time"] > at
        if number in changed and (one["until"] is None or one["until"] > at):
            # It was taken back, or left to stand, after the index.
            one = {**one, "until": at + MICROSECOND if one["until"] is None else None}
        if is_later and number in dropped:
            continue
        after.append(
            {**one, "numeric_value": -1.0, "code": "CHANGED//1"} if is_later and number in changed else one
        )
    for fact, delay in later:
        one = row(fact)
        after.append({**one, "time": index_of.get(one["subject_id"], index) + delay})
    limits = spec(inputs={"ehr": {"look_back": "30 d"}, "notes": {}, "radiology": {"look_back": "0 d"}})
    short, long = table(before), table(after)
    for modality in ("ehr", "notes", "radiology"):
        first = visible(short, cohort, limits, modality)
        second = visible(long, cohort, limits, modality)
        assert first.to_csv() == second.to_csv()
        pd.testing.assert_frame_equal(first, second, check_exact=True)
        assert (second["time"] <= second["index_time"]).all()
