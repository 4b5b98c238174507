from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from pydantic import ValidationError

from clinimm.audit.policy import IN_REPOSITORY, PACKAGED, Policy, find_policy, load_policy
from clinimm.audit.policy_schema import SCHEMA_FILE, policy_schema
from clinimm.core.errors import ConfigError
from clinimm.yaml_lines import read_yaml

RULE = """schema: clinimm.policy/1
rules:
  - id: missed
    metric: fnr
    stat: difference
    attribute: sex
    margin: 0.1
"""


def write(tmp_path, text):
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    return path


def test_the_packaged_policy_is_the_repositorys():
    root = Path(__file__).parents[2]
    assert PACKAGED.read_bytes() == (root / IN_REPOSITORY).read_bytes()


def test_the_packaged_policy_asks_for_discrimination_misses_ranking_and_calibration():
    policy = load_policy(PACKAGED)
    assert [rule.metric for rule in policy.rules] == ["auroc", "fnr", "auroc", "observed_less_predicted"]
    useful = policy.rules[0]
    assert (useful.above, useful.inconclusive, policy.statistics.inconclusive) == (0.5, "block", "warn")
    assert all(set(rule.attribute) == {"sex", "age_band"} for rule in policy.rules[1:])


def test_one_attribute_may_stand_without_brackets(tmp_path):
    assert load_policy(write(tmp_path, RULE)).rules[0].attribute == ("sex",)


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("metric: fnr", "metric: fnrr", 4, "metric"),
        ("margin: 0.1", "margins: 0.1", 7, "not a known key; did you mean `margin`?"),
        (
            "rules:",
            "table: {threshhold_: 0.2}\nrules:",
            2,
            "table.threshhold_: is not a known key; did you mean `threshold`?",
        ),
        ("rules:", "rulez: []\nrules:", 2, "did you mean `rules`?"),
        ("margin: 0.1", "qqq: 0.1", 7, "keys here are above, attribute, below,"),
        ("    margin: 0.1\n", "", 3, "needs `margin`"),
        ("margin: 0.1", "margin: 1.5", 7, "less than 1"),
        ("stat: difference", "stat: value", 3, "`above` or `below`"),
        ("clinimm.policy/1", "clinimm.policy/9", 1, "clinimm.policy/1"),
        ("rules:", "rules: [", 3, "expected"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path, old, new, line, words):
    with pytest.raises(ConfigError, match=rf"policy\.yaml:{line}: .*") as error:
        load_policy(write(tmp_path, RULE.replace(old, new)))
    assert words in str(error.value)


def test_two_rules_of_one_name_are_a_mistake(tmp_path):
    doubled = RULE + RULE.partition("rules:\n")[2]
    with pytest.raises(ConfigError, match="doubled: missed"):
        load_policy(write(tmp_path, doubled))


def test_a_configured_file_that_is_not_there_is_a_mistake(tmp_path):
    with pytest.raises(ConfigError, match="no such policy file"):
        find_policy(tmp_path / "absent.yaml")


def test_the_packaged_policy_serves_where_there_is_no_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_policy(None) == PACKAGED


def test_the_schema_file_is_what_the_types_say():
    written = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    assert written == policy_schema(), "write json.dumps(policy_schema(), indent=1) into the file"
    jsonschema.Draft202012Validator.check_schema(policy_schema())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ("attribute: sex", "attribute: [sex, race]"),
        ("metric: fnr", "metric: fnrr"),
        ("margin: 0.1", "margins: 0.1"),
        ("    margin: 0.1\n", ""),
        ("    attribute: sex\n", ""),
        ("stat: difference", "stat: value"),
        ("stat: difference\n    attribute: sex\n    margin: 0.1", "stat: value\n    above: 0.5"),
        (
            "stat: difference\n    attribute: sex\n    margin: 0.1",
            "stat: value\n    above: 0.5\n    below: 1",
        ),
        ("margin: 0.1", "margin: 1.5"),
        ("clinimm.policy/1", "clinimm.policy/9"),
        ("id: missed", "id: Missed!"),
    ],
)
def test_the_schema_and_the_loader_agree(tmp_path, old, new):
    value = read_yaml(write(tmp_path, RULE.replace(old, new))).value
    try:
        Policy.model_validate(value)
        read = True
    except ValidationError:
        read = False
    assert jsonschema.Draft202012Validator(policy_schema()).is_valid(value) == read


def test_the_packaged_policy_fits_the_schema():
    jsonschema.validate(read_yaml(PACKAGED).value, policy_schema())
