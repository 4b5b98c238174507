from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold

from clinimm.cohort.spec import CohortSpec
from clinimm.cohort.split import cohort_split, require_one_side, split, split_summary, split_warnings
from clinimm.core.errors import DataError

K_FOLD = {"kind": "repeated_group_k_fold", "repeats": 3, "folds": 5, "tuning_fraction": 0.15}


def _cohort(labels: list[float], sites: list[str | None] | None = None) -> pd.DataFrame:
    n = len(labels)
    return pd.DataFrame(
        {
            "subject_id": pd.Series([f"S{number:04d}" for number in range(n)], dtype="str"),
            "index_time": pd.date_range("2023-01-01", periods=n, freq="D", tz="UTC"),
            "label": np.asarray(labels, dtype=float),
            "labelled": ~np.isnan(np.asarray(labels, dtype=float)),
            "site_id": pd.Series(sites or [None] * n, dtype="str"),
        }
    )


@pytest.fixture(scope="module")
def hundred() -> pd.DataFrame:
    """60 no, 40 yes, 20 unknown, from three sites and a few without one."""
    labels = [0.0] * 60 + [1.0] * 40 + [np.nan] * 20
    order = np.random.default_rng(0).permutation(120)
    sites = [["north", "south", "east", None][number % 4] for number in range(120)]
    return _cohort([labels[row] for row in order], sites)


KINDS: list[dict[str, Any]] = [
    {"kind": "subject"},
    {"kind": "site", "held_out": ["north"]},
    {"kind": "time", "held_out_from": "2023-04-01"},
    K_FOLD,
]


@pytest.mark.parametrize("rule", KINDS, ids=lambda rule: rule["kind"])
def test_everybody_is_on_one_side_of_each_fold(
    hundred: pd.DataFrame, spec: Callable[..., CohortSpec], rule: dict[str, Any]
) -> None:
    table = split(hundred, spec(split=rule), seed=0)
    assert list(table.columns) == ["subject_id", "repeat", "fold", "split"]
    sizes = table.groupby(["repeat", "fold"])["subject_id"].agg(["size", "nunique"])
    assert (sizes == len(hundred)).all(axis=None)
    unlabelled = table[table["split"] == "unlabelled"]["subject_id"].unique()
    assert set(unlabelled) == set(hundred.loc[~hundred["labelled"], "subject_id"])
    assert (table.groupby("subject_id")["split"].agg(lambda sides: "unlabelled" in set(sides)).sum()) == 20


@pytest.mark.parametrize("rule", KINDS, ids=lambda rule: rule["kind"])
def test_the_seed_alone_decides(
    hundred: pd.DataFrame, spec: Callable[..., CohortSpec], rule: dict[str, Any]
) -> None:
    once = split(hundred, spec(split=rule), seed=0)
    shuffled = hundred.sample(frac=1, random_state=1).reset_index(drop=True)
    pd.testing.assert_frame_equal(once, split(shuffled, spec(split=rule), seed=0))
    assert not once.equals(split(hundred, spec(split=rule), seed=1))


@settings(deadline=None, max_examples=25)
@given(yes=st.integers(4, 40), no=st.integers(4, 40), unknown=st.integers(0, 5), folds=st.integers(2, 4))
def test_everybody_labelled_is_held_out_once_a_repeat(
    spec: Callable[..., CohortSpec], yes: int, no: int, unknown: int, folds: int
) -> None:
    cohort = _cohort([1.0] * yes + [0.0] * no + [np.nan] * unknown)
    table = split(cohort, spec(split={**K_FOLD, "repeats": 2, "folds": folds}), seed=0)
    held = table[table["split"] == "held_out"].groupby(["subject_id", "repeat"]).size()
    assert (held == 1).all()
    assert len(held) == 2 * (yes + no)


def test_folds_are_as_even_as_those_of_scikit_learn(
    hundred: pd.DataFrame, spec: Callable[..., CohortSpec]
) -> None:
    table = split(hundred, spec(split=K_FOLD), seed=0).merge(hundred, on="subject_id")
    ours = table[table["split"] == "held_out"].groupby(["repeat", "fold"])["label"].agg(["size", "sum"])
    known = hundred[hundred["labelled"]]
    theirs = [
        (len(test), known["label"].to_numpy()[test].sum())
        for _, test in StratifiedKFold(5).split(known, known["label"])
    ]
    for _, repeat in ours.groupby("repeat"):
        assert sorted(map(tuple, repeat.to_numpy())) == sorted(theirs)


def test_tuning_is_taken_from_the_training_part_in_proportion(
    hundred: pd.DataFrame, spec: Callable[..., CohortSpec]
) -> None:
    table = split(hundred, spec(split=K_FOLD), seed=0).merge(hundred, on="subject_id")
    for _, fold in table[table["split"] != "unlabelled"].groupby(["repeat", "fold"]):
        assert fold["split"].value_counts().to_dict() == {"train": 68, "held_out": 20, "tuning": 12}
        rates = fold.groupby("split")["label"].mean()
        assert rates.to_numpy() == pytest.approx([0.4] * 3, abs=0.05)


