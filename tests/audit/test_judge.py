from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from clinimm.audit.groups import Audited
from clinimm.audit.judge import judge_rule, mover, needed_for_margin
from clinimm.audit.policy import Rule, StatisticsPolicy
from clinimm.evaluate.estimate import estimate
from clinimm.evaluate.metrics import wilson
from clinimm.evaluate.panel import panel_of

STATISTICS = StatisticsPolicy()
MISSED = Rule(id="missed", metric="fnr", stat="difference", attribute="sex", margin=0.1)


def rate(successes, n):
    return estimate(successes / n, wilson(successes, n), n, n, "")


def audited(tables, groups, negatives=50):
    """``groups``: level -> (positives, missed); nobody without the outcome is flagged."""
    label, decision, level = [], [], []
    for name, (positives, missed) in groups.items():
        label += [1.0] * positives + [0.0] * negatives
        decision += [0.0] * missed + [1.0] * (positives - missed) + [0.0] * negatives
        level += [name] * (positives + negatives)
    panel = panel_of(tables.frame(label, np.linspace(0.01, 0.99, len(label))), ["severe"])
    return Audited(panel, np.array(decision), {"sex": np.array(level, dtype=object)})


def verdicts(findings):
    return {finding.level: finding.verdict for finding in findings}


@given(st.integers(1, 60), st.integers(1, 60), st.floats(0, 1), st.floats(0, 1))
def test_difference_of_rates_is_newcombes(n, m, p, q):
    a, b = round(p * n), round(q * m)
    shown = mover(rate(a, n), rate(b, m))
    (l1, u1), (l2, u2) = wilson(a, n), wilson(b, m)
    p1, p2 = a / n, b / m
    assert shown.value == pytest.approx(p1 - p2)
    assert shown.low == pytest.approx(p1 - p2 - np.sqrt((p1 - l1) ** 2 + (u2 - p2) ** 2))
    assert shown.high == pytest.approx(p1 - p2 + np.sqrt((u1 - p1) ** 2 + (p2 - l2) ** 2))


def test_newcombes_published_example():
    # Newcombe 1998, table II, example (a), method 10: 56/70 less 48/80 is 0.0524 to 0.3339.
    shown = mover(rate(56, 70), rate(48, 80))
    assert (round(shown.low, 4), round(shown.high, 4)) == (0.0524, 0.3339)


def test_equal_large_groups_pass(tables):
    findings = judge_rule(MISSED, audited(tables, {"f": (1000, 200), "m": (1000, 200)}), STATISTICS)
    assert verdicts(findings) == {"f": "pass", "m": "pass"}
    assert not any(finding.blocks or finding.needed for finding in findings)


def test_a_large_gap_in_large_groups_fails_on_the_harmed_side_only(tables):
    findings = judge_rule(MISSED, audited(tables, {"f": (500, 250), "m": (500, 50)}), STATISTICS)
    assert verdicts(findings) == {"f": "fail", "m": "pass"}
    assert [finding.blocks for finding in findings] == [True, False]


def test_small_groups_do_not_pass_by_being_small(tables):
    findings = judge_rule(MISSED, audited(tables, {"f": (12, 2), "m": (12, 2)}), STATISTICS)
    assert verdicts(findings) == {"f": "inconclusive", "m": "inconclusive"}
    assert all(finding.needed > 50 and finding.unit == "positives" for finding in findings)
    assert all("more positives are needed" in finding.sentence for finding in findings)


def test_equal_error_rates_with_unequal_prevalence_do_not_fail(tables):
    # Another tool tests errors over all rows and calls this p = 0.0.
    groups = {"f": (100, 10), "m": (1000, 100)}
    findings = judge_rule(MISSED, audited(tables, groups, negatives=900), STATISTICS)
    assert "fail" not in verdicts(findings).values()


def test_equal_groups_fail_no_more_often_than_promised(tables):
    generator = np.random.default_rng(0)
    strict = MISSED.model_copy(update={"margin": 0.001})
    same = audited(tables, {"f": (200, 40), "m": (200, 40)}, 5)
    failed = 0
    for _ in range(200):
        drawn = replace(same, decision=(generator.random(410) < 0.8).astype(float))
        failed += "fail" in verdicts(judge_rule(strict, drawn, STATISTICS)).values()
    assert failed / 200 < 0.06


