from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest

import clinimm.audit
from clinimm.audit.table.assemble import Audit
from clinimm.audit.table.run import audit_table
from clinimm.audit.table.write import check_evidence, evidence, write_evidence
from clinimm.audit.waiver import Waiver
from clinimm.core.errors import ConfigError, IntegrityError
from tests.audit.table.conftest import draw_table, policy_of, rule

_SCHEMA = json.loads(Path(clinimm.audit.__file__).with_name("audit.schema.json").read_text(encoding="utf-8"))


def finding(audit: Audit, rule_id: str, level: str) -> dict:
    return next(row for row in audit.content["findings"] if row["rule"] == rule_id and row["level"] == level)


def test_a_planted_gap_fails_and_the_group_is_named(write: Callable[..., Path]) -> None:
    audit = audit_table(write(draw_table(20_000, bias=1.5)), policy_of(rule(attribute=["race*sex"])))
    assert audit.exit_status == 1
    assert audit.content["verdict"] == "fail"
    worst = audit.content["findings"][audit.content["worst"][0]["finding"]]
    assert (worst["attribute"], worst["level"]) == ("race × sex", "b × female")
    assert worst["low"] > 0.1


def test_likeness_is_shown_only_with_enough_rows(write: Callable[..., Path]) -> None:
    policy = policy_of(rule(attribute=["sex"]))
    large = audit_table(write(draw_table(20_000)), policy)
    assert (large.content["verdict"], large.exit_status) == ("pass", 0)
    small = audit_table(write(draw_table(400)), policy)
    assert (small.content["verdict"], small.exit_status) == ("inconclusive", 2)
    assert all(row["needed"]["count"] > 50 for row in small.content["findings"] if row["verdict"] != "pass")


def test_as_many_more_as_were_needed_do_settle_it(write: Callable[..., Path]) -> None:
    policy = policy_of(rule(attribute=["sex"]))
    first = audit_table(write(draw_table(500)), policy)
    open_ones = [row for row in first.content["findings"] if row["verdict"] == "inconclusive"]
    needed = max(row["needed"]["count"] for row in open_ones)
    times = 1 + 2 * needed / first.content["tested"]["classes"][0]["positives"]
    settled = [
        audit_table(write(draw_table(round(500 * times), seed=seed)), policy).content["verdict"] == "pass"
        for seed in range(10)
    ]
    assert sum(settled) >= 6


@pytest.mark.parametrize(("missed", "named"), [(280, True), (297, False)])
def test_no_number_is_named_for_a_difference_at_its_margin(
    write: Callable[..., Path], missed: int, named: bool
) -> None:
    """0.097 less 0.1: 450,000 more positives, where the table has 2,000."""
    caught = np.repeat([1, 0, 1, 0], [800, 200, 1000 - missed, missed])
    table = pd.DataFrame({"subject_id": range(4000), "sex": np.tile(np.repeat(["a", "b"], 1000), 2)})
    table["label"], table["probability"] = np.repeat([1, 0], 2000), np.append(caught, np.zeros(2000)) * 0.5
    audit = audit_table(write(table), policy_of(rule(attribute=["sex"])))
    found = finding(audit, "fnr", "b")
    assert found["verdict"] == "inconclusive"
    assert (found["needed"] is not None) is named


def test_an_inferred_attribute_is_shown_and_never_decides(write: Callable[..., Path]) -> None:
    attributes = {"race": {"source": "inferred"}}
    audit = audit_table(
        write(draw_table(20_000, bias=2.0)), policy_of(rule(attribute=["race"]), attributes=attributes)
    )
    assert finding(audit, "fnr", "b")["verdict"] == "fail"
    assert not finding(audit, "fnr", "b")["blocks"]
    assert audit.exit_status == 0
    assert any("race was inferred" in text for text in audit.content["not_known"])


def test_allocation_bounds_hold_the_truth_whoever_the_missing_are(write: Callable[..., Path]) -> None:
    table = draw_table(3000, bias=1.0)
    policy = policy_of(rule(attribute=["race"]))
    low, high = finding(audit_table(write(table), policy), "fnr", "b")["allocation"]
    generator = np.random.default_rng(0)
    missed = (table["label"] == 1) & (table["probability"] < 0.3)
    everyone = [
        table["race"].fillna("b"),
        table["race"].fillna("a"),
        table["race"].where(table["race"].notna(), np.where(missed, "b", "a")),
        table["race"].where(table["race"].notna(), generator.choice(["a", "b", "c"], len(table))),
    ]
    for race in everyone:
        value = finding(audit_table(write(table.assign(race=race)), policy), "fnr", "b")["value"]
        assert low - 1e-6 <= value <= high + 1e-6
    worst = finding(audit_table(write(table.assign(race=everyone[2])), policy), "fnr", "b")["value"]
    assert worst == pytest.approx(high, abs=1e-6)
    kindest = table["race"].where(table["race"].notna(), np.where(missed, "a", "b"))
    best = finding(audit_table(write(table.assign(race=kindest)), policy), "fnr", "b")["value"]
    assert best == pytest.approx(low, abs=1e-6)


def test_values_ratios_and_named_references(write: Callable[..., Path]) -> None:
    ratio = {"id": "ratio", "metric": "selection_rate", "stat": "ratio", "attribute": "race", "margin": 0.8}
    value = {"id": "useful", "metric": "auroc", "stat": "value", "above": 0.5}
    audit = audit_table(write(draw_table(20_000)), policy_of(ratio | {"reference": "a"}, value))
    assert {row["level"] for row in audit.content["findings"] if row["rule"] == "ratio"} == {
        "b",
        "c",
        "(missing)",
    }
    row = finding(audit, "ratio", "b")
    assert row["value"] == pytest.approx(row["group_value"] / row["reference_value"], abs=1e-5)
    assert finding(audit, "useful", "everybody")["verdict"] == "pass"
    with pytest.raises(ConfigError, match="race has no such level; it has a, b, c"):
        audit_table(write(draw_table(500)), policy_of(ratio | {"reference": "z"}))


