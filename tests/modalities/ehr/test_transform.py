from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinimm.config import EncoderConfig, ModalityConfig
from clinimm.core.event import AGE_YEARS, SEX
from clinimm.core.pseudonym import Pseudonymiser
from clinimm.modalities.ehr.transform import LARGEST_Z, UNKNOWN, encode, fit, kinds, tensorise, words
from clinimm.modality import EncodeContext, Encoded
from clinimm.progress import QUIET
from clinimm.sources.base import Opener

FIELDS = ("subject_id", "time_hours", "code", "numeric_value", "unit", "text_value", "category")


def events(*rows: tuple[Any, ...]) -> pd.DataFrame:
    return pd.DataFrame([dict(zip(FIELDS, row, strict=True)) for row in rows], columns=list(FIELDS)).astype(
        {"numeric_value": float}
    )


def context(**settings: Any) -> EncodeContext:
    return EncodeContext(ModalityConfig(**settings), Opener((), Pseudonymiser(b"0" * 16)), Path(), 8, QUIET)


def temperature(subject: str, hours: float, value: float) -> tuple[Any, ...]:
    return (subject, hours, "LOINC//8310-5", value, "Cel", None, "vital-signs")


def config(**options: Any) -> ModalityConfig:
    return ModalityConfig(encoder=EncoderConfig(options={"min_subjects": 1, **options}))


def encoded(frame: pd.DataFrame) -> Encoded:
    return Encoded(frame, np.zeros((len(frame), 0)))


def test_age_is_brought_to_the_index_in_whole_years_and_stops_at_ninety() -> None:
    two_years = 2 * 365.25 * 24
    found = encode(
        events(
            ("a", two_years + 1, AGE_YEARS, 54.0, "a", None, "demographic"),
            ("b", 30.0, AGE_YEARS, 1.5, "a", None, "demographic"),
            ("c", two_years, AGE_YEARS, 89.0, "a", None, "demographic"),
        ),
        context(),
    )

    assert found.tokens["numeric_value"].tolist() == [56.0, 1.5, 90.0]
    assert found.values.shape == (3, 0)


def test_demographic_facts_outlive_the_limit() -> None:
    rows = [("a", 900.0, SEX, None, None, "female", "demographic")]
    rows += [temperature("a", float(hours), 37.0) for hours in range(5)]

    found = encode(events(*rows), context(max_tokens=3))

    assert found.tokens["time_hours"].tolist() == [900.0, 1.0, 0.0]
    assert found.counts == {"events": 6, "beyond_max_tokens": 3}


def test_what_kind_of_fact_a_row_is() -> None:
    rows = events(
        temperature("a", 0, 37.0),
        ("a", 0.0, "LOINC//39111-0", None, None, " Face ", "exam"),
        ("a", 0.0, "SNOMED//73211009", None, None, None, "condition"),
        ("a", 0.0, "LOINC//11506-3", None, None, "long text " * 20, "note"),
        ("a", 0.0, "X//1", 2.0, None, None, "exam"),
    )

    expected = ["LOINC//8310-5|Cel", "LOINC//39111-0//face", "SNOMED//73211009", "LOINC//11506-3", "X//1|"]
    assert kinds(rows).tolist() == expected


def test_the_statistics_are_median_and_interquartile_range_of_training_rows() -> None:
    values = np.random.default_rng(0).normal(37, 0.7, 500)
    training = events(*(temperature(f"s{i}", 0, value) for i, value in enumerate(values)))

    statistics = json.loads(json.dumps(fit(encoded(training), config())))
    z = tensorise(encoded(training), statistics)

    key = "LOINC//8310-5|Cel"
    assert statistics["centre"][key] == pytest.approx(np.median(values))
    assert statistics["scale"][key] == pytest.approx(
        pd.Series(values).quantile([0.25, 0.75]).diff().iloc[1] / 1.349
    )
    assert z.dtype == np.float32
    np.testing.assert_allclose(z[:, 1].std(), 1, atol=0.1)
    assert (z[:, 0] == statistics["vocabulary"][key]).all()
    assert (z[:, 2] == 1).all()


def test_other_rows_change_no_statistic_and_extremes_are_clipped() -> None:
    training = events(*(temperature(f"s{i}", 0, 36 + i / 10) for i in range(10)))
    statistics = fit(encoded(training), config())
    held_out = events(
        temperature("t", 0, 400.0), temperature("t", 0, -400.0), ("t", 0.0, "NEW//1", 7.0, None, None, "x")
    )

    found = tensorise(encoded(held_out), statistics)

    assert found[:, 1].tolist() == [LARGEST_Z, -LARGEST_Z, 0.0]
    assert found[2].tolist() == [UNKNOWN, 0.0, 0.0]


def test_a_kind_that_few_subjects_have_is_unknown_however_often_they_have_it() -> None:
    often = [("a", float(i), "RARE//1", 1.0, None, None, "x") for i in range(20)]
    common = [temperature(subject, 0.0, 37.0) for subject in "abc"]

    statistics = fit(encoded(events(*often, *common)), config(min_subjects=3))

    assert list(statistics["vocabulary"]) == ["LOINC//8310-5|Cel"]
    assert list(statistics["scale"]) == ["LOINC//8310-5|Cel"]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12))
def test_any_values_give_finite_tokens_within_the_clip(values: list[float]) -> None:
    rows = encoded(events(*(temperature(f"s{i}", 0, value) for i, value in enumerate(values))))

    found = tensorise(rows, fit(rows, config()))

    assert np.isfinite(found).all()
    assert (np.abs(found[:, 1]) <= LARGEST_Z).all()


def test_the_words_a_person_uses() -> None:
    row = {"code": "LOINC//2160-0", "numeric_value": 1.9, "unit": "mg/dL", "text_value": None}

    assert words(row) == "LOINC//2160-0 = 1.9 mg/dL"
    assert words({"code": SEX, "numeric_value": float("nan"), "text_value": "female"}) == f"{SEX} = female"
    assert words({"code": "SNOMED//1", "numeric_value": None, "text_value": None}) == "SNOMED//1"
