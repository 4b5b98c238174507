from __future__ import annotations

import numpy as np
import pytest

from clinimm.audit.engine.counts import rate, tables_of
from clinimm.audit.engine.resample import (
    bootstrap_counts,
    holm,
    percentile_interval,
    permutation_p,
    rates_of,
)
from clinimm.audit.engine.rows import Coded, Rows
from tests.audit.engine.conftest import draw_rows


def test_drawing_cells_is_drawing_rows() -> None:
    rows = draw_rows(400)
    tables = tables_of(rows.segments(rows.grouping(["race"])), 0.3)
    drawn = rates_of(bootstrap_counts(tables, 4000, 0), "fpr")
    generator, by_rows = np.random.default_rng(1), []
    inside = rows.attributes["race"].code == 0
    for _ in range(2000):
        take = generator.integers(0, 400, 400)
        chosen = take[inside[take] & (rows.label[take] == 0)]
        by_rows.append(np.mean(rows.probability[chosen] >= 0.3))
    assert drawn[:, 0].mean() == pytest.approx(np.mean(by_rows), abs=0.003)
    assert drawn[:, 0].std() == pytest.approx(np.std(by_rows), rel=0.08)


def test_drawing_patterns_is_drawing_subjects() -> None:
    rows = draw_rows(900, subjects=200)
    tables = tables_of(rows.segments(rows.grouping(["race"])), 0.3)
    drawn = rates_of(bootstrap_counts(tables, 4000, 0), "fpr")
    assert rows.cluster is not None
    own = [np.flatnonzero(rows.cluster == subject) for subject in np.unique(rows.cluster)]
    generator, by_subjects = np.random.default_rng(1), []
    for _ in range(1500):
        take = np.concatenate([own[place] for place in generator.integers(0, len(own), len(own))])
        chosen = take[(rows.attributes["race"].code[take] == 0) & (rows.label[take] == 0)]
        by_subjects.append(np.mean(rows.probability[chosen] >= 0.3))
    assert drawn[:, 0].mean() == pytest.approx(np.mean(by_subjects), abs=0.003)
    assert drawn[:, 0].std() == pytest.approx(np.std(by_subjects), rel=0.1)


def test_the_closed_form_agrees_with_the_bootstrap_where_both_hold() -> None:
    rows = draw_rows(20_000)
    tables = tables_of(rows.segments(rows.grouping(["race"])), 0.3)
    low, high = percentile_interval(rates_of(bootstrap_counts(tables, 4000, 0), "fnr"), tables, "fnr", 0.95)
    ends = rate(tables, "fnr").bounds(0.95)
    assert np.allclose(low, ends[0], atol=0.01)
    assert np.allclose(high, ends[1], atol=0.01)


def test_no_percentile_interval_on_a_handful_of_events() -> None:
    label = np.array([1] * 12 + [0] * 100, dtype=np.uint8)
    rows = Rows(label, np.where(label == 1, 0.9, 0.1), {"site": Coded(np.zeros(112, dtype=int), ("one",))})
    tables = tables_of(rows.segments(rows.grouping(["site"])), 0.5)
    low, _ = percentile_interval(rates_of(bootstrap_counts(tables, 200, 0), "fnr"), tables, "fnr", 0.95)
    assert np.isnan(low[0])
    # 0 of 12 missed: the exact interval still reaches 26 %, where a percentile interval is [0, 0].
    assert rate(tables, "fnr").bounds(0.95)[1][0] == pytest.approx(0.2646, abs=1e-3)


def test_equal_error_rates_with_unequal_prevalence_are_no_alarm() -> None:
    generator = np.random.default_rng(0)
    alarms = 0
    for turn in range(200):
        group = np.repeat([0, 1], [500, 500])
        label = (generator.random(1000) < np.array([0.1, 0.5])[group]).astype(np.uint8)
        flagged = generator.random(1000) < np.where(label == 1, 0.8, 0.1)
        rows = Rows(label, flagged * 0.8 + 0.1, {"g": Coded(group, ("a", "b"))})
        p = permutation_p(tables_of(rows.segments(rows.grouping(["g"])), 0.5), "fnr", 199, turn)
        assert p is not None
        alarms += p <= 0.05
    assert alarms <= 20  # 10 expected