def test_a_waiver_lets_a_finding_stand_until_its_last_day(write: Callable[..., Path]) -> None:
    path, policy = write(draw_table(20_000, bias=2.0)), policy_of(rule(attribute=["sex"]))
    waiver = Waiver(
        rule="fnr",
        reason="retrained model is due in June",
        owners=("A. Auditor", "S. Officer"),
        signed=date(2030, 4, 1),
        until=date(2030, 6, 1),
    )
    before, after = (
        audit_table(path, policy, (waiver,), day) for day in (date(2030, 6, 1), date(2030, 6, 2))
    )
    assert (before.content["verdict"], before.exit_status) == ("fail", 0)
    assert "A. Auditor and S. Officer" in finding(before, "fnr", "female")["waived"]
    assert (after.content["verdict"], after.exit_status) == ("fail", 1)


def test_the_same_table_gives_the_same_bytes_and_another_does_not(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    policy = policy_of(rule(), rule("auroc"))
    table = draw_table(1500)
    files = evidence(audit_table(write(table), policy), policy)
    again = evidence(audit_table(write(table), policy), policy)
    assert files == again
    write_evidence(tmp_path / "out", files)
    check_evidence(tmp_path / "out", again)
    table.loc[0, "probability"] = 0.999
    other = evidence(audit_table(write(table), policy), policy)
    with pytest.raises(IntegrityError, match=r"audit\.json differs"):
        check_evidence(tmp_path / "out", other)


def test_both_views_follow_the_schema_and_hold_no_identifier(write: Callable[..., Path]) -> None:
    policy = policy_of(rule(), rule("calibration_slope"), intersections=2)
    table = draw_table(1200)
    table["subject_id"] = [f"PATIENT-{number}" for number in range(len(table))]
    files = evidence(audit_table(write(table), policy), policy)
    for name in ("audit.json", "published/audit.json"):
        jsonschema.validate(json.loads(files[name]), _SCHEMA)
    assert not any(b"PATIENT-" in content for content in files.values())


def test_the_published_view_holds_no_small_count(write: Callable[..., Path]) -> None:
    policy = policy_of(rule(attribute=["race"]), attributes={"age": {"bins": [40, 65]}})
    policy = policy.model_copy(update={"attributes": ("sex", "age")})
    files = evidence(audit_table(write(draw_table(700)), policy), policy)
    inside, outside = json.loads(files["audit.json"]), json.loads(files["published/audit.json"])
    assert any(0 < min(row["counts"].values()) < 11 for row in inside["groups"])
    shown = [row for row in outside["groups"] if row["counts"] is not None]
    assert shown
    assert outside["published"]["hidden_groups"] == len(outside["groups"]) - len(shown)
    for row in shown:
        assert all(count == 0 or count >= 11 for count in row["counts"].values())
    assert max(len(row["attributes"]) for row in inside["groups"]) == 3
    assert max(len(row["attributes"]) for row in outside["groups"]) == 2
    hidden = {
        row["levels"][0] for row in outside["groups"] if row["counts"] is None and len(row["levels"]) == 1
    }
    for row in outside["findings"]:
        if row["level"] in hidden:
            assert row["value"] is None and row["n"] is None and row["needed"] is None
    assert b"<script" not in files["audit.html"]


def test_the_published_view_hides_judged_intersections_references_and_missing_counts(
    write: Callable[..., Path],
) -> None:
    crossed = rule(attribute=["race*sex*age"])  # published because a rule names it
    against_c = rule("fpr", attribute=["race"], reference="c")
    policy = policy_of(crossed, against_c, intersections=1, attributes={"age": {"bins": [40, 65]}})
    table = draw_table(600)
    table.loc[table["race"].isna().cumsum() > 5, "race"] = table["race"].fillna("a")
    outside = json.loads(evidence(audit_table(write(table), policy), policy)["published/audit.json"])
    groups = {(" × ".join(row["attributes"]), " × ".join(row["levels"])): row for row in outside["groups"]}
    assert groups["race", "(missing)"]["counts"] is None
    race = next(row for row in outside["tested"]["attributes"] if row["name"] == "race")
    assert race["missing"] is None
    for row in outside["findings"]:
        if groups[row["attribute"], row["level"]]["counts"] is None:
            assert row["group_value"] is None
        if row["rule"] == "fpr" and groups["race", "c"]["counts"] is None:
            assert row["reference_value"] is None and row["value"] is None


def test_a_level_that_is_a_formula_or_markup_stays_text(write: Callable[..., Path]) -> None:
    table = draw_table(2000)
    table["sex"] = np.where(table["sex"] == "male", "=HYPERLINK(1)", "<b>x</b>")
    policy = policy_of(rule(attribute=["sex"]))
    files = evidence(audit_table(write(table), policy), policy)
    assert b"'=HYPERLINK(1)" in files["groups.csv"]
    assert b"<b>x</b>" not in files["audit.html"]
    assert b"<b>x</b>" not in files["junit.xml"]


def test_a_policy_without_threshold_is_refused(write: Callable[..., Path]) -> None:
    policy = policy_of(rule())
    policy = policy.model_copy(update={"table": policy.table.model_copy(update={"threshold": None})})
    with pytest.raises(ConfigError, match="no threshold"):
        audit_table(write(draw_table(100)), policy)
