from __future__ import annotations

import pytest

from clinimm.audit.explanation_policy import ExplanationPolicy
from clinimm.audit.policy import PACKAGED, load_policy
from clinimm.explain.check import CHECKS, Check
from clinimm.explain.standing import judge_map

POLICY = ExplanationPolicy.model_validate(
    {
        "rules": [
            {"check": "completeness", "limit": 0.05},
            {"check": "deletion", "limit": 0.1},
            {"check": "repeatability", "limit": 0.7},
            {"check": "randomisation", "limit": 0.3, "fails": "hidden"},
        ]
    }
)
GOOD = [
    Check("completeness", "all", 0.01),
    Check("deletion", "all", -1.0, 0.5),
    Check("repeatability", "all", 0.9),
    Check("randomisation", "all", 0.1),
]


def test_a_map_that_keeps_every_limit_is_shown() -> None:
    found = judge_map(GOOD, POLICY)
    assert (found.state, found.failed) == ("shown", ())
    assert found.sentence == "All 4 checks hold."


@pytest.mark.parametrize(
    ("worse", "state"),
    [
        (Check("completeness", "all", 0.06), "struck_out"),
        (Check("deletion", "all", 0.45, 0.5), "struck_out"),
        (Check("repeatability", "all", 0.6), "struck_out"),
        (Check("randomisation", "all", 0.4), "hidden"),
        (Check("completeness", "all", float("nan")), "struck_out"),
    ],
)
def test_each_limit_is_held_in_its_own_direction(worse: Check, state: str) -> None:
    kept = [check for check in GOOD if check.name != worse.name]
    found = judge_map([*kept, worse], POLICY)
    assert (found.state, found.failed) == (state, (worse.name,))


def test_the_worst_failure_decides_and_every_one_is_named_in_words() -> None:
    found = judge_map([Check("deletion", "all", 0.7, 0.5), Check("randomisation", "all", 0.4)], POLICY)
    assert found.state == "hidden"
    assert found.sentence == (
        "Not shown: deletion AUC against random orders: 0.70 against 0.50, a gain of -0.20 where at least "
        "0.1 is asked; rank correlation surely left above chance once all weights are random is 0.40, "
        "at most 0.3 is asked. Not measured: completeness, repeatability."
    )


def test_a_rule_whose_check_was_not_made_is_named() -> None:
    found = judge_map(GOOD[:1], POLICY)
    assert (found.state, found.measured) == ("shown", ("completeness",))
    assert found.sentence == "All 1 checks hold. Not measured: deletion, repeatability, randomisation."


def test_a_modalitys_map_does_not_lack_what_only_the_whole_has() -> None:
    found = judge_map([Check("deletion", "notes", -1.0, 0.5)], POLICY)
    assert found.sentence == "All 1 checks hold. Not measured: repeatability, randomisation."


def test_a_required_check_that_was_not_made_fails_the_map() -> None:
    rules = [rule.model_copy(update={"required": rule.check == "randomisation"}) for rule in POLICY.rules]
    policy = POLICY.model_copy(update={"rules": tuple(rules)})
    assert judge_map(GOOD, policy).state == "shown"
    found = judge_map(GOOD[:3], policy)
    assert (found.state, found.failed) == ("hidden", ("randomisation",))
    assert found.sentence.startswith("Not shown: rank correlation surely left")
    assert found.sentence.endswith("was not measured, but is required.")
    assert judge_map([], policy).state == "hidden"


@pytest.mark.parametrize("state", ["shown", "struck_out", "hidden"])
def test_a_map_that_nothing_was_measured_of_follows_the_policy(state: str) -> None:
    assert judge_map([], POLICY.model_copy(update={"unmeasured": state})).state == state


def test_the_packaged_policy_judges_maps_by_checks_that_exist() -> None:
    rules = load_policy(PACKAGED).explanations.rules
    assert {rule.check for rule in rules} <= set(CHECKS)
    assert any(rule.fails == "hidden" for rule in rules)
    assert all(rule.why for rule in rules)


def test_gain_is_positive_where_the_map_is_better() -> None:
    assert Check("deletion", "a", 1.0, 3.0).judged == 2.0
    assert Check("insertion", "a", 3.0, 1.0).judged == 2.0
    assert Check("infidelity", "a", 0.4).judged == 0.4