def test_block_or_warn_is_the_rules_and_else_the_policys(tables):
    small = audited(tables, {"f": (12, 2), "m": (12, 2)})
    blocking = MISSED.model_copy(update={"inconclusive": "block"})
    assert not any(finding.blocks for finding in judge_rule(MISSED, small, STATISTICS))
    assert all(finding.blocks for finding in judge_rule(blocking, small, STATISTICS))
    by_policy = judge_rule(MISSED, small, StatisticsPolicy(inconclusive="block"))
    assert all(finding.blocks for finding in by_policy)


def test_an_attribute_that_the_cohort_lacks_is_inconclusive(tables):
    rule = MISSED.model_copy(update={"attribute": ("insurance",)})
    [finding] = judge_rule(rule, audited(tables, {"f": (50, 5)}), STATISTICS)
    assert finding.verdict == "inconclusive" and "no insurance" in finding.sentence


def test_a_group_below_the_minimum_is_inconclusive_and_shows_no_n(tables):
    findings = judge_rule(MISSED, audited(tables, {"f": (50, 5), "m": (4, 0)}, negatives=4), STATISTICS)
    male = next(finding for finding in findings if finding.level == "m")
    assert (male.verdict, male.n, male.value) == ("inconclusive", None, None)


@pytest.mark.parametrize(
    ("bound", "expected"), [({"above": 0.5}, "pass"), ({"above": 0.9999}, "fail"), ({"below": 0.3}, "fail")]
)
def test_a_value_rule_on_everybody(tables, bound, expected):
    rule = Rule(id="useful", metric="auroc", stat="value", **bound)
    generator = np.random.default_rng(0)
    label = np.r_[np.ones(80), np.zeros(120)]
    panel = panel_of(tables.frame(label, tables.scores(generator, label, 1.5)), ["severe"])
    [finding] = judge_rule(rule, Audited(panel, np.zeros(200), {}), STATISTICS)
    assert finding.verdict == expected


def test_a_coin_is_not_shown_to_be_useful(tables):
    rule = Rule(id="useful", metric="auroc", stat="value", above=0.5, inconclusive="block")
    label = np.r_[np.ones(40), np.zeros(60)]
    panel = panel_of(tables.frame(label, np.random.default_rng(0).random(100)), ["severe"])
    [finding] = judge_rule(rule, Audited(panel, np.zeros(100), {}), STATISTICS)
    assert finding.verdict == "inconclusive" and finding.blocks


@pytest.mark.parametrize(("margin", "needed"), [(0.10, 99), (0.05, 396), (0.03, 1099)])
def test_positives_needed_at_a_rate_of_one_in_five(margin, needed):
    assert needed_for_margin("fnr", 0, 0.0, 0.2, margin) == pytest.approx(needed, abs=1)


def test_needed_shrinks_by_what_is_there():
    assert needed_for_margin("fnr", 60, 0.0, 0.2, 0.1) == needed_for_margin("fnr", 0, 0.0, 0.2, 0.1) - 60


def test_needed_subjects_reach_the_stated_power():
    n = needed_for_margin("fnr", 0, 0.0, 0.2, 0.1)
    z = stats.norm.ppf(0.95)
    power = stats.norm.cdf(0.1 / np.sqrt(0.2 * 0.8 / n) - z)
    assert power == pytest.approx(0.8, abs=0.01)


def test_a_gap_outside_the_margin_is_told_what_would_settle_it_as_a_failure(tables):
    findings = judge_rule(MISSED, audited(tables, {"f": (120, 36), "m": (6000, 900)}), STATISTICS)
    f = next(finding for finding in findings if finding.level == "f")
    assert f.verdict == "inconclusive" and 0.1 < f.value < 0.2 and f.low < 0.1
    many = f.positives + round(1.5 * f.needed)  # "about": the interval of a rate is not symmetric
    grown = {"f": (many, round(many * 0.3)), "m": (6000, 900)}
    assert verdicts(judge_rule(MISSED, audited(tables, grown), STATISTICS))["f"] == "fail"
    fewer = f.positives + f.needed // 2
    assert verdicts(
        judge_rule(MISSED, audited(tables, {"f": (fewer, round(fewer * 0.3)), "m": (6000, 900)}), STATISTICS)
    ) == {"f": "inconclusive", "m": "pass"}
