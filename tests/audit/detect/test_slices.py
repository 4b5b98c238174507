from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

import clinimm.audit.detect.questions as questions_module
from clinimm.audit.detect.questions import cells_of, questions_of
from clinimm.audit.detect.risk import RiskStrata, risk_strata
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


def stretched(rows: Rows, level: int, by: float) -> Rows:
    """Risks of one race moved away from (or towards) the middle of everybody's, decisions kept on average."""
    logit = np.log(rows.probability / (1 - rows.probability))
    inside = rows.attributes["race"].code == level
    middle = float(np.median(logit))
    return replace(rows, probability=expit(np.where(inside, middle + by * (logit - middle), logit)))


@pytest.mark.parametrize(("by", "word", "sign"), [(2.0, "extreme", -1), (0.4, "timid", 1)])
def test_risks_that_are_too_extreme_or_too_timid_for_one_group_are_named(
    by: float, word: str, sign: int
) -> None:
    rows = stretched(draw_rows(6000, seed=3), 1, by)
    found = [one for one in find_slices(rows, 0.3, draws=300).found if one.target == "steepness"]
    assert [one.levels for one in found] == [("b",)]
    one = found[0]
    inside = rows.attributes["race"].code == 1
    upper = rows.probability > np.median(rows.probability)
    rise = rows.label[inside & upper].mean() - rows.label[inside & ~upper].mean()
    assert one.rate == pytest.approx(rise, abs=0.02)
    assert np.sign(one.rate - one.expected) == sign
    assert one.low < one.rate - one.expected < one.high
    assert (one.high < 0) if sign < 0 else (one.low > 0)
    assert f"race b: predicted risks are too {word}. From the lower to the upper half" in one.sentence


def test_the_steepness_of_a_slice_is_held_against_shuffled_outcomes() -> None:
    rows = draw_rows(3000, seed=4)
    cells = cells_of(rows, 1)
    question = questions_of(rows, cells, 0.3)["steepness"]
    assert question.trend is not None
    strata = risk_strata(rows)
    weight = question.trend[strata.stratum]
    inside = rows.attributes["race"].code == 2
    place = cells.names.index((("race",), ("c",)))
    generator, drawn = np.random.default_rng(0), []
    order = np.argsort(strata.stratum, kind="stable")
    for _ in range(1500):
        shuffled = rows.label.astype(float)
        mixed = order[np.lexsort((generator.random(rows.n), strata.stratum[order]))]
        shuffled[order] = rows.label[mixed]
        excess = shuffled - np.bincount(strata.stratum, rows.label)[strata.stratum] / np.bincount(
            strata.stratum
        ).take(strata.stratum)
        drawn.append(((excess)[inside].sum(), (weight * excess)[inside].sum()))
    covariance = np.cov(np.array(drawn).T)
    assert question.covariance(cells.members)[:, :, place] == pytest.approx(covariance, rel=0.12, abs=0.6)


def test_as_much_of_the_trend_as_a_shift_brings_is_no_steepness() -> None:
    rows = draw_rows(3000, seed=4, drift=1.0)
    alone = replace(rows, attributes={"age": rows.attributes["age"]})
    cells = cells_of(alone, 1)
    question = questions_of(alone, cells, 0.3)["steepness"]
    old = cells.names.index((("age",), ("60 and above",)))
    spread = question.covariance(cells.members)
    assert spread[0, 1, old] > 5  # the old stand in the upper strata
    excess = np.zeros((1, 2, 3))
    excess[0, :, old] = 0.3 * spread[0, :, old]
    assert question.standardised(cells.members, excess)[0, old] == pytest.approx(0, abs=1e-9)
    excess[0, 1, old] += 3 * np.sqrt(spread[1, 1, old] - spread[0, 1, old] ** 2 / spread[0, 0, old])
    assert question.standardised(cells.members, excess)[0, old] == pytest.approx(3)


@pytest.mark.slow
def test_a_risk_too_low_everywhere_is_not_called_too_extreme() -> None:
    runs = 40

    def lowered(seed: int) -> Rows:
        rows = draw_rows(3000, seed)
        logit = np.log(rows.probability / (1 - rows.probability))
        return replace(rows, probability=expit(logit - 1.0 * (rows.attributes["race"].code == 1)))

    found = [find_slices(lowered(seed), 0.3, draws=199, seed=seed).found for seed in range(runs)]
    assert all(any(one.target == "outcome_at_equal_risk" for one in each) for each in found)
    assert sum(any(one.target == "steepness" for one in each) for each in found) <= most_alarms(runs)


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

    monkeypatch.setattr(questions_module, "risk_strata", no_strata)
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
