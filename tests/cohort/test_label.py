from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from clinimm.cohort.label import answers, class_counts, classes, label_warnings
from clinimm.cohort.select import index_times
from clinimm.cohort.spec import CohortSpec

Rows = list[dict[str, Any]]
MICROSECOND = timedelta(microseconds=1)
WINDOW = ["0 d", "30 d"]


@pytest.fixture
def answered(
    table: Callable[[Rows], pd.DataFrame],
    film: Callable[..., dict[str, Any]],
    spec: Callable[..., CohortSpec],
) -> Callable[[Rows, dict[str, Any]], pd.DataFrame]:
    """Answers for the subjects a, b and c, each with a film at the index."""

    def build(rows: Rows, label: dict[str, Any]) -> pd.DataFrame:
        events = table([*rows, *(film(name) for name in "abc")])
        cohort_spec = spec(label={"task": "sick", "window": WINDOW, **label})
        return answers(events, index_times(events, cohort_spec.index), cohort_spec.label)

    return build


def _same(found: pd.Series, expected: list[float]) -> bool:
    return bool(np.array_equal(found.to_numpy(), np.asarray(expected), equal_nan=True))


def test_binary_yes_no_and_unknown(
    answered: Callable[..., pd.DataFrame], event: Callable[..., dict[str, Any]]
) -> None:
    rows = [
        event("a", 1, "outcome//sick", numeric_value=1.0),
        event("b", 1, "outcome//sick", numeric_value=0.0),
    ]
    found = answered(rows, {"code": "outcome//sick", "value": True})
    assert _same(found["label"], [1, 0, np.nan])
    assert found["labelled"].tolist() == [True, True, False]
    assert _same(answered(rows, {"code": "outcome//s*", "value": False})["label"], [0, 1, np.nan])


def test_what_is_recorded_with_the_index_is_not_the_answer(
    answered: Callable[..., pd.DataFrame], event: Callable[..., dict[str, Any]]
) -> None:
    rows = [
        event("a", 0, "outcome//sick", numeric_value=1.0),
        event("b", MICROSECOND, "outcome//sick", numeric_value=1.0),
        event("c", timedelta(days=30) + MICROSECOND, "outcome//sick", numeric_value=1.0),
    ]
    assert _same(answered(rows, {"code": "outcome//sick", "value": True})["label"], [np.nan, 1, np.nan])


def test_one_yes_outweighs_noes_and_a_value_that_says_nothing_is_no_answer(
    answered: Callable[..., pd.DataFrame], event: Callable[..., dict[str, Any]]
) -> None:
    rows = [
        event("a", 1, "LOINC//2160-0", numeric_value=0.9, unit="mg/dL"),
        event("a", 2, "LOINC//2160-0", numeric_value=1.6, unit="mg/dL"),
        event("b", 1, "LOINC//2160-0", numeric_value=140.0, unit="umol/L"),
        event("c", 1, "LOINC//2160-0"),
    ]
    label = {"code": "LOINC//2160-0", "value": {"min": 1.5, "unit": "mg/dL"}}
    assert _same(answered(rows, label)["label"], [1, np.nan, np.nan])
    assert _same(answered(rows, label | {"absent": "negative"})["label"], [1, 0, 0])


def test_the_event_itself_may_be_the_answer(
    answered: Callable[..., pd.DataFrame], event: Callable[..., dict[str, Any]]
) -> None:
    rows = [event("a", 1, "ICD10CM//N17.9"), event("b", 1, "ICD10CM//I10")]
    found = answered(rows, {"code": "ICD10CM//N17*", "absent": "negative"})
    assert _same(found["label"], [1, 0, 0])


def test_multiclass_takes_the_earliest_class(
    answered: Callable[..., pd.DataFrame], event: Callable[..., dict[str, Any]]
) -> None:
    rows = [
        event("a", 2, "lesion//nv"),
        event("a", 1, "lesion//mel"),
        event("b", 1, "lesion//nv"),
        event("b", 1, "lesion//mel"),
        event("c", 1, "lesion//other"),
    ]
    rule = {
        "kind": "multiclass",
        "classes": {"naevus": {"code": "lesion//nv"}, "melanoma": {"code": "lesion//mel"}},
    }
    found = answered(rows, rule)
    assert _same(found["label"], [1, np.nan, np.nan])
    by_text = {
        "kind": "multiclass",
        "code": "X//dx",
        "classes": {"x": {"value": "one"}, "y": {"value": "two*"}},
    }
    rows = [event("a", 1, "X//dx", text_value="Two or more"), event("b", 1, "X//dx", text_value="one")]
    assert _same(answered(rows, by_text)["label"], [1, 0, np.nan])


def test_multilabel_answers_each_class(
    answered: Callable[..., pd.DataFrame], event: Callable[..., dict[str, Any]]
) -> None:
    rows = [
        event("a", 1, "outcome//died", numeric_value=1.0),
        event("a", 1, "outcome//icu", numeric_value=0.0),
        event("b", 1, "outcome//icu", numeric_value=1.0),
    ]
    kinds = {name: {"code": f"outcome//{name}"} for name in ("died", "icu")}
    found = answered(rows, {"kind": "multilabel", "value": True, "classes": kinds})
    assert list(found.columns) == ["label:died", "label:icu", "labelled"]
    assert _same(found["label:died"], [1, np.nan, np.nan])
    assert _same(found["label:icu"], [0, 1, np.nan])
    assert found["labelled"].tolist() == [True, True, False]


def test_class_names_and_counts(spec: Callable[..., CohortSpec]) -> None:
    binary = spec().label
    assert classes(binary) == ["sick"]
    assert class_counts(pd.DataFrame({"label": [1, 0, 0, np.nan]}), binary) == {"sick": 1, "not sick": 2}


def test_warns_of_what_was_known_already_and_of_lost_subjects(
    table: Callable[[Rows], pd.DataFrame],
    film: Callable[..., dict[str, Any]],
    event: Callable[..., dict[str, Any]],
    spec: Callable[..., CohortSpec],
) -> None:
    label = {"task": "aki", "code": "ICD10CM//N17*", "absent": "negative", "window": WINDOW}
    cohort_spec = spec(label=label)
    events = table(
        [film(name) for name in "abc"]
        + [event("a", -9, "ICD10CM//N17.9"), event("a", 40, "X//seen"), event("b", 3, "X//last_seen")]
        + [event("c", 1, "ICD10CM//N17.9")]
    )
    found = label_warnings(events, index_times(events, cohort_spec.index), cohort_spec)
    assert found[0].startswith("1 subjects met the label already")
    assert found[1].startswith("1 subjects count as negative")
    assert len(found) == 2
