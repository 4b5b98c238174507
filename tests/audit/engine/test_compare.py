from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from clinimm.audit.engine.compare import alone, difference, joint_level
from clinimm.audit.engine.counts import Tables, tables_of
from clinimm.audit.engine.measures import counted, measure
from clinimm.audit.engine.rows import Coded, Rows
from tests.audit.engine.conftest import draw_rows


def test_one_figure_needs_no_correction_and_more_need_less_than_bonferroni() -> None:
    rows = draw_rows(4000)
    figures = measure(rows.segments(rows.grouping(["race"])), 0.3, ["fnr", "sensitivity"])
    single = [alone(figures["fnr"], 0)]
    assert joint_level(single, 0.95, 1000, 0) == 0.95
    # Sensitivity is one less the false negative rate: the same fact twice costs nothing.
    twice = [alone(figures[name], 0) for name in figures]
    assert joint_level(twice, 0.95, 4000, 0) == pytest.approx(0.95, abs=0.008)
    four = [alone(figures["fnr"], group) for group in range(4)]
    assert 0.98 < joint_level(four, 0.95, 4000, 0) < 0.9875 + 0.003


def test_independent_groups_cost_what_sidak_says() -> None:
    rows = draw_rows(8000)
    figures = measure(rows.segments(rows.grouping(["race"])), 0.3, ["fpr"])["fpr"]
    contrasts = [alone(figures, group) for group in range(3)]
    assert joint_level(contrasts, 0.95, 10_000, 0) == pytest.approx(0.95 ** (1 / 3), abs=0.003)


def test_everybody_else_from_totals_is_everybody_else_from_rows(rows: Rows) -> None:
    grouping = rows.grouping(["race"])
    tables = tables_of(rows.segments(grouping), 0.3)
    for name in ("fnr", "ppv", "net_benefit"):
        fast = counted(tables.outside(), name)
        for group in range(grouping.size):
            part = rows.part(grouping, np.arange(grouping.size) != group)
            slow = measure(part, 0.3, [name])[name]
            assert fast.value[group] == pytest.approx(slow.value[0])
            assert np.allclose(fast.by_block[:, group], slow.by_block[:, 0])
            assert [end[group] for end in fast.bounds(0.9)] == pytest.approx(
                [end[0] for end in slow.bounds(0.9)]
            )


def test_one_joint_count_table_gives_every_grouping(rows: Rows) -> None:
    counts = rows.atom_counts(0.3)
    for grouping in [rows.everybody(), *rows.groupings([1, 2])]:
        joint = Tables.of_atoms(rows, grouping, counts, 0.3)
        assert np.array_equal(joint.counts, tables_of(rows.segments(grouping), 0.3).counts)


def test_all_intervals_hold_together_as_often_as_they_say() -> None:
    generator, held = np.random.default_rng(5), 0
    for turn in range(200):
        label = (generator.random(1200) < 0.4).astype(np.uint8)
        flagged = generator.random(1200) < np.where(label == 1, 0.7, 0.2)
        attributes = {"g": Coded(generator.integers(0, 4, 1200), ("a", "b", "c", "d"))}
        rows = Rows(label, flagged * 0.8 + 0.1, attributes)
        tables = tables_of(rows.segments(rows.grouping(["g"])), 0.5)
        own, rest = counted(tables, "fnr"), counted(tables.outside(), "fnr")
        contrasts = [difference(own, group, rest, group) for group in range(4)]
        level = joint_level(contrasts, 0.9, 500, turn)
        held += all(low <= 0 <= high for low, high in (one.bounds(level) for one in contrasts))
    assert held >= 0.9 * 200 - 2 * np.sqrt(200 * 0.09)


@pytest.mark.parametrize("repeated", [False, True])
def test_small_groups_several_measures_and_repeated_subjects_hold_together(repeated: bool) -> None:
    """Scores follow one law given the label, so that the groups differ in prevalence alone."""
    generator, held, names = np.random.default_rng(6), 0, ["fnr", "fpr", "auroc"]
    size, prevalence = [250, 120, 40, 12], np.array([0.1, 0.4, 0.3, 0.5])
    truth = {"fnr": norm.cdf(-0.75), "fpr": norm.sf(0.75), "auroc": norm.cdf(1.5 / np.sqrt(2))}
    for turn in range(80):
        group = np.repeat(np.arange(4), size)
        label = (generator.random(len(group)) < prevalence[group]).astype(np.uint8)
        subject = np.repeat(np.arange(len(group)), generator.integers(1, 5, len(group)) if repeated else 1)
        noise = generator.standard_normal(len(group))[subject]
        if repeated:
            noise = (noise + generator.standard_normal(len(subject))) / np.sqrt(2)
        attributes = {"g": Coded(group[subject], ("a", "b", "c", "d"))}
        probability = norm.cdf(1.5 * label[subject] + noise)
        rows = Rows(label[subject], probability, attributes, subject if repeated else None)
        figures = measure(rows.segments(rows.grouping(["g"])), norm.cdf(0.75), names)
        contrasts = [(alone(figures[name], one), truth[name]) for name in names for one in range(4)]
        level = joint_level([contrast for contrast, _ in contrasts], 0.9, 500, turn)
        ends = [(contrast.bounds(level), true) for contrast, true in contrasts]
        held += not any(low > true or high < true for (low, high), true in ends)
    assert held >= 0.9 * 80 - 2.5 * np.sqrt(80 * 0.09)
