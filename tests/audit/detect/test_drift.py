from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from clinimm.audit.detect.drift import drift_of_gaps
from clinimm.audit.engine.rows import Coded, Rows
from tests.audit.detect.conftest import draw_rows, most_alarms

_NAMES = ("2030", "2031", "2032", "2033", "2034")


def with_periods(n: int, seed: int, opening: float = 0.0) -> tuple[Rows, Coded]:
    """Race b's logit is lowered a little more every year."""
    rows = draw_rows(n, seed)
    code = np.random.default_rng([seed, 1]).integers(0, len(_NAMES), n)
    member = rows.attributes["race"].code == 1
    logit = np.log(rows.probability / (1 - rows.probability)) - opening * code * member
    return replace(rows, probability=expit(logit)), Coded(code, _NAMES)


def test_a_gap_that_opens_is_found_and_the_others_are_not_blamed() -> None:
    rows, period = with_periods(12_000, 1, opening=0.3)
    found = {(one.metric, one.attribute, one.level): one for one in drift_of_gaps(rows, period, 0.3)}
    planted = found["fnr", "race", "b"]
    assert planted.raised() and planted.trend and planted.low > 0.03
    assert "moves in one direction" in planted.sentence
    assert not any(one.raised() for key, one in found.items() if key[1] != "race")


def test_gaps_and_slope_are_those_of_a_table_and_a_weighted_line() -> None:
    rows, period = with_periods(4000, 2, opening=0.2)
    one = next(
        one for one in drift_of_gaps(rows, period, 0.3, ["fnr"], attributes=["race"]) if one.level == "b"
    )
    table = pd.DataFrame(
        {
            "year": period.code,
            "member": rows.attributes["race"].code == 1,
            "missed": rows.probability < 0.3,
        }
    )[rows.label == 1]
    rate = table.groupby(["year", "member"])["missed"].agg(["mean", "size"]).unstack()
    gap = (rate["mean"][True] - rate["mean"][False]).to_numpy()
    assert np.allclose([each.value for each in one.periods], gap)
    assert all(each.low < each.value < each.high for each in one.periods)
    share = (rate["mean"] * rate["size"] + 1) / (rate["size"] + 2)
    error = np.sqrt((share * (1 - share) / rate["size"]).sum(axis=1)).to_numpy()
    line, covariance = np.polyfit(np.arange(5), gap, 1, w=1 / error, cov="unscaled")
    assert one.slope == pytest.approx(line[0], abs=1e-9)
    assert one.high - one.low == pytest.approx(2 * 1.959964 * np.sqrt(covariance[0, 0]), rel=1e-6)


def test_a_gap_that_comes_and_goes_is_found_too() -> None:
    rows, period = with_periods(15_000, 3)
    hit = (rows.attributes["race"].code == 1) & (period.code == 2)
    logit = np.log(rows.probability / (1 - rows.probability)) - 1.5 * hit
    found = drift_of_gaps(replace(rows, probability=expit(logit)), period, 0.3, ["fnr"], attributes=["race"])
    planted = next(one for one in found if one.level == "b")
    assert planted.raised() and not planted.trend
    assert "not in one direction" in planted.sentence


@pytest.mark.slow
def test_gaps_that_stay_raise_no_more_alarms_than_alpha() -> None:
    runs, alarms = 50, 0
    for seed in range(runs):
        rows, period = with_periods(1000, seed)
        shifted = np.where(rows.attributes["race"].code == 1, 0.7, 1.0) * rows.probability
        found = drift_of_gaps(replace(rows, probability=shifted), period, 0.3, ["fnr", "fpr"])
        alarms += any(one.raised() for one in found)
    assert alarms <= most_alarms(runs)


def test_few_cases_say_so() -> None:
    rows, period = with_periods(30, 1)
    found = drift_of_gaps(rows, period, 0.3, ["fnr"])
    assert not any(one.raised() for one in found)
    assert any("too few cases" in one.sentence for one in found)


def test_five_rows_of_one_person_are_one_case() -> None:
    """Every row five times over: as few alarms as without, where 23 % came when rows were counted."""
    alarms = 0
    for seed in range(40):
        rows, period = with_periods(400, 500 + seed)
        place = np.repeat(np.arange(rows.n), 5)
        attributes = {
            name: Coded(column.code[place], column.levels) for name, column in rows.attributes.items()
        }
        many = Rows(rows.label[place], rows.probability[place], attributes, place)
        drifts = drift_of_gaps(many, Coded(period.code[place], period.levels), 0.3)
        alarms += any(one.raised() for one in drifts)
        alone = drift_of_gaps(rows, period, 0.3)
        assert [one.p for one in drifts] == [one.p for one in alone]
    assert alarms <= most_alarms(40)