def test_three_groups_one_of_them_small_and_two_rates_alarm_no_more_often_than_one() -> None:
    generator = np.random.default_rng(1)
    alarms = 0
    for turn in range(200):
        group = np.repeat([0, 1, 2], [500, 300, 20])
        label = (generator.random(820) < np.array([0.1, 0.5, 0.3])[group]).astype(np.uint8)
        flagged = generator.random(820) < np.where(label == 1, 0.8, 0.1)
        rows = Rows(label, flagged * 0.8 + 0.1, {"g": Coded(group, ("a", "b", "c"))})
        tables = tables_of(rows.segments(rows.grouping(["g"])), 0.5)
        p_values = holm([permutation_p(tables, name, 199, turn) for name in ("fnr", "fpr")])
        alarms += any(p is not None and p <= 0.05 for p in p_values)
    assert alarms <= 20  # at most 10 expected


def test_a_real_difference_is_found() -> None:
    group = np.repeat([0, 1], 400)
    label = np.ones(800, dtype=np.uint8)
    label[::2] = 0
    flagged = (label == 1) & ((group == 0) | (np.arange(800) % 4 == 1))
    rows = Rows(label, flagged * 0.8 + 0.1, {"g": Coded(group, ("a", "b"))})
    assert permutation_p(tables_of(rows.segments(rows.grouping(["g"])), 0.5), "fnr", 199, 0) == 0.005


def _repeated(generator: np.random.Generator, gap: float = 0.0) -> Rows:
    """Sixty subjects with two to eight rows each, which share most of their fate; two groups."""
    subject = np.repeat(np.arange(60), generator.integers(2, 9, 60))
    group = (np.arange(60) < 25).astype(int)
    fate = generator.random(60) < 0.3 + gap * group
    missed = np.where(
        generator.random(len(subject)) < 0.9, fate[subject], generator.random(len(subject)) < 0.3
    )
    label = np.ones(len(subject), dtype=np.uint8)
    coded = {"g": Coded(group[subject], ("a", "b"))}
    return Rows(label, np.where(missed, 0.1, 0.9), coded, subject)


def test_whole_subjects_are_permuted_where_they_have_several_rows() -> None:
    """Subjects of equal rates raise the alarm in about 5 %; permuted row by row they would in many more."""
    generator = np.random.default_rng(4)
    alarms = np.zeros(2)
    for turn in range(200):
        rows = _repeated(generator)
        alone = Rows(rows.label, rows.probability, rows.attributes)
        for place, one in enumerate((rows, alone)):
            p = permutation_p(tables_of(one.segments(one.grouping(["g"])), 0.5), "fnr", 199, turn)
            assert p is not None
            alarms[place] += p <= 0.05
    assert alarms[0] <= 19 and alarms[1] > 50  # 10 expected, 2 and a half standard deviations above
    rows = _repeated(np.random.default_rng(5), gap=0.6)
    assert permutation_p(tables_of(rows.segments(rows.grouping(["g"])), 0.5), "fnr", 199, 0) == 0.005


def test_permuting_patterns_is_permuting_subjects() -> None:
    """The p value of drawn tables is that of labels shuffled one by one."""
    rows = _repeated(np.random.default_rng(8), gap=0.15)
    tables = tables_of(rows.segments(rows.grouping(["g"])), 0.5)
    drawn = permutation_p(tables, "fnr", 20_000, 0)
    assert rows.cluster is not None and drawn is not None
    events = np.bincount(rows.cluster, rows.probability < 0.5)
    size = np.bincount(rows.cluster)
    residual = events - events.sum() / size.sum() * size
    group = np.arange(60) < 25
    generator = np.random.default_rng(1)
    sums = np.array([abs(residual[generator.permutation(group)].sum()) for _ in range(20_000)])
    assert drawn == pytest.approx(np.mean(sums >= abs(residual[group].sum()) - 1e-9), abs=0.01)


def test_holm_by_hand() -> None:
    assert holm([0.01, None, 0.04, 0.03]) == [0.03, None, pytest.approx(0.06), pytest.approx(0.06)]
