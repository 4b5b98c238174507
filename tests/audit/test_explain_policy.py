"""The policy in words says what the judge does."""

from __future__ import annotations

import re

import pytest

from clinimm.audit.engine.measures import MEASURES
from clinimm.audit.explain_policy import _BOTH, _MORE_IS_WORSE, _WORDS, explain_policy, rule_sentence
from clinimm.audit.policy import PACKAGED, Policy, Rule, load_policy
from clinimm.audit.table.decide import verdict_of
from clinimm.cli import app as application


def rule(**changes):
    values = {"id": "r", "metric": "fnr", "stat": "difference", "attribute": "sex", "margin": 0.1}
    return Rule.model_validate({key: value for key, value in (values | changes).items() if value is not None})


def test_every_rule_and_every_map_check_is_one_line():
    policy = load_policy(PACKAGED)
    lines = explain_policy(policy)
    for one in policy.rules:
        (line,) = [text for text in lines if text.startswith(f"{one.id}: ")]
        assert all(
            word in line for word in ("it passes if", "fails and blocks if", "where the data cannot tell")
        )
        assert one.why.rstrip(".") in line
    for one in policy.explanations.rules:
        assert len([text for text in lines if text.startswith(f"{one.check}: a map")]) == 1


def test_every_measure_has_words_and_the_direction_that_the_judge_uses():
    judged = {name: measure.harm for name, measure in MEASURES.items() if name != "prevalence"}
    assert set(_WORDS) == set(judged)
    assert {name for name, harm in judged.items() if harm == 1} == _MORE_IS_WORSE
    assert {name for name, harm in judged.items() if harm == 0} == _BOTH


@pytest.mark.parametrize(
    ("changes", "passing", "failing"),
    [
        ({}, "below +0.1", "above +0.1"),
        ({"metric": "auroc"}, "above -0.1", "below -0.1"),
        ({"metric": "observed_less_predicted"}, "between -0.1 and +0.1", "beyond 0.1"),
        ({"metric": "auroc", "stat": "value", "margin": None, "above": 0.7}, "above 0.7", "below 0.7"),
        ({"metric": "ece", "stat": "value", "margin": None, "below": 0.1}, "below 0.1", "above 0.1"),
    ],
)
def test_what_is_said_to_pass_passes_and_what_is_said_to_fail_fails(changes, passing, failing):
    one = rule(**changes)
    said = re.search(
        r"it passes if (.*), fails and blocks if (.*), and where", rule_sentence(one, 0.95, "warn")
    )
    assert said
    assert passing in said[1]
    assert failing in said[2]
    bound = one.margin or one.above or one.below
    sign = -1 if "-" in passing and "+" not in passing else 1
    inside = -0.01 if passing.startswith("below") else 0.01
    if passing.startswith("between"):
        assert verdict_of(one, 0.0, -0.05, 0.05) == "pass"
        assert verdict_of(one, -0.3, -0.4, -0.2) == verdict_of(one, 0.3, 0.2, 0.4) == "fail"
        return
    middle = sign * bound
    assert verdict_of(one, middle + 2 * inside, middle + inside, middle + inside) == "pass"
    assert verdict_of(one, middle - 2 * inside, middle - inside, middle - inside) == "fail"
    assert verdict_of(one, middle, middle - 0.01, middle + 0.01) == "inconclusive"


def test_what_an_undecided_rule_does_is_said():
    assert "does not block" in rule_sentence(rule(), 0.95, "warn")
    assert "also blocks" in rule_sentence(rule(), 0.95, "block")
    assert "also blocks" in rule_sentence(rule(inconclusive="block"), 0.95, "warn")


def test_ratios_intersections_thresholds_and_guessed_attributes_are_said():
    content = {
        "schema": "clinimm.policy/1",
        "rules": [rule(stat="ratio", margin=0.8, attribute="race*sex").model_dump()],
        "table": {"threshold": 0.2, "attributes": {"race": {"source": "inferred"}}},
    }
    text = "\n".join(explain_policy(Policy.model_validate(content)))
    assert "by more than the factor 0.8" in text
    assert "race and sex" in text
    assert "a miss then weighs as 4 false alarms" in text
    assert "race was guessed" in text


def test_the_command_explains_a_policy_file_without_a_run(tmp_path, capsys):
    assert application.run(["audit", str(PACKAGED), "--explain-policy"]) == 0
    assert capsys.readouterr().out.startswith(f"{PACKAGED}:\n4 rules decide.")
    wrong = tmp_path / "p.yaml"
    wrong.write_text("schema: clinimm.policy/1\nrules:\n  - {id: x, metric: fnr}\n")
    assert application.run(["audit", str(wrong), "--explain-policy"]) == 3
    assert f"{wrong}:3: rules.0.stat" in capsys.readouterr().err