def test_sites_and_times_stay_apart(hundred: pd.DataFrame, spec: Callable[..., CohortSpec]) -> None:
    by_site = split(hundred, spec(split=KINDS[1]), seed=0).merge(hundred, on="subject_id")
    known = by_site[by_site["split"] != "unlabelled"]
    assert set(known[known["split"] == "held_out"]["site_id"]) == {"north"}
    assert "north" not in set(known[known["split"] != "held_out"]["site_id"].dropna())
    by_time = split(hundred, spec(split=KINDS[2]), seed=0).merge(hundred, on="subject_id")
    held = by_time[by_time["split"] == "held_out"]["index_time"]
    rest = by_time[by_time["split"].isin(["train", "tuning"])]["index_time"]
    assert rest.max() < pd.Timestamp("2023-04-01", tz="UTC") <= held.min()


def test_an_unknown_site_is_named_beside_the_known(
    hundred: pd.DataFrame, spec: Callable[..., CohortSpec]
) -> None:
    with pytest.raises(DataError, match=r"west.*east, north, south"):
        split(hundred, spec(split={"kind": "site", "held_out": ["west"]}), seed=0)


@pytest.mark.parametrize(
    ("labels", "rule", "words"),
    [
        ([1.0] * 20, {"kind": "subject"}, "train has one class only"),
        ([0.0] * 20 + [1.0] * 2, {"kind": "subject"}, "tuning has one class only"),
        ([0.0] * 20 + [1.0] * 10, {"kind": "time", "held_out_from": "2023-01-25"}, "held_out has one class"),
        ([0.0, 1.0] * 9, {"kind": "time", "held_out_from": "2030-01-01"}, "leaves nobody in held_out"),
        ([0.0] * 9 + [1.0], K_FOLD, "train of repeat 0"),
    ],
)
def test_a_side_without_two_classes_is_refused_by_name(
    spec: Callable[..., CohortSpec], labels: list[float], rule: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        split(_cohort(labels), spec(split=rule), seed=0)


def test_a_fold_with_one_class_is_said_aloud(spec: Callable[..., CohortSpec]) -> None:
    cohort = _cohort([0.0] * 16 + [1.0] * 4)
    rule = spec(split={**K_FOLD, "repeats": 1, "folds": 5})
    table = split(cohort, rule, seed=0)
    assert any(text.startswith("held_out of repeat 0, fold") for text in split_warnings(table, cohort, rule))


def test_a_subject_on_two_sides_is_refused(hundred: pd.DataFrame, spec: Callable[..., CohortSpec]) -> None:
    table = split(hundred, spec(), seed=0)
    trained = table[table["split"] == "train"].head(1)
    with pytest.raises(DataError, match="1 subjects are on two sides"):
        require_one_side(pd.concat([table, trained.assign(split="held_out")]))
    held = table[table["split"] == "held_out"].head(1)
    with pytest.raises(DataError, match="1 are held out twice"):
        require_one_side(pd.concat([table, held.assign(fold=1)]))


def test_given_folds_are_followed_and_others_are_not_used(
    hundred: pd.DataFrame, spec: Callable[..., CohortSpec]
) -> None:
    labelled = hundred.loc[hundred["labelled"], "subject_id"].tolist()
    folds = pd.DataFrame(
        [
            (one, repeat, (number + repeat) % 4)
            for repeat in (0, 1)
            for number, one in enumerate(labelled[:90])
        ],
        columns=["subject_id", "repeat", "fold"],
    )
    rule = spec(split={"kind": "folds_file", "path": "folds.csv"})
    table = split(hundred, rule, seed=0, folds=folds)
    held = table[table["split"] == "held_out"][["subject_id", "repeat", "fold"]]
    both = held.merge(folds, on=["subject_id", "repeat", "fold"])
    assert len(both) == len(held) == len(folds)
    assert set(table[table["split"] == "unused"]["subject_id"]) == set(labelled[90:])
    assert "10 labelled subjects are not in the folds file and are not used." in split_warnings(
        table, hundred, rule
    )


def test_columns_and_summary(hundred: pd.DataFrame, spec: Callable[..., CohortSpec]) -> None:
    single = split(hundred, spec(), seed=0)
    assert cohort_split(single, hundred).value_counts().to_dict() == {
        "train": 70,
        "held_out": 20,
        "unlabelled": 20,
        "tuning": 10,
    }
    parts = split_summary(single, hundred, spec())["parts"]
    assert parts[0] == {"name": "train", "subjects": 70, "classes": {"sick": 28, "not sick": 42}}
    rotating = split(hundred, spec(split=K_FOLD), seed=0)
    assert set(cohort_split(rotating, hundred)) == {"cross_validation", "unlabelled"}
    summary = split_summary(rotating, hundred, spec(split=K_FOLD))
    assert (summary["repeats"], summary["folds"]) == (3, 5)
    assert summary["parts"][2] == {"name": "held_out", "subjects": 20, "classes": {"sick": 8, "not sick": 12}}
