from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from clinimm.audit.audit import audit_predictions
from clinimm.audit.policy import PACKAGED, Policy, load_policy
from clinimm.core.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def policy():
    return load_policy(PACKAGED)


def biased(tables, n=2000):
    """Women's risk is understated: as much signal, other probabilities."""
    generator = np.random.default_rng(0)
    label = (np.arange(n) % 5 < 2).astype(float)
    female = generator.random(n) < 0.5
    score = np.clip(tables.scores(generator, label, 3.0) - 0.35 * female, 0, 1)
    return tables.frame(label, score), tables.cohort(n, sex=np.where(female, "female", "male"))


def test_a_planted_gap_is_found_and_fails(tables, policy):
    predictions, cohort = biased(tables)
    result = audit_predictions(predictions, cohort, policy, 0.5)
    assert (result.verdict, result.exit_status, result.blocks) == ("fail", 1, True)
    failed = {(row.rule, row.level) for row in result.findings if row.verdict == "fail"}
    assert ("missed", "female") in failed and ("missed", "male") not in failed
    assert ("calibration", "female") in failed
    assert "fnr where sex is female" in result.sentence


def test_a_fair_model_with_enough_subjects_passes(tables, policy):
    cohort = tables.cohort(6000, sex=["female", "male"] * 3000)
    predictions = tables.run_tables(n=6000, singles={}, others={}, fused=3.0).predictions
    result = audit_predictions(predictions, cohort, policy, 0.5)
    assert (result.verdict, result.exit_status, result.blocks) == ("pass", 0, False)


def test_a_small_fair_model_warns_but_does_not_block_the_candidate(tables, policy):
    result = audit_predictions(tables.run_tables(n=120).predictions, tables.cohort(120), policy, 0.5)
    assert (result.verdict, result.exit_status, result.blocks) == ("inconclusive", 0, False)
    assert "are inconclusive" in result.sentence


def test_a_model_without_signal_blocks(tables, policy):
    predictions = tables.run_tables(n=120, fused=0.0, seed=3).predictions
    result = audit_predictions(predictions, tables.cohort(120), policy, 0.5)
    assert result.exit_status == 2 and result.blocks
    assert "blocks registration" in result.sentence


def test_the_policys_attributes_limit_what_is_shown_but_not_what_is_ruled(tables, policy):
    narrow = policy.model_copy(update={"attributes": ("site",)})
    result = audit_predictions(tables.run_tables(n=120).predictions, tables.cohort(120), narrow, 0.5)
    assert next(cell.attribute for cell in result.classes[0].cells) == "site"
    assert {cell.attribute for cell in result.classes[0].cells} == {"site", "sex", "age_band"}


def test_every_shown_figure_has_n_and_interval_or_a_reason(tables, policy):
    result = audit_predictions(tables.run_tables(n=120).predictions, tables.cohort(120), policy, 0.5)
    content = result.as_json()
    json.dumps(content, allow_nan=False)
    groups = content["classes"][0]["groups"]
    assert any(group["suppressed"] for group in groups)
    for group in groups:
        for figure in group["figures"].values():
            complete = None not in (figure["value"], figure["low"], figure["high"])
            assert complete or figure["reason"]
            assert figure["n"] >= 0


def test_several_classes_are_audited_one_by_one(tables, policy):
    n = 90
    parts = [tables.frame(np.arange(n) % 3 == k, np.full(n, 0.3), class_name=c) for k, c in enumerate("abc")]
    result = audit_predictions(pd.concat(parts), tables.cohort(n), policy, 0.5, tuple("abc"), "multiclass")
    assert [part.class_name for part in result.classes] == ["a", "b", "c"]
    assert {row.class_name for row in result.findings} == {"a", "b", "c"}


def test_no_label_is_a_data_error(tables, policy):
    with pytest.raises(DataError):
        audit_predictions(tables.frame([np.nan] * 4, [0.1] * 4), tables.cohort(4), policy, 0.5)


def test_a_policy_value_is_frozen(policy):
    with pytest.raises(ValueError, match="frozen"):
        policy.rules = ()
    assert isinstance(policy, Policy)


@pytest.mark.parametrize(
    "rule",
    [
        {"id": "a", "metric": "brier", "stat": "difference", "attribute": "sex", "margin": 0.1},
        {"id": "a", "metric": "fnr", "stat": "ratio", "attribute": "sex", "margin": 0.8},
        {
            "id": "a",
            "metric": "fnr",
            "stat": "difference",
            "attribute": "sex",
            "margin": 0.1,
            "reference": "F",
        },
        {"id": "a", "metric": "fnr", "stat": "difference", "attribute": "sex*race", "margin": 0.1},
    ],
)
def test_a_rule_that_only_a_table_can_answer_is_refused(rule: dict[str, object]) -> None:
    policy = Policy.model_validate({"schema": "clinimm.policy/1", "rules": [rule]})
    with pytest.raises(ConfigError, match=r"rule a: .* is judged by `clinimm audit-table` only"):
        audit_predictions(pd.DataFrame(), pd.DataFrame(), policy, 0.5)
