from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap

from clinimm.core.errors import DataError
from clinimm.explain.contribution import Contributions
from clinimm.explain.groups import Statistics, by_group, contribution_figures, mean_of


def test_the_interval_is_scipys_bca_but_for_its_own_draws() -> None:
    values = np.random.default_rng(0).exponential(size=60)
    found = mean_of(values, Statistics(draws=8000))
    expected = bootstrap((values,), np.mean, n_resamples=8000, method="BCa", rng=1).confidence_interval
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(expected.low, abs=0.02)
    assert found.high == pytest.approx(expected.high, abs=0.02)
    assert found.n == 60


def test_subjects_without_the_figure_do_not_count_and_a_small_group_shows_nothing() -> None:
    values = np.append(np.arange(12.0), [np.nan] * 5)
    assert mean_of(values, Statistics()).n == 12
    small = mean_of(values[:9], Statistics())
    assert (small.n, small.mean, small.low, small.high) == (None, None, None, None)


def test_every_level_has_a_row_and_a_missing_one_is_a_level() -> None:
    index = pd.Index([f"s{i}" for i in range(30)], name="subject_id")
    values = pd.DataFrame({"ehr": np.arange(30.0)}, index=index)
    attributes = pd.DataFrame({"sex": ["female"] * 15 + ["male"] * 11 + [None] * 4}, index=index)
    rows = pd.DataFrame(by_group(values, attributes, Statistics(draws=50))).set_index("level")
    assert list(rows.index) == ["overall", "female", "male", "(missing)"]
    assert rows.loc["female", "mean"] == pytest.approx(7.0)
    assert rows.loc["male", "n"] == 11
    assert pd.isna(rows.loc["(missing)", "mean"])


def test_a_subject_outside_the_cohort_is_a_named_error() -> None:
    values = pd.DataFrame({"ehr": [1.0]}, index=pd.Index(["s1"]))
    with pytest.raises(DataError, match="s1"):
        by_group(values, pd.DataFrame(index=pd.Index([])), Statistics())


def test_figures_are_signed_and_in_size_and_only_of_those_who_have_the_modality() -> None:
    found = Contributions(
        names=("ehr", "notes"),
        present=np.array([[True, True], [True, False]]),
        values=np.array([[-2.0, 1.0], [3.0, 0.0]]),
        interactions=np.array([[[0, 0.5], [0.5, 0]], [[0, 0], [0, 0]]]),
        worth=np.zeros((2, 4)),
    )
    table = contribution_figures(found, ["s1", "s2"])
    assert table["ehr"].tolist() == [-2.0, 3.0]
    assert table["|ehr|"].tolist() == [2.0, 3.0]
    assert table["ehr × notes"].iloc[0] == 0.5
    assert table.loc["s2", ["notes", "|notes|", "ehr × notes"]].isna().all()
