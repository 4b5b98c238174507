from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinimm.cohort.draw import order, stratified_folds, stratified_parts

SHARES = {"train": 0.7, "tuning": 0.1, "held_out": 0.2}
IDS = [f"S{number}" for number in range(1000)]


def test_the_draw_is_a_permutation_that_the_seed_and_the_purpose_decide() -> None:
    drawn = order(IDS, 0, "split")
    assert sorted(drawn) == list(range(1000))
    assert (drawn == order(IDS, 0, "split")).all()
    assert (drawn != order(IDS, 1, "split")).any()
    assert (drawn != order(IDS, 0, "other")).any()


def test_the_draw_knows_no_order_of_the_input() -> None:
    backwards = IDS[::-1]
    assert [IDS[row] for row in order(IDS, 3, "x")] == [backwards[row] for row in order(backwards, 3, "x")]


def test_added_subjects_move_few() -> None:
    strata = ["1" if number % 3 else "0" for number in range(1000)]
    before = stratified_parts(IDS[:900], strata[:900], SHARES, 0, "split")
    after = stratified_parts(IDS, strata, SHARES, 0, "split")[:900]
    assert np.mean(before != after) < 0.03


@settings(deadline=None)
@given(st.lists(st.sampled_from("01"), min_size=1, max_size=60))
def test_each_stratum_is_shared_in_proportion(strata: list[str]) -> None:
    parts = stratified_parts(IDS[: len(strata)], strata, SHARES, 0, "split")
    for stratum, total in Counter(strata).items():
        counts = Counter(part for part, own in zip(parts, strata, strict=True) if own == stratum)
        assert sum(counts.values()) == total
        for part, share in SHARES.items():
            assert abs(counts[part] - share * total) < 2
            assert counts[part] > 0 or total < len(SHARES)


@settings(deadline=None)
@given(st.lists(st.sampled_from("012"), min_size=2, max_size=60), st.integers(2, 6))
def test_folds_differ_by_one_at_most(strata: list[str], folds: int) -> None:
    fold = stratified_folds(IDS[: len(strata)], strata, folds, 0, "folds")
    for chosen in [np.ones(len(strata), dtype=bool), *(np.asarray(strata) == one for one in "012")]:
        counts = np.bincount(fold[chosen], minlength=folds)
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize(
    ("total", "expected"), [(135, (94, 14, 27)), (3, (1, 1, 1)), (2, (1, 0, 1)), (0, (0, 0, 0))]
)
def test_counts_by_largest_remainder(total: int, expected: tuple[int, ...]) -> None:
    counts = Counter(stratified_parts(IDS[:total], ["x"] * total, SHARES, 0, "split"))
    assert tuple(counts[name] for name in SHARES) == expected
