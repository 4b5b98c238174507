from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit

from clinimm.audit.engine.rows import Rows
from clinimm.audit.mitigate.change import Predictions, compare, paired_interval
from tests.audit.detect.conftest import draw_rows


def at(rows: Rows, cut: float = 0.3) -> Predictions:
    return Predictions(rows.probability, rows.probability >= cut)


def moved(rows: Rows, level: str, by: float) -> Predictions:
    column = rows.attributes["race"]
    hit = column.code == column.levels.index(level)
    return at(replace(rows, probability=expit(logit(rows.probability) + by * hit)))


def by_name(report, level: str, measure: str):  # type: ignore[no-untyped-def]
    return next(one for one in report.changes if (one.level, one.measure) == (level, measure))


def test_a_gap_closed_by_making_others_worse_fails_and_is_called_levelling_down() -> None:
    rows = draw_rows(12_000)
    code = rows.attributes["race"].code
    unfair = replace(rows, probability=expit(logit(rows.probability) - 1.0 * (code == 1)))
    levelled = Predictions(unfair.probability, expit(logit(unfair.probability) - 1.0 * (code != 1)) >= 0.3)
    report = compare(rows, at(unfair), levelled, 0.3, measures=("fnr",))
    assert report.verdict == "fail"
    assert ("race", "fnr") in report.levelled_down
    assert by_name(report, "a", "fnr").verdict == "worse"
    assert any(text.startswith("Levelling down: the gap in missed by race") for text in report.sentences)


def test_a_repair_of_one_group_passes_once_its_price_is_accepted_by_name() -> None:
    rows = draw_rows(12_000)
    code = rows.attributes["race"].code
    unfair = replace(rows, probability=expit(logit(rows.probability) - 1.2 * (code == 1)))
    unsaid = compare(rows, at(unfair), at(rows), 0.3)
    assert by_name(unsaid, "b", "fnr").verdict == "better"
    assert by_name(unsaid, "b", "fpr").verdict == "worse"
    assert unsaid.verdict == "fail" and not unsaid.levelled_down
    price = {
        (one.attribute, one.level, "fpr"): "more looked at" for one in unsaid.changes if one.measure == "fpr"
    }
    said = compare(rows, at(unfair), at(rows), 0.3, accepted=price)
    assert said.verdict == "pass"
    assert "accepted: more looked at" in by_name(said, "b", "fpr").sentence
    assert by_name(said, "b", "net_benefit").verdict == "better"


def test_values_are_those_of_the_rows() -> None:
    rows = draw_rows(3000)
    after = moved(rows, "b", 0.5)
    report = compare(rows, at(rows), after, 0.3)
    inside = (rows.attributes["race"].code == 1) & (rows.label == 1)
    change = by_name(report, "b", "fnr")
    assert (change.n, change.before) == (inside.sum(), pytest.approx(np.mean(rows.probability[inside] < 0.3)))
    everybody = by_name(report, "everybody", "net_benefit")
    gain = np.where(rows.label == 1, 1.0, -0.3 / 0.7)
    assert everybody.after == pytest.approx(np.mean(after.flagged * gain))


def test_few_people_leave_it_undecided_and_nothing_changed_passes_with_many() -> None:
    few, many = draw_rows(60), draw_rows(20_000)
    assert compare(few, at(few), at(few), 0.3, measures=("fnr",)).verdict == "inconclusive"
    assert compare(many, at(many), at(many), 0.3).verdict == "pass"


def test_paired_intervals_hold() -> None:
    generator, held, runs = np.random.default_rng(0), {True: 0, False: 0}, 1500
    for _ in range(runs):
        steps = generator.choice([-1.0, 0.0, 1.0], 25, p=[0.04, 0.9, 0.06])
        low, high = paired_interval(steps, None, 0.95, (1.0,))
        held[True] += low <= 0.02 <= high
        low, high = paired_interval(generator.normal(0.1, 1, 25), None, 0.95, ())
        held[False] += low <= 0.1 <= high
    assert min(held.values()) / runs >= 0.93


def test_an_interval_of_net_benefit_holds_where_few_decisions_change() -> None:
    """Of 100 rows, two in three samples have a change; an interval of no width would hold in those alone."""
    generator, held, runs = np.random.default_rng(0), 0, 1000
    for _ in range(runs):
        steps = generator.choice([-0.25, 0.0, 1.0], 100, p=[0.005, 0.99, 0.005])
        low, high = paired_interval(steps, None, 0.95, (1.0, 0.25))
        held += low <= 0.005 * 0.75 <= high
    assert held / runs >= 0.94


def test_noise_of_a_recalibration_that_nobody_needs_is_no_levelling_down() -> None:
    named = 0
    for seed in range(12):
        rows = draw_rows(1500, seed)
        noise = np.random.default_rng(seed).normal(0, 0.02, rows.n)
        after = expit(logit(rows.probability) + noise)
        named += bool(compare(rows, at(rows), Predictions(after, after >= 0.3), 0.3).levelled_down)
    assert named <= 1


def test_one_row_that_gains_does_not_hide_levelling_down() -> None:
    rows = draw_rows(12_000)
    code = rows.attributes["race"].code
    unfair = replace(rows, probability=expit(logit(rows.probability) - 1.0 * (code == 1)))
    flagged = expit(logit(unfair.probability) - 1.0 * (code != 1)) >= 0.3
    lucky = np.flatnonzero((code == 1) & (rows.label == 1) & ~flagged)[0]
    flagged[lucky] = True
    report = compare(rows, at(unfair), Predictions(unfair.probability, flagged), 0.3, measures=("fnr",))
    assert ("race", "fnr") in report.levelled_down


def test_rows_of_one_subject_count_once() -> None:
    steps = np.random.default_rng(1).choice([-1.0, 0.0, 1.0], 200)
    for kind in ((1.0,), (1.0, 0.25), ()):
        once = paired_interval(steps, None, 0.95, kind)
        repeated = paired_interval(np.repeat(steps, 4), np.repeat(np.arange(200), 4), 0.95, kind)
        assert np.allclose(once, repeated, atol=0.01)


@pytest.mark.parametrize(("tolerated", "verdict"), [(0.2, "alike"), (0.0, "worse")])
def test_a_little_worse_is_alike_where_all_of_the_interval_is_tolerated(
    tolerated: float, verdict: str
) -> None:
    """As a rule passes whose whole interval is within its margin."""
    rows = draw_rows(12_000)
    report = compare(rows, at(rows), moved(rows, "a", -0.2), 0.3, measures=("fnr",), tolerated=tolerated)
    found = by_name(report, "a", "fnr")
    assert 0 < found.low < found.high < 0.2
    assert found.verdict == verdict
