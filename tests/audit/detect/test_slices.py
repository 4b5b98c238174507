from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import clinimm.audit.detect.slices as slices_module
from clinimm.audit.detect.risk import RiskStrata
from clinimm.audit.detect.slices import find_slices, one_row_a_subject
from clinimm.audit.engine.rows import Coded, Rows
from tests.audit.detect.conftest import draw_rows, most_alarms

_PLANTED = ("b", "female", "60 and above")


def test_a_planted_three_way_slice_is_named_alone() -> None:
    found = find_slices(draw_rows(12_000, bias=1.2), 0.3, draws=300)
    assert found.raised
    missed = [one for one in found.found if one.target == "missed"]
    assert [one.levels for one in missed] == [_PLANTED]
    assert missed[0].low > 0
    assert {one.levels for one in found.found} == {_PLANTED}
    assert missed[0].sentence.startswith("race b × sex female × age 60 and above: 0.")


def test_rates_and_excess_are_those_of_the_rows_and_p_that_of_shuffled_rows() -> None:
    rows = draw_rows(4000, seed=1, bias=4.0)
    found = find_slices(rows, 0.3, depth=1, draws=999)
    one = next(one for one in found.found if one.target == "missed")
    positive, missed = rows.label == 1, rows.probability < 0.3
    column = rows.attributes[one.attributes[0]]
    inside = column.code == column.levels.index(one.levels[0])
    assert one.n == (inside & positive).sum()
    assert one.rate == pytest.approx(missed[inside & positive].mean())
    assert one.expected == pytest.approx(missed[positive].mean())
    generator, drawn = np.random.default_rng(0), []
    for _ in range(1500):
        shuffled = generator.permutation(missed[positive])
        drawn.append(shuffled[inside[positive]].sum())
    assert one.z == pytest.approx(abs(one.events - np.mean(drawn)) / np.std(drawn), rel=0.08)


def test_at_equal_risk_the_expected_rate_is_that_of_others_with_the_same_risk() -> None:
    rows = draw_rows(20_000, seed=2, drift=1.0)
    taken = rows.label.copy()
    inside = rows.attributes["race"].code == 2
    taken[inside & (rows.label == 1) & (np.random.default_rng(0).random(rows.n) < 0.3)] = 0
    found = find_slices(replace(rows, label=taken), 0.3, depth=2, draws=300).found
    one = next(one for one in found if one.target == "outcome_at_equal_risk")
    assert one.levels == ("c",)
    share = inside.mean()  # of everybody at the same risk, of whom they are a part
    assert one.expected == pytest.approx((1 - 0.3 * share) * rows.probability[inside].mean(), abs=0.015)
    assert one.rate == pytest.approx(0.7 * rows.probability[inside].mean(), abs=0.02)


@pytest.mark.slow
def test_noise_is_named_no_more_often_than_alpha() -> None:
    runs = 60
    alarms = sum(
        find_slices(draw_rows(1500, seed=seed), 0.3, draws=199, alpha=0.1, seed=seed).raised
        for seed in range(runs)
    )
    assert alarms <= most_alarms(runs, 0.1)


@pytest.mark.slow
def test_risk_that_goes_with_an_attribute_is_no_finding_at_equal_risk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def alarms(runs: int) -> int:
        found = [
            find_slices(draw_rows(2000, seed, drift=0.8, slope=0.6), 0.3, draws=199, seed=seed)
            for seed in range(runs)
        ]
        return sum(any(one.target == "outcome_at_equal_risk" for one in each.found) for each in found)

    assert alarms(40) <= most_alarms(40)

    def no_strata(rows: Rows) -> RiskStrata:
        return RiskStrata(np.zeros(rows.n, dtype=np.int64), 1, np.full(rows.n, rows.label.mean()))

    monkeypatch.setattr(slices_module, "risk_strata", no_strata)
    assert alarms(4) == 4


def test_of_a_subject_one_row_counts() -> None:
    rows = draw_rows(600, bias=1.0)
    doubled = Rows(
        np.repeat(rows.label, 5),
        np.repeat(rows.probability, 5),
        {name: Coded(np.repeat(column.code, 5), column.levels) for name, column in rows.attributes.items()},
        np.repeat(np.arange(600), 5),
    )
    once = one_row_a_subject(doubled, None, 0)
    assert np.array_equal(once.label, rows.label)
    assert find_slices(doubled, 0.3, draws=199) == find_slices(rows, 0.3, draws=199)


def test_no_attributes_and_small_groups_are_not_searched() -> None:
    rows = draw_rows(40)
    assert find_slices(replace(rows, attributes={}), 0.3, draws=199).searched == 0
    tiny = find_slices(rows, 0.3, draws=199)
    assert not tiny.raised
    assert "does not show that all are alike" in tiny.sentences[0]


def test_too_many_combinations_are_refused_by_name() -> None:
    rows = draw_rows(30_000)
    code = np.arange(30_000)
    more = {"zip": Coded(code, tuple(str(one) for one in code))}
    with pytest.raises(ValueError, match="30,000 combinations of race, sex, age, zip"):
        find_slices(rows, 0.3, more=more)
